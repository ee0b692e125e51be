#include "devices/nic/rtl8139.h"

#include <gtest/gtest.h>

#include "devices/nic/fake_backend.h"

namespace atl::devices {
namespace {

using namespace rtl8139;

constexpr MacAddress kMac = {0x52, 0x54, 0, 1, 2, 3};
constexpr u64 kBuffer = 0x10000, kRing = 0x2000, kData = 0x40000;

class Rtl8139Test : public testing::Test {
 protected:
  Rtl8139Test() {
    make();
    base_ = bench_.bus->config_read({0, 0}, 0x10, 4) & ~3u;
  }
  ~Rtl8139Test() override { bench_.unplug(); }
  void make() {
    card_ = std::make_unique<Rtl8139>(kMac, Rtl8139::Wiring{bench_.memory, bench_.clock, &bench_.net, *bench_.loop});
    bench_.plug(*card_);
  }
  u32 read(u32 at, unsigned width) { return static_cast<u32>(bench_.port_view.read(base_ + at, width)); }
  void write(u32 at, u32 value, unsigned width) { bench_.port_view.write(base_ + at, value, width); }
  void start() {
    write(kRbstart, kBuffer, 4);
    write(kRcr, kRcrApm | kRcrAb | kRcrAm | kRcrWrap, 4);
    write(kImr, 0xffff, 2);
    write(kCr, kCrRe | kCrTe, 1);
  }
  static std::vector<u8> frame_to(const MacAddress& to, size_t size) {
    std::vector<u8> f(size);
    std::copy(to.begin(), to.end(), f.begin());
    for (size_t i = 14; i < size; ++i) f[i] = static_cast<u8>(i);
    return f;
  }

