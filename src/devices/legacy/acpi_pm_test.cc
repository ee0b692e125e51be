#include "devices/legacy/acpi_pm.h"

#include <gtest/gtest.h>

#include "devices/legacy/manual_clock.h"
#include "devices/legacy/test_doubles.h"

namespace atl::devices {
namespace {

class AcpiPmTest : public testing::Test {
 protected:
  void SetUp() override {
    pm.start_in_acpi_mode(true);
    pm.reset();
  }
  u64 in(u64 offset, unsigned width) { return pm.pm1_ports().bus_read(offset, width); }
  void out(u64 offset, u64 value) { pm.pm1_ports().bus_write(offset, value, 2); }

  ManualClock clock;
  RecordingLine sci;
  RecordingSystem system;
  AcpiPm pm{sci, clock, system};
};

TEST_F(AcpiPmTest, PowerButtonInterruptsWhenEnabledUntilCleared) {
  pm.power_button();
  EXPECT_FALSE(sci.level);
  out(2, 0x100);
  EXPECT_TRUE(sci.level);
  out(0, 0x100);
  EXPECT_FALSE(sci.level);
}

TEST_F(AcpiPmTest, SleepTypeZeroPowersOff) {
  out(4, 0x2000 | 1 << 10);
  EXPECT_EQ(system.power_offs, 0);
  out(4, 0x2001);
  EXPECT_EQ(system.power_offs, 1);
  EXPECT_EQ(in(4, 2), 1u);  // SLP_EN reads as zero
}

TEST_F(AcpiPmTest, SleepStatesThatAreOfferedAreAskedFor) {
  out(4, 0x2000 | AcpiPm::kSuspend << 10);
  out(4, 0x2000 | AcpiPm::kHibernate << 10);
  EXPECT_EQ(system.suspends + system.hibernations, 0);
  pm.offer_sleep(true, true);
  out(4, 0x2000 | AcpiPm::kSuspend << 10);
  EXPECT_EQ(system.suspends, 1);
  out(4, 0x2000 | AcpiPm::kHibernate << 10);
  EXPECT_EQ(system.hibernations, 1);
  EXPECT_EQ(system.power_offs, 0);
}

TEST_F(AcpiPmTest, StatusTellsWhatWokeTheMachine) {
  pm.woken(WakeReason::Button);
  EXPECT_EQ(in(0, 2) & 0x8500, 0x8100u);
  pm.reset();
  pm.woken(WakeReason::Clock);
  EXPECT_EQ(in(0, 2) & 0x8500, 0x8400u);
}

TEST_F(AcpiPmTest, SmiCommandHandsOverAcpi) {
  pm.start_in_acpi_mode(false);
  pm.reset();
  EXPECT_EQ(in(4, 2), 0u);
  pm.smi_ports().bus_write(0, AcpiPm::kSmiAcpiEnable, 1);
  EXPECT_EQ(in(4, 2), 1u);
}

TEST_F(AcpiPmTest, TimerCountsItsFrequencyIn24Bits) {
  clock.advance(1'000'000'000);
  EXPECT_EQ(in(8, 4), 3'579'545u);
  clock.advance(4'000'000'000);
  EXPECT_EQ(in(8, 4), (5ull * 3'579'545) & 0xffffff);
}

TEST_F(AcpiPmTest, TimerOverflowRaisesSci) {
  out(2, 1);
  clock.advance(2'300'000'000);
  EXPECT_FALSE(sci.level);
  clock.advance(100'000'000);
  EXPECT_TRUE(sci.level);
  out(0, 1);
  EXPECT_FALSE(sci.level);
  clock.advance(2'400'000'000);
  EXPECT_TRUE(sci.level);
}

TEST_F(AcpiPmTest, GeneralEventNeedsEnableBit) {
  pm.raise_event(1);
  EXPECT_FALSE(sci.level);
  pm.gpe_ports().bus_write(2, 2, 1);
  EXPECT_TRUE(sci.level);
  EXPECT_EQ(pm.gpe_ports().bus_read(0, 1), 2u);
  pm.gpe_ports().bus_write(0, 2, 1);
  EXPECT_FALSE(sci.level);
}

}  // namespace
}  // namespace atl::devices
