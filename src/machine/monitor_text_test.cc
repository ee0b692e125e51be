#include "machine/monitor_text.h"

#include <gmock/gmock.h>

#include "base/endian.h"
#include "cpu/spec.h"

namespace atl::machine {
namespace {

using testing::HasSubstr;

class PageTables : public testing::Test {
 protected:
  PageTables() {
    ram = MUST(memory::RamBlock::create("ram", kMiB, {}));  // a small anonymous mapping
    memory::Region region;
    region.name = "ram";
    region.size = kMiB;
    region.ram = ram;
    MUST(space.add(region));  // an empty space has room
    state.cr0 = cpu::kCr0PE | cpu::kCr0PG;
    state.cr3 = 0x1000;
  }
  void entry(u64 table, u64 index, u64 value) { store_le(ram->data() + table + 8 * index, value); }
  std::string text() { return page_tables_text(state, *space.guest_memory()); }

  memory::AddressSpace space{"memory", u64{1} << 32};
  std::shared_ptr<memory::RamBlock> ram;
  cpu::VcpuState state;
};

TEST_F(PageTables, NeighboursWithEqualRightsAreOneLine) {
  state.cr4 = cpu::kCr4PAE;
  state.efer = cpu::kEferLME | cpu::kEferLMA;
  entry(0x1000, 0, 0x2007);
  entry(0x2000, 0, 0x3007);
  entry(0x3000, 1, 0x0000e7);
  entry(0x3000, 2, 0x2000e7);
  EXPECT_EQ(text(), "0000000000200000-0000000000600000 0000000000400000 urw\n");
}

TEST_F(PageTables, EachPageHasALineWithItsFlags) {
  state.cr4 = cpu::kCr4PAE;
  state.efer = cpu::kEferLME | cpu::kEferLMA;
  entry(0x1000, 511, 0x2007);
  entry(0x2000, 0, 0x3007);
  entry(0x3000, 1, 0x80000000004001e7);
  entry(0x3000, 2, 0x4003);
  entry(0x4000, 3, 0x7061);
  EXPECT_EQ(translations_text(state, *space.guest_memory()),
            "ffffff8000200000: 0000000000400000 XGPDA--UW\n"
            "ffffff8000403000: 0000000000007000 ---DA----\n");
}

TEST_F(PageTables, SelfReferencesEnd) {
  state.cr4 = cpu::kCr4PAE;
  state.efer = cpu::kEferLME | cpu::kEferLMA;
  for (u64 i = 0; i < 512; ++i) entry(0x1000, i, 0x1003);
  EXPECT_THAT(text(), HasSubstr("cut"));
}

TEST_F(PageTables, BlocksAndRomsAreListed) {
  memory::Region rom;
  rom.name = "bios";
  rom.base = 0xf0000000;
  rom.size = 64 * kKiB;
  rom.ram = MUST(memory::RamBlock::create("pc.bios", 64 * kKiB, {}));  // a small anonymous mapping
  rom.readonly = true;
  MUST(space.add(rom));  // nothing else is there
  EXPECT_THAT(ram_blocks_text(*space.map()), HasSubstr(" pc.bios    4 KiB  0x00000000f0000000 0x0000000000010000"));
  EXPECT_EQ(roms_text(*space.map()), "addr=00000000f0000000 size=0x010000 mem=rom name=\"bios\"\n");
}

TEST_F(PageTables, TablesOutsideRamAreEmpty) {
  state.cr3 = 0xfffff000;
  state.cr4 = cpu::kCr4PAE;
  state.efer = cpu::kEferLMA;
  EXPECT_EQ(text(), "");
}

TEST_F(PageTables, TwoLevelTablesHaveFourByteEntries) {
  store_le<u32>(ram->data() + 0x1000 + 4, 0x2003);
  store_le<u32>(ram->data() + 0x2000, 0x5001);
  EXPECT_EQ(text(), "0000000000400000-0000000000401000 0000000000001000 -r-\n");
}

}  // namespace
}  // namespace atl::machine