  CardBench bench_;
  std::unique_ptr<Rtl8139> card_;
  u64 base_ = 0;
};

TEST_F(Rtl8139Test, ResetShowsAddressAndVersion) {
  EXPECT_EQ(read(kIdr, 4), 0x01005452u);
  EXPECT_EQ(read(kTcr, 4) & 0x7cc00000, kTcrVersion);
  EXPECT_TRUE(read(kCr, 1) & kCrBufe);
  EXPECT_TRUE(read(kBmsr, 2) & kBmsrLink);
}

TEST_F(Rtl8139Test, AddressIsWrittenOnlyWhenUnlocked) {
  write(kIdr, 0x11111111, 4);
  EXPECT_EQ(read(kIdr, 4), 0x01005452u);
  write(k9346, kEeUnlock, 1);
  write(kIdr, 0x22222222, 4);
  EXPECT_EQ(read(kIdr, 4), 0x22222222u);
}

TEST_F(Rtl8139Test, FrameOfTransmitRegisterIsSent) {
  start();
  const std::vector<u8> frame = frame_to({1, 2, 3, 4, 5, 6}, 80);
  std::copy(frame.begin(), frame.end(), bench_.data + kData);
  write(kTsad, kData, 4);
  write(kTsd, 80, 4);
  bench_.settle();
  ASSERT_EQ(bench_.net.sent.size(), 1u);
  EXPECT_EQ(bench_.net.sent[0], frame);
  EXPECT_TRUE(read(kTsd, 4) & kTsdTok);
  EXPECT_TRUE(read(kIsr, 2) & kTok);
  EXPECT_TRUE(bench_.interrupt());
  write(kIsr, kTok, 2);
  EXPECT_FALSE(bench_.interrupt());
}

TEST_F(Rtl8139Test, ReceivedFramesLieInTheBufferBehindTheirHeaders) {
  start();
  const std::vector<u8> own = frame_to(kMac, 61);
  EXPECT_TRUE(bench_.net.give(own));
  EXPECT_TRUE(bench_.net.give(frame_to({2, 2, 2, 2, 2, 2}, 60)));
  EXPECT_EQ(bench_.get<u16>(kBuffer), kRxRok | kRxPam);
  EXPECT_EQ(bench_.get<u16>(kBuffer + 2), 65);
  EXPECT_TRUE(std::equal(own.begin(), own.end(), bench_.data + kBuffer + 4));
  EXPECT_EQ(read(kCbr, 2), 72u);
  EXPECT_FALSE(read(kCr, 1) & kCrBufe);
  write(kCapr, 72 - 16, 2);
  EXPECT_TRUE(read(kCr, 1) & kCrBufe);
}

TEST_F(Rtl8139Test, FullBufferHoldsBackUntilItIsRead) {
  start();
  int taken = 0;
  while (bench_.net.give(frame_to(kMac, 1000))) ASSERT_LT(++taken, 20);
  EXPECT_EQ(taken, 8);
  write(kCapr, 4 * 1008 - 16, 2);
  bench_.settle();
  EXPECT_EQ(bench_.net.resumes, 1);
  EXPECT_TRUE(bench_.net.give(frame_to(kMac, 1000)));
}

TEST_F(Rtl8139Test, MulticastPassesByHash) {
  start();
  const MacAddress group = {1, 0, 0x5e, 0, 0, 1};
  EXPECT_TRUE(bench_.net.give(frame_to(group, 60)));
  EXPECT_EQ(read(kCbr, 2), 0u);
  write(kMar, 1u << 31, 4);
  EXPECT_TRUE(bench_.net.give(frame_to(group, 60)));
  EXPECT_EQ(read(kCbr, 2), 68u);
}

TEST_F(Rtl8139Test, PlusModeSendsByDescriptorsAndSums) {
  write(kCpcr, kCpTx | kCpRx | kCpRxChecksum, 2);
  write(kTnpds, kRing, 4);
  write(kCr, kCrRe | kCrTe, 1);
  std::vector<u8> f(60);
  f[12] = 8, f[14] = 0x45, f[17] = 40, f[23] = 6, f[46] = 0x50;
  std::copy(f.begin(), f.end(), bench_.data + kData);
  bench_.put<u32>(kRing, kOwn | kEor | kFs | kLs | kTxIpcs | kTxTcpcs | 60);
  bench_.put<u64>(kRing + 8, kData);
  write(kTppoll, kPollNormal, 1);
  bench_.settle();
  ASSERT_EQ(bench_.net.sent.size(), 1u);
  const auto report = ethernet::check(bench_.net.sent[0]);
  EXPECT_TRUE(report.ip_good && report.tcp && report.transport_good);
  EXPECT_FALSE(bench_.get<u32>(kRing) & kOwn);
  EXPECT_TRUE(read(kIsr, 2) & kTdu);
}

TEST_F(Rtl8139Test, PlusModeReceivesIntoDescriptors) {
  write(kCpcr, kCpTx | kCpRx, 2);
  write(kRcr, kRcrApm, 4);
  write(kRdsar, kRing, 4);
  write(kCr, kCrRe | kCrTe, 1);
  bench_.put<u32>(kRing, kOwn | 1536);
  bench_.put<u64>(kRing + 8, kData);
  const std::vector<u8> own = frame_to(kMac, 100);
  EXPECT_TRUE(bench_.net.give(own));
  EXPECT_EQ(bench_.get<u32>(kRing) & (kOwn | kFs | kLs | kRxCpPam | kRxCpSize), kFs | kLs | kRxCpPam | 104);
  EXPECT_TRUE(std::equal(own.begin(), own.end(), bench_.data + kData));
  EXPECT_TRUE(bench_.net.give(own));  // no descriptor: lost
  EXPECT_TRUE(read(kIsr, 2) & kRxovw);
  EXPECT_EQ(read(kMpc, 4) & 0xffffff, 1u);
}

TEST_F(Rtl8139Test, EepromSpeaksOnItsWires) {
  auto clock_bit = [&](bool bit) {
    const u32 pins = kEeProgram | kEecs | (bit ? kEedi : 0u);
    write(k9346, pins, 1);
    write(k9346, pins | kEesk, 1);
    return (read(k9346, 1) & kEedo) != 0;
  };
  write(k9346, kEeProgram, 1);
  for (bool bit : {true, true, false, false, false, false, false, false, false}) clock_bit(bit);
  u16 word = 0;
  for (int i = 0; i < 16; ++i) word = static_cast<u16>(word << 1 | clock_bit(false));
  EXPECT_EQ(word, 0x8129);
}

TEST_F(Rtl8139Test, TimerInterruptsAtItsCount) {
  write(kImr, kTimeOut, 2);
  write(kTctr, 0, 4);
  write(kTimerInt, 33'000, 4);  // 1 ms
  bench_.clock.advance(900'000);
  EXPECT_FALSE(bench_.interrupt());
  bench_.clock.advance(200'000);
  EXPECT_TRUE(bench_.interrupt());
}

TEST_F(Rtl8139Test, SavedStateGoesIntoANewCard) {
  start();
  EXPECT_TRUE(bench_.net.give(frame_to(kMac, 60)));
  Archive out;
  card_->visit(out);
  const std::vector<u8> saved = out.take();
  bench_.unplug();
  card_.reset();
  make();
  Archive in{std::span<const u8>(saved)};
  card_->visit(in);
  ASSERT_TRUE(in.status().has_value());
  EXPECT_EQ(read(kCbr, 2), 68u);
  EXPECT_TRUE(bench_.interrupt());
  EXPECT_TRUE(bench_.net.give(frame_to(kMac, 60)));
  EXPECT_EQ(read(kCbr, 2), 136u);
}

TEST_F(Rtl8139Test, TimerInterruptsEachTimeItComesRound) {
  write(kTctr, 0, 4);
  write(kTimerInt, 33, 4);  // a microsecond
  bench_.clock.advance(2'000);
  EXPECT_TRUE(read(kIsr, 2) & kTimeOut);
  write(kIsr, kTimeOut, 2);
  bench_.clock.advance(130'000'000'000);
  EXPECT_FALSE(read(kIsr, 2) & kTimeOut);
  bench_.clock.advance(1'000'000'000);
  EXPECT_TRUE(read(kIsr, 2) & kTimeOut);
}

}  // namespace
}  // namespace atl::devices
