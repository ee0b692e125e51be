#include <gtest/gtest.h>

#include "devices/legacy/i6300esb.h"
#include "devices/legacy/manual_clock.h"
#include "devices/legacy/pvpanic.h"
#include "devices/legacy/test_doubles.h"
#include "devices/pci/bus.h"
#include "devices/pci/fake_vm.h"

namespace atl::devices {
namespace {

constexpr u64 kBar = 0xe0000000;

class WatchdogTest : public testing::Test {
 protected:
  WatchdogTest() {
    EXPECT_TRUE(bus_->add({4, 0}, dog_.function()));
    bus_->config_write({4, 0}, 0x10, kBar, 4);
    bus_->config_write({4, 0}, 0x04, 2, 2);
  }
  ~WatchdogTest() override { bus_->remove({4, 0}); }
  static std::unique_ptr<PciBus> make_bus(WatchdogTest& test) {
    return MUST(PciBus::create({.memory = test.memory_, .ports = test.ports_, .set_gsi = [](u32, bool) {}, .request_reset = {}}));
  }
  void unlock() {
    write(0x0c, 0x80);
    write(0x0c, 0x86);
  }
  void write(u64 at, u64 value) { memory::BusView(memory_).write(kBar + at, value, at == 0x0c ? 2 : 4); }
  u64 read(u64 at) { return memory::BusView(memory_).read(kBar + at, 2); }
  void enable() {
    unlock();
    write(0, 1006);  // 1007 << 15 ticks of 33 MHz: about a second
    unlock();
    write(4, 1006);
    bus_->config_write({4, 0}, 0x68, 2, 1);
  }

  memory::AddressSpace memory_{"memory", u64{1} << 40};
  memory::AddressSpace ports_{"ports", 1 << 16};
  std::unique_ptr<PciBus> bus_ = make_bus(*this);
  ManualClock clock_;
  RecordingSystem system_;
  I6300Esb dog_{clock_, system_};
};

TEST_F(WatchdogTest, BothStagesMustPassBeforeItBites) {
  enable();
  clock_.advance(1'100'000'000);
  EXPECT_EQ(system_.watchdogs, 0);
  clock_.advance(1'100'000'000);
  EXPECT_EQ(system_.watchdogs, 1);
  EXPECT_EQ(read(0x0c), 0x200u);
}

TEST_F(WatchdogTest, AReloadAfterUnlockingKeepsItQuiet) {
  enable();
  for (int i = 0; i < 5; ++i) {
    clock_.advance(900'000'000);
    unlock();
    write(0x0c, 0x100);
  }
  EXPECT_EQ(system_.watchdogs, 0);
}

TEST_F(WatchdogTest, AReloadWithoutTheUnlockSequenceIsIgnored) {
  enable();
  clock_.advance(1'500'000'000);
  write(0x0c, 0x100);
  clock_.advance(700'000'000);
  EXPECT_EQ(system_.watchdogs, 1);
}

TEST_F(WatchdogTest, ALockedTimerCannotBeStopped) {
  enable();
  bus_->config_write({4, 0}, 0x68, 3, 1);
  bus_->config_write({4, 0}, 0x68, 0, 1);
  clock_.advance(1'100'000'000);
  clock_.advance(1'100'000'000);
  EXPECT_EQ(system_.watchdogs, 1);
}

TEST_F(WatchdogTest, AStateInTheMiddleComesBack) {
  enable();
  clock_.advance(1'100'000'000);
  Archive out;
  dog_.visit(out);
  const auto saved = out.take();
  dog_.reset();
  Archive in{std::span<const u8>(saved)};
  dog_.visit(in);
  ASSERT_TRUE(in.status());
  clock_.advance(1'100'000'000);
  EXPECT_EQ(system_.watchdogs, 1);
}

TEST(Pvpanic, OffersItsEventsAndReportsThem) {
  RecordingSystem system;
  PvpanicIsa device(system, 3);
  EXPECT_EQ(device.port().bus_read(0, 1), 3u);
  device.port().bus_write(0, 1, 1);
  EXPECT_EQ(system.panics, 1);
  device.port().bus_write(0, 2, 1);
  EXPECT_EQ(system.crashes_loaded, 1);
}

TEST(Pvpanic, EventsThatAreNotOfferedAreIgnored) {
  RecordingSystem system;
  PvpanicIsa device(system, 1);
  device.port().bus_write(0, 2, 1);
  EXPECT_EQ(system.crashes_loaded, 0);
}

}  // namespace
}  // namespace atl::devices
