#include <gtest/gtest.h>

#include "devices/legacy/gated_line.h"
#include "devices/legacy/hpet.h"
#include "devices/legacy/manual_clock.h"
#include "devices/legacy/test_doubles.h"

namespace atl::devices {
namespace {

constexpr u64 kConfig = 0x100, kComparator = 0x108;
constexpr u64 kEnabled = 4, kPeriodic = 8, kSet = 0x40, k32Bits = 0x100, kLevel = 2, kInput2 = 2 << 9;

class HpetTest : public testing::Test {
 protected:
  void write(u64 at, u64 value, unsigned width = 4) { hpet_.bus_write(at, value, width); }
  u64 read(u64 at, unsigned width = 4) { return hpet_.bus_read(at, width); }
  void run(bool legacy) { write(0x10, legacy ? 3 : 1); }

  ManualClock clock_;
  RecordingLine irq0_, irq8_, input2_;
  bool legacy_ = false;
  Hpet hpet_{clock_, {irq0_, irq8_, input2_, [this](bool on) { legacy_ = on; }}};
};

TEST_F(HpetTest, CountsAt100MHzWhileItIsEnabled) {
  EXPECT_EQ(read(0x04), 10'000'000u);  // femtoseconds
  clock_.advance(1000);
  EXPECT_EQ(read(0xf0), 0u);
  write(0xf0, 500);
  run(false);
  clock_.advance(1000);
  EXPECT_EQ(read(0xf0), 600u);
  write(0x10, 0);
  clock_.advance(1000);
  EXPECT_EQ(read(0xf0, 8), 600u);
}

TEST_F(HpetTest, AOneShotInterruptsOnceAtItsComparator) {
  run(true);
  EXPECT_TRUE(legacy_);
  write(kConfig, kEnabled);
  write(kComparator, 100, 8);
  clock_.advance(990);
  EXPECT_EQ(irq0_.rising_edges, 0);
  clock_.advance(10);
  EXPECT_EQ(irq0_.rising_edges, 1);
  clock_.advance(1'000'000'000);
  EXPECT_EQ(irq0_.rising_edges, 1);
}

TEST_F(HpetTest, APeriodIsSetAfterTheFirstComparator) {  // as Linux does it
  run(true);
  write(kConfig, kEnabled | kPeriodic | kSet | k32Bits);
  write(kComparator, 100'000);
  write(kComparator, 50'000);
  clock_.advance(1'000'000);
  EXPECT_EQ(irq0_.rising_edges, 1);
  clock_.advance(5'000'000);
  EXPECT_EQ(irq0_.rising_edges, 11);
  EXPECT_EQ(read(kConfig) & kSet, 0u);
}

TEST_F(HpetTest, A32BitTimerComesRoundWithTheCounter) {
  run(true);
  write(kConfig + 0x20, kEnabled | k32Bits);
  write(kComparator + 0x20, 100);
  clock_.advance(43'000'000'000 * 2);  // 2^32 ticks are 42.9 s
  EXPECT_EQ(irq8_.rising_edges, 3);
}

TEST_F(HpetTest, ALevelInterruptLastsUntilItsStatusIsCleared) {
  run(false);
  write(kConfig, kEnabled | kLevel | kInput2);
  write(kComparator, 10, 8);
  clock_.advance(100);
  EXPECT_TRUE(input2_.level);
  EXPECT_EQ(read(0x20), 1u);
  write(0x20, 1);
  EXPECT_FALSE(input2_.level);
  EXPECT_EQ(read(0x20), 0u);
}

TEST_F(HpetTest, AnAbsurdPeriodInterruptsNoMoreOftenThanEvery20Microseconds) {
  run(true);
  write(kConfig, kEnabled | kPeriodic | kSet);
  write(kComparator, 1, 8);
  clock_.advance(1'000'000);
  EXPECT_LE(irq0_.rising_edges, 51);
  EXPECT_GE(irq0_.rising_edges, 49);
}

TEST_F(HpetTest, GoesOnFromItsSavedState) {
  run(true);
  write(kConfig, kEnabled | kPeriodic | kSet);
  write(kComparator, 10'000, 8);
  clock_.advance(150'000);
  Archive saved;
  hpet_.visit(saved);
  const auto state = saved.take();
  hpet_.reset();
  EXPECT_FALSE(legacy_);
  Archive loaded{std::span<const u8>(state)};
  hpet_.visit(loaded);
  EXPECT_TRUE(legacy_);
  EXPECT_EQ(read(0xf0), 15'000u);
  clock_.advance(40'000);
  EXPECT_EQ(irq0_.rising_edges, 1);
  clock_.advance(20'000);
  EXPECT_EQ(irq0_.rising_edges, 2);
}

TEST(GatedLineTest, KeepsTheLevelWhileItIsOpen) {
  RecordingLine line;
  GatedLine gate(line);
  gate.connect(false);
  gate.set(true);
  EXPECT_FALSE(line.level);
  gate.connect(true);
  EXPECT_TRUE(line.level);
}

}  // namespace
}  // namespace atl::devices
