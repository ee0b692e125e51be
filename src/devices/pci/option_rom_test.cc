#include "devices/pci/option_rom.h"

#include <gtest/gtest.h>

#include <fstream>
#include <numeric>
#include <vector>

#include "base/endian.h"
#include "devices/pci/bus.h"
#include "devices/pci/fake_vm.h"

namespace atl::devices {
namespace {

/// One image of 512 bytes whose bytes sum up to zero.
std::vector<u8> image(u16 vendor, u16 device, bool last) {
  std::vector<u8> rom(512);
  rom[0] = 0x55, rom[1] = 0xaa, rom[2] = 1, rom[0x18] = 0x40;
  std::memcpy(&rom[0x40], "PCIR", 4);
  store_le<u16>(&rom[0x44], vendor);
  store_le<u16>(&rom[0x46], device);
  rom[0x50] = 1;
  rom[0x55] = last ? 0x80 : 0;
  rom[6] = static_cast<u8>(-std::accumulate(rom.begin(), rom.end(), 0));
  return rom;
}

TEST(OptionRomTest, NumbersOfEveryImageAreThoseOfTheFunctionAndSumsStayZero) {
  std::vector<u8> rom = image(1, 2, false);
  for (u8 byte : image(3, 4, true)) rom.push_back(byte);
  ASSERT_TRUE(patch_option_rom(rom, 0x8086, 0x100e));
  for (size_t at : {size_t{0}, size_t{512}}) {
    EXPECT_EQ(load_le<u16>(&rom[at + 0x44]), 0x8086);
    EXPECT_EQ(load_le<u16>(&rom[at + 0x46]), 0x100e);
    EXPECT_EQ(std::accumulate(&rom[at], &rom[at] + 512, 0) & 0xff, 0);
  }
}

TEST(OptionRomTest, GarbageIsNoRom) {
  std::vector<u8> rom(512);
  EXPECT_FALSE(patch_option_rom(rom, 1, 2));
  rom = image(1, 2, true);
  store_le<u16>(&rom[0x18], 0xffff);
  EXPECT_FALSE(patch_option_rom(rom, 1, 2));
  EXPECT_FALSE(patch_option_rom({}, 1, 2));
}

TEST(OptionRomTest, RomAppearsWhereTheRegisterSaysWhileItIsEnabled) {
  const std::string path = testing::TempDir() + "/atoll-option.rom";
  const std::vector<u8> rom = image(1, 2, true);
  std::ofstream(path).write(reinterpret_cast<const char*>(rom.data()), 512);
  PciFunction function("card", {.vendor = 0x1234, .device = 0x5678});
  ASSERT_TRUE(add_option_rom(function, path).has_value());
  memory::AddressSpace memory("memory", u64{1} << 40), ports("ports", 1 << 16);
  auto bus = MUST(PciBus::create({.memory = memory, .ports = ports, .set_gsi = [](u32, bool) {}, .request_reset = [] {}}));
  MUST(bus->add({3, 0}, function));
  memory::BusView view(memory);
  bus->config_write({3, 0}, 0x30, 0xfffff800, 4);
  EXPECT_EQ(bus->config_read({3, 0}, 0x30, 4), 0xfffff000u);
  bus->config_write({3, 0}, 0x30, 0xe0000001, 4);
  EXPECT_EQ(view.read(0xe0000000, 2), 0xffffu);
  bus->config_write({3, 0}, 4, 2, 2);
  EXPECT_EQ(view.read(0xe0000000, 2), 0xaa55u);
  EXPECT_EQ(view.read(0xe0000044, 4), 0x56781234u);
  view.write(0xe0000000, 0, 2);
  EXPECT_EQ(view.read(0xe0000000, 2), 0xaa55u);
  EXPECT_FALSE(function.bus_master());
  bus->config_write({3, 0}, 4, 6, 2);
  EXPECT_TRUE(function.bus_master());
  bus->config_write({3, 0}, 0x30, 0xe0000000, 4);
  EXPECT_EQ(view.read(0xe0000000, 2), 0xffffu);
  bus->remove({3, 0});
  std::remove(path.c_str());
}

}  // namespace
}  // namespace atl::devices
