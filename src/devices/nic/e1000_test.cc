#include "devices/nic/e1000.h"

#include <gtest/gtest.h>

#include "devices/nic/fake_backend.h"

namespace atl::devices {
namespace {

using namespace e1000;

constexpr MacAddress kMac = {0x52, 0x54, 0, 1, 2, 3};
constexpr u64 kTxRing = 0x1000, kRxRing = 0x2000, kBuffers = 0x10000;

class E1000Test : public testing::TestWithParam<E1000Model> {
 protected:
  void SetUp() override {
    card_ = MUST(E1000::create(GetParam(), kMac, {.vm = bench_.vm, .memory = bench_.memory, .backend = &bench_.net, .loop = *bench_.loop}));
    bench_.plug(*card_);
    base_ = bench_.bus->config_read({0, 0}, 0x10, 4) & ~15u;
  }
  void TearDown() override { bench_.unplug(); }
  u32 read(u32 at) { return static_cast<u32>(bench_.view.read(base_ + at, 4)); }
  void write(u32 at, u32 value) { bench_.view.write(base_ + at, value, 4); }
  void start_rings() {
    write(kTdbal, kTxRing);
    write(kTdlen, 8 * 16);
    write(kTctl, kTctlEn);
    write(kRdbal, kRxRing);
    write(kRdlen, 8 * 16);
    for (u64 i = 0; i < 8; ++i) bench_.put<u64>(kRxRing + i * 16, kBuffers + i * 2048);
    write(kRdt, 7);
    write(kRctl, kRctlEn | kRctlBam | kRctlSecrc);
  }
  void descriptor(unsigned index, u64 address, u32 lower, u32 upper) {
    bench_.put<u64>(kTxRing + index * 16, address);
    bench_.put<u32>(kTxRing + index * 16 + 8, lower);
    bench_.put<u32>(kTxRing + index * 16 + 12, upper);
  }
  static std::vector<u8> frame_to(const MacAddress& to, size_t size) {
    std::vector<u8> f(size);
    std::copy(to.begin(), to.end(), f.begin());
    for (size_t i = 14; i < size; ++i) f[i] = static_cast<u8>(i);
    return f;
  }

