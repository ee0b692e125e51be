#include "machine/boards/firmware.h"

#include <gtest/gtest.h>

#include <map>

#include "machine/boards/ram.h"

namespace atl::machine {
namespace {

std::map<u8, u8> cmos(const CmosSettings& settings) {
  std::map<u8, u8> out;
  for (auto [index, value] : cmos_values(settings)) out[index] = value;
  return out;
}

TEST(RamLayout, PcKeepsLessThanThreeAndAHalfGigabytesTogether) {
  EXPECT_EQ(ram_layout(BoardKind::Pc, 512 * kMiB).low_bytes, 512 * kMiB);
  EXPECT_EQ(ram_layout(BoardKind::Pc, 3500 * kMiB).high_bytes, 0u);
  EXPECT_EQ(ram_layout(BoardKind::Pc, 4 * kGiB).low_bytes, 3 * kGiB);
  EXPECT_EQ(ram_layout(BoardKind::Pc, 4 * kGiB).high_bytes, kGiB);
}

TEST(RamLayout, MicrovmSplitsAtThreeGigabytes) {
  EXPECT_EQ(ram_layout(BoardKind::Microvm, 3 * kGiB).high_bytes, 0u);
  EXPECT_EQ(ram_layout(BoardKind::Microvm, 3 * kGiB + kMiB).high_bytes, kMiB);
}

TEST(Cmos, MemorySizesAreCutToTheirFields) {
  auto small = cmos({.ram = {32 * kMiB, 0}});
  EXPECT_EQ(small[0x17] | small[0x18] << 8, 31 * 1024);
  EXPECT_EQ(small[0x34] | small[0x35] << 8, 16 * 16);
  auto large = cmos({.ram = {3 * kGiB, 5 * kGiB}, .cpus = 4});
  EXPECT_EQ(large[0x30] | large[0x31] << 8, 0xffff);
  EXPECT_EQ(large[0x5b] | large[0x5c] << 8 | large[0x5d] << 16, 5 * 16384);
  EXPECT_EQ(large[0x5f], 3);
}

TEST(Cmos, BootOrderFillsNibbles) {
  auto values = cmos({.ram = {32 * kMiB, 0}, .boot_order = "cdn"});
  EXPECT_EQ(values[0x3d], 0x32);
  EXPECT_EQ(values[0x38], 0x40);  // floppy disks have to have a boot signature
}

TEST(Cmos, LargeDisksAreTranslated) {
  std::map<u8, u8> values;
  for (auto [index, value] : disk_cmos_values(std::vector<u64>{61440, 8388608, 8388608, 0})) values[index] = value;
  EXPECT_EQ(values[0x12], 0xff);
  EXPECT_EQ(values[0x19], 47);
  EXPECT_EQ(values[0x1b] | values[0x1c] << 8, 60);
  EXPECT_EQ(values[0x1d], 16);
  EXPECT_EQ(values[0x23], 63);
  EXPECT_EQ(values[0x24] | values[0x25] << 8, 8322);
  EXPECT_EQ(values[0x39], 0b010100);
}

TEST(BootOrder, AnIndexCanBeTakenOnce) {
  BootOrder order;
  const std::optional<u32> first = 1;
  EXPECT_TRUE(add_to_boot_order(order, first, "/a").has_value());
  EXPECT_FALSE(add_to_boot_order(order, first, "/b").has_value());
  EXPECT_TRUE(add_to_boot_order(order, std::nullopt, "/c").has_value());
  EXPECT_EQ(order.size(), 1u);
}

}  // namespace
}  // namespace atl::machine
