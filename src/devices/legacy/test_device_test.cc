#include "devices/legacy/test_device.h"

#include <gtest/gtest.h>

#include "devices/legacy/test_doubles.h"

namespace atl::devices {
namespace {

class TestDeviceTest : public testing::Test {
 protected:
  TestDeviceTest() : device_(pointers()), ports_("ports", 1 << 16), memory_("memory", u64{1} << 40) {
    for (auto& region : device_.port_regions()) EXPECT_TRUE(ports_.add(region));
    EXPECT_TRUE(memory_.add(device_.memory_region()));
  }
  std::array<cpu::IrqLine*, TestDevice::kLines> pointers() {
    std::array<cpu::IrqLine*, TestDevice::kLines> all;
    for (unsigned i = 0; i < all.size(); ++i) all[i] = &lines_[i];
    return all;
  }

  std::array<RecordingLine, TestDevice::kLines> lines_;
  TestDevice device_;
  memory::AddressSpace ports_, memory_;
};

TEST_F(TestDeviceTest, RegisterKeepsPartsOfAnyWidth) {
  memory::BusView view(ports_);
  view.write(0xe0, 0x11223344, 4);
  view.write(0xe1, 0xaa, 1);
  EXPECT_EQ(view.read(0xe0, 4), 0x1122aa44u);
  EXPECT_EQ(view.read(0xe2, 2), 0x1122u);
  EXPECT_EQ(view.read(0xe9, 1), 0xaau);
}

TEST_F(TestDeviceTest, LinePortsSetInterruptLines) {
  memory::BusView view(ports_);
  view.write(0x2000 + 14, 1, 1);
  EXPECT_TRUE(lines_[14].level);
  view.write(0x2000 + 14, 0, 1);
  EXPECT_FALSE(lines_[14].level);
}

TEST_F(TestDeviceTest, MemoryIsStorage) {
  memory::BusView view(memory_);
  view.write(0xff000000, 0x0123456789abcdef, 8);
  EXPECT_EQ(view.read(0xff000002, 2), 0x89abu);
}

}  // namespace
}  // namespace atl::devices