  CardBench bench_;
  std::unique_ptr<E1000> card_;
  u64 base_ = 0;
};

TEST_P(E1000Test, ResetShowsAddressLinkAndEeprom) {
  EXPECT_EQ(read(kRal), 0x01005452u);
  EXPECT_EQ(read(kRah), kRahAv | 0x0302u);
  EXPECT_TRUE(read(kStatus) & kStatusLu);
  u16 sum = 0;
  for (u32 i = 0; i < 64; ++i) {
    const bool express = GetParam() == E1000Model::I82574;
    write(kEerd, kEerdStart | i << (express ? 2 : 8));
    const u32 answer = read(kEerd);
    ASSERT_TRUE(answer & (express ? kEerdDone82574 : kEerdDone));
    sum = static_cast<u16>(sum + (answer >> 16));
  }
  EXPECT_EQ(sum, kEepromSum);
}

TEST_P(E1000Test, PhyAnswersThroughMdic) {
  write(kMdic, 1u << 21 | kPhyId1 << 16 | kMdicRead);
  EXPECT_EQ(read(kMdic) & (kMdicReady | 0xffff), kMdicReady | 0x0141);
  write(kMdic, 1u << 21 | kPhyStatus << 16 | kMdicRead);
  EXPECT_TRUE(read(kMdic) & kPhyLinkUp);
  write(kMdic, 2u << 21 | kPhyId1 << 16 | kMdicRead);
  EXPECT_TRUE(read(kMdic) & kMdicError);
}

TEST_P(E1000Test, FrameIsSentAndReportedDone) {
  start_rings();
  write(kIms, kTxdw);
  const std::vector<u8> frame = frame_to({1, 2, 3, 4, 5, 6}, 100);
  std::copy(frame.begin(), frame.end(), bench_.data + kBuffers);
  descriptor(0, kBuffers, 40, 0);
  descriptor(1, kBuffers + 40, 60 | (kTxEop | kTxRs) << 24, 0);
  write(kTdt, 2);
  bench_.settle();
  ASSERT_EQ(bench_.net.sent.size(), 1u);
  EXPECT_EQ(bench_.net.sent[0], frame);
  EXPECT_EQ(read(kTdh), 2u);
  EXPECT_TRUE(bench_.get<u32>(kTxRing + 16 + 12) & kTxDd);
  EXPECT_TRUE(bench_.interrupt());
  EXPECT_TRUE(read(kIcr) & kTxdw);
  EXPECT_FALSE(bench_.interrupt());
  EXPECT_EQ(read(kGptc), 1u);
  EXPECT_EQ(read(kGptc), 0u);
}

TEST_P(E1000Test, ContextAndDataDescriptorsCutAndSum) {
  start_rings();
  std::vector<u8> f(54 + 3000);
  f[12] = 8, f[14] = 0x45, f[23] = 6, f[46] = 0x50;
  std::copy(f.begin(), f.end(), bench_.data + kBuffers);
  bench_.put<u8>(kTxRing + 0, 14);
  bench_.put<u8>(kTxRing + 1, 24);
  bench_.put<u16>(kTxRing + 2, 33);
  bench_.put<u8>(kTxRing + 4, 34);
  bench_.put<u8>(kTxRing + 5, 50);
  bench_.put<u16>(kTxRing + 6, 0);
  bench_.put<u32>(kTxRing + 8, 3000u | (kTxDext | kTxTse | kTucmdTcp | kTucmdIp) << 24);
  bench_.put<u32>(kTxRing + 12, 54u << 8 | 1460u << 16);
  descriptor(1, kBuffers, static_cast<u32>(f.size()) | 1u << 20 | static_cast<u32>(kTxDext | kTxTse | kTxEop) << 24, (kPoptsIxsm | kPoptsTxsm) << 8);
  write(kTdt, 2);
  bench_.settle();
  ASSERT_EQ(bench_.net.sent.size(), 3u);
  for (const auto& piece : bench_.net.sent) {
    const auto report = ethernet::check(piece);
    EXPECT_TRUE(report.ip_good && report.tcp && report.transport_good);
  }
}

TEST_P(E1000Test, OwnAndBroadcastFramesArriveOthersDoNot) {
  start_rings();
  write(kIms, kRxt0);
  EXPECT_TRUE(bench_.net.give(frame_to({2, 2, 2, 2, 2, 2}, 100)));
  EXPECT_FALSE(bench_.interrupt());
  const std::vector<u8> own = frame_to(kMac, 100);
  EXPECT_TRUE(bench_.net.give(own));
  EXPECT_TRUE(bench_.interrupt());
  EXPECT_EQ(bench_.get<u16>(kRxRing + 8), 100);
  EXPECT_EQ(bench_.get<u8>(kRxRing + 12) & (kRxDd | kRxEop), kRxDd | kRxEop);
  EXPECT_TRUE(std::equal(own.begin(), own.end(), bench_.data + kBuffers));
  EXPECT_TRUE(bench_.net.give(frame_to({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 60)));
  EXPECT_EQ(read(kRdh), 2u);
}

TEST_P(E1000Test, MulticastPassesByHash) {
  start_rings();
  const MacAddress group = {1, 0, 0x5e, 0, 0, 0xfb};
  EXPECT_TRUE(bench_.net.give(frame_to(group, 60)));
  EXPECT_EQ(read(kRdh), 0u);
  const u32 hash = ((0xfb00u | 0x00) >> 4) & 0xfff;
  write(kMta + hash / 32 * 4, 1u << (hash % 32));
  EXPECT_TRUE(bench_.net.give(frame_to(group, 60)));
  EXPECT_EQ(read(kRdh), 1u);
}

TEST_P(E1000Test, FullRingHoldsBackUntilTheDriverMakesRoom) {
  start_rings();
  for (int i = 0; i < 7; ++i) EXPECT_TRUE(bench_.net.give(frame_to(kMac, 60)));
  EXPECT_FALSE(bench_.net.give(frame_to(kMac, 60)));
  EXPECT_TRUE(read(kIcr) & kRxo);
  write(kRdt, 3);
  bench_.settle();
  EXPECT_EQ(bench_.net.resumes, 1);
  EXPECT_TRUE(bench_.net.give(frame_to(kMac, 60)));
}

TEST_P(E1000Test, LinkThatGoesDownInterruptsAndStopsFrames) {
  start_rings();
  write(kIms, kLsc);
  card_->port().set_link(false);
  bench_.settle();
  EXPECT_TRUE(bench_.interrupt());
  EXPECT_FALSE(read(kStatus) & kStatusLu);
  EXPECT_TRUE(bench_.net.give(frame_to(kMac, 60)));
  EXPECT_EQ(read(kRdh), 0u);
}

TEST_P(E1000Test, RingOfGarbageEnds) {
  write(kTdbal, 0xfffffff0);
  write(kTdlen, 0xfff80);
  write(kTdt, 0xffff);
  write(kTctl, kTctlEn);
  for (int i = 0; i < 1000; ++i) bench_.settle();
  EXPECT_TRUE(bench_.net.sent.empty());
}

TEST_P(E1000Test, SavedStateGoesIntoANewCard) {
  start_rings();
  descriptor(0, kBuffers, 40, 0);  // half a frame
  write(kTdt, 1);
  bench_.settle();
  Archive out;
  card_->visit(out);
  const std::vector<u8> saved = out.take();
  bench_.unplug();
  card_ = MUST(E1000::create(GetParam(), kMac, {.vm = bench_.vm, .memory = bench_.memory, .backend = &bench_.net, .loop = *bench_.loop}));
  bench_.plug(*card_);
  Archive in{std::span<const u8>(saved)};
  card_->visit(in);
  ASSERT_TRUE(in.status().has_value());
  descriptor(1, kBuffers, 60 | static_cast<u32>(kTxEop) << 24, 0);
  write(kTdt, 2);
  bench_.settle();
  ASSERT_EQ(bench_.net.sent.size(), 1u);
  EXPECT_EQ(bench_.net.sent[0].size(), 100u);
}

TEST_P(E1000Test, EepromSpeaksOnItsWires) {
  if (GetParam() != E1000Model::I82540) GTEST_SKIP();
  auto clock_bit = [&](bool bit) {
    const u32 pins = kEecdReq | kEecdCs | (bit ? kEecdDi : 0);
    write(kEecd, pins);
    write(kEecd, pins | kEecdSk);
    return (read(kEecd) & kEecdDo) != 0;
  };
  write(kEecd, kEecdReq);
  EXPECT_TRUE(read(kEecd) & kEecdGnt);
  EXPECT_FALSE(read(kEecd) & kEecdAutoRd);  // 64 words
  for (bool bit : {true, true, false, false, false, false, false, false, true}) clock_bit(bit);  // READ of word 1
  u16 word = 0;
  for (int i = 0; i < 16; ++i) word = static_cast<u16>(word << 1 | clock_bit(false));
  EXPECT_EQ(word, 0x0100);
}

TEST_P(E1000Test, MsixVectorsFollowIvar) {
  if (GetParam() != E1000Model::I82574) GTEST_SKIP();
  const u64 table = bench_.bus->config_read({0, 0}, 0x1c, 4) & ~15u;
  for (u64 i = 0; i < 5; ++i) bench_.view.write(table + i * 16 + 12, 0, 4);
  const u8 capability = static_cast<u8>(bench_.bus->config_read({0, 0}, 0x34, 1));
  bench_.bus->config_write({0, 0}, capability + 2u, 0x8000, 2);
  write(kIvar, 0x8 | 0xau << 8);
  write(kEiac, kRxq0 | kTxq0);
  write(kIms, kRxq0 | kTxq0);
  start_rings();
  EXPECT_TRUE(bench_.net.give(frame_to(kMac, 60)));
  EXPECT_EQ(bench_.vm.routes[0]->fired, 1);
  EXPECT_EQ(bench_.vm.routes[2]->fired, 0);
  EXPECT_FALSE(read(kIms) & kRxq0);
  EXPECT_FALSE(bench_.interrupt());
}

INSTANTIATE_TEST_SUITE_P(Models, E1000Test, testing::Values(E1000Model::I82540, E1000Model::I82574));

}  // namespace
}  // namespace atl::devices
