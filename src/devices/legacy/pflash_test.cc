#include "devices/legacy/pflash.h"

#include <gtest/gtest.h>

#include "base/result.h"

namespace atl::devices {
namespace {

constexpr GuestAddr kBase = 0xffc00000;

class PflashTest : public testing::Test {
 protected:
  void open(bool readonly = false) {
    ram_ = MUST(memory::RamBlock::create("flash", 64 * kKiB, {}));
    ram_->data()[5] = 0x5a;
    flash_ = MUST(Pflash::create(memory_, {.name = "flash", .base = kBase, .ram = ram_, .readonly = readonly}));
  }
  u8 read(u64 offset) { return static_cast<u8>(memory::BusView(memory_).read(kBase + offset, 1)); }
  void write(u64 offset, u8 value) { memory::BusView(memory_).write(kBase + offset, value, 1); }

  memory::AddressSpace memory_{"memory", u64{1} << 40};
  std::shared_ptr<memory::RamBlock> ram_;
  std::unique_ptr<Pflash> flash_;
};

TEST_F(PflashTest, TheArrayIsReadUntilACommandAndAfterReadArray) {
  open();
  EXPECT_EQ(read(5), 0x5a);
  write(0, 0x70);
  EXPECT_EQ(read(5), 0x80);
  write(0, 0xff);
  EXPECT_EQ(read(5), 0x5a);
}

TEST_F(PflashTest, FirmwareTellsFlashFromRamAndRomByTheClearedStatus) {
  open();
  write(5, 0x50);
  EXPECT_EQ(read(5), 0x5a);
  write(5, 0x70);
  EXPECT_EQ(read(5), 0);
}

TEST_F(PflashTest, ProgrammingClearsBitsAndErasingSetsABlock) {
  open();
  write(0x1000, 0x20);
  write(0x1000, 0xd0);
  write(0x1003, 0x10);
  write(0x1003, 0x3c);
  write(0x1003, 0x40);
  write(0x1003, 0x0f);
  EXPECT_EQ(read(0x1003), 0x80);
  write(0, 0xff);
  EXPECT_EQ(read(0x1003), 0x0c);
  EXPECT_EQ(read(0x1004), 0xff);
  EXPECT_EQ(read(0x2000), 0);
}

TEST_F(PflashTest, ABufferIsProgrammedAtItsConfirmation) {
  open();
  write(0x1000, 0x20);
  write(0x1000, 0xd0);
  write(0x1000, 0xe8);
  write(0x1000, 1);
  write(0x1000, 0x11);
  write(0x1001, 0x22);
  write(0x1000, 0xd0);
  write(0, 0xff);
  EXPECT_EQ(read(0x1000), 0x11);
  EXPECT_EQ(read(0x1001), 0x22);
}

TEST_F(PflashTest, AProtectedChipReportsErrorsAndKeepsItsContents) {
  open(true);
  write(5, 0x10);
  write(5, 0);
  EXPECT_EQ(read(5), 0x90);
  write(5, 0x20);
  write(5, 0xd0);
  EXPECT_EQ(read(5), 0xb0);
  write(0, 0xff);
  EXPECT_EQ(read(5), 0x5a);
}

TEST_F(PflashTest, CfiDescribesTheChip) {
  open();
  write(0x55, 0x98);
  EXPECT_EQ(read(0x10), 'Q');
  EXPECT_EQ(read(0x27), 16);
  EXPECT_EQ(read(0x2d), 15);
  write(0, 0x90);
  EXPECT_EQ(read(0), 0x89);
}

TEST_F(PflashTest, AWrongConfirmationIsASequenceError) {
  open();
  write(0, 0x20);
  write(0, 0x00);
  EXPECT_EQ(read(0), 0xb0);
}

TEST_F(PflashTest, AStateInTheMiddleOfACommandComesBack) {
  open();
  write(0x1000, 0xe8);
  write(0x1000, 1);
  write(0x1000, 0);
  Archive out;
  flash_->visit(out);
  auto saved = out.take();
  flash_->reset();
  EXPECT_EQ(read(5), 0x5a);
  Archive in{std::span<const u8>(saved)};
  flash_->visit(in);
  ASSERT_TRUE(in.status());
  ram_->data()[0x1000] = ram_->data()[0x1001] = 0xff;
  write(0x1001, 0x22);
  write(0x1000, 0xd0);
  EXPECT_EQ(ram_->data()[0x1000], 0);
  EXPECT_EQ(ram_->data()[0x1001], 0x22);
}

TEST_F(PflashTest, SecureFlashTakesCommandsInSystemManagementModeOnly) {
  ram_ = MUST(memory::RamBlock::create("flash", 64 * kKiB, {}));
  ram_->data()[5] = 0x5a;
  flash_ = MUST(Pflash::create(memory_, {.name = "flash", .base = kBase, .ram = ram_, .secure = true}));
  write(0, 0x70);
  EXPECT_EQ(read(5), 0x5a);
  memory::BusView smm(memory_, memory::View::Smm);
  smm.write(kBase, 0x70, 1);
  EXPECT_EQ(smm.read(kBase + 5, 1), 0x80u);
  EXPECT_EQ(read(5), 0x5a);
  smm.write(kBase + 0x1000, 0x40, 1);
  smm.write(kBase + 0x1000, 0x00, 1);
  smm.write(kBase, 0xff, 1);
  EXPECT_EQ(smm.read(kBase + 5, 1), 0x5au);
}

}  // namespace
}  // namespace atl::devices
