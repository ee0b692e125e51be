#include "devices/legacy/pci_hotplug.h"

#include <gtest/gtest.h>

namespace atl::devices {
namespace {

class PciHotplugTest : public testing::Test {
 protected:
  int events = 0;
  std::vector<unsigned> ejected;
  PciHotplug hotplug{{.changed = [this] { ++events; }, .eject = [this](unsigned slot) { ejected.push_back(slot); }}};
};

TEST_F(PciHotplugTest, PluggedSlotIsSeenOnce) {
  hotplug.announce_plugged(5);
  EXPECT_EQ(events, 1);
  EXPECT_EQ(hotplug.bus_read(0, 4), 1u << 5);
  EXPECT_EQ(hotplug.bus_read(0, 4), 0u);
}

TEST_F(PciHotplugTest, UnplugWaitsForEject) {
  hotplug.set_removable(3, true);
  hotplug.request_unplug(3);
  EXPECT_EQ(hotplug.bus_read(4, 4), 8u);
  EXPECT_EQ(hotplug.bus_read(4, 4), 8u);
  hotplug.bus_write(8, 8, 4);
  EXPECT_EQ(ejected, std::vector<unsigned>{3});
  EXPECT_FALSE(hotplug.unplug_pending(3));
}

TEST_F(PciHotplugTest, ResetEjectsWhatTheGuestWasAskedFor) {
  hotplug.set_removable(3, true);
  hotplug.set_removable(4, true);
  hotplug.request_unplug(3);
  hotplug.reset();
  EXPECT_EQ(ejected, std::vector<unsigned>{3});
  EXPECT_FALSE(hotplug.unplug_pending(3));
}

TEST_F(PciHotplugTest, FixedSlotsCannotBeEjected) {
  hotplug.bus_write(8, 0xffffffff, 4);
  EXPECT_TRUE(ejected.empty());
}

TEST_F(PciHotplugTest, OtherBusesAreEmpty) {
  hotplug.set_removable(1, true);
  hotplug.bus_write(0x10, 1, 4);
  EXPECT_EQ(hotplug.bus_read(0xc, 4), 0u);
  hotplug.bus_write(8, 2, 4);
  EXPECT_TRUE(ejected.empty());
}

}  // namespace
}  // namespace atl::devices
