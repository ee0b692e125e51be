#include "devices/legacy/ich9_smi.h"

#include <gtest/gtest.h>

#include "base/endian.h"

namespace atl::devices {
namespace {

class Ich9SmiTest : public testing::Test {
 protected:
  void enable(u32 bits) {
    for (unsigned i = 0; i < 4; ++i) smi_.write_byte(i, static_cast<u8>(bits >> (8 * i)));
  }
  /// Offers the files and writes `features` as firmware does; the answer.
  u8 negotiate(u64 features) {
    store_le(ram_->data() + 0x1000, features);
    dma(FwCfg::kFirstFile + 1, 16, 8, 0x1000);
    dma(FwCfg::kFirstFile + 2, 2, 1, 0x2000);
    return ram_->data()[0x2000];
  }
  void dma(unsigned key, u32 control, u32 length, u64 address) {
    u8* request = ram_->data() + 0x100;
    store_be(request, u32{key} << 16 | 8 | control);
    store_be(request + 4, length);
    store_be(request + 8, address);
    config_.bus_write(8, std::byteswap(u32{0x100}), 4);
  }
  void SetUp() override {
    ram_ = MUST(memory::RamBlock::create("ram", 64 * kKiB, {}));  // a small anonymous mapping
    MUST(memory_.add({.name = "ram", .size = ram_->size(), .ram = ram_}));  // an empty space has room
    smi_.offer_features(config_);
  }

  int first_ = 0, all_ = 0;
  memory::AddressSpace memory_{"memory", u64{1} << 32};
  std::shared_ptr<memory::RamBlock> ram_;
  FwCfg config_{memory_};
  Ich9Smi smi_{[this](bool all) { ++(all ? all_ : first_); }};
};

TEST_F(Ich9SmiTest, TheCommandPortInterruptsOnceBothBitsAreSet) {
  smi_.command_written();
  enable(0x20);
  smi_.command_written();
  EXPECT_EQ(first_, 0);
  enable(0x21);
  smi_.command_written();
  EXPECT_EQ(first_, 1);
  EXPECT_EQ(smi_.read_byte(4), 0x20);
  smi_.write_byte(4, 0x20);
  EXPECT_EQ(smi_.read_byte(4), 0);
}

TEST_F(Ich9SmiTest, TheLockKeepsTheGlobalBitUntilReset) {
  enable(0x21);
  smi_.set_locked(true);
  enable(0);
  EXPECT_EQ(smi_.read_byte(0), 1);
  smi_.reset();
  EXPECT_EQ(smi_.read_byte(0), 0);
}

TEST_F(Ich9SmiTest, NegotiatedBroadcastInterruptsAll) {
  enable(0x21);
  EXPECT_EQ(negotiate(1), 1);
  smi_.command_written();
  EXPECT_EQ(all_, 1);
  smi_.reset();
  enable(0x21);
  smi_.command_written();
  EXPECT_EQ(first_, 1);
}

TEST_F(Ich9SmiTest, UnknownFeaturesAreRefused) {
  EXPECT_EQ(negotiate(3), 0);
  EXPECT_EQ(negotiate(1), 1);
  EXPECT_EQ(negotiate(0), 1) << "final";
  enable(0x21);
  smi_.command_written();
  EXPECT_EQ(all_, 1);
}

TEST(Ich9SmiWithoutProcessorSupport, SaysThatItIsSetUp) {
  Ich9Smi smi({});
  EXPECT_EQ(smi.read_byte(0), 0x20);
  smi.write_byte(0, 0);
  EXPECT_EQ(smi.read_byte(0), 0x20);
  smi.command_written();
}

}  // namespace
}  // namespace atl::devices
