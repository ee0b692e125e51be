#include "machine/acpi/tables.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/endian.h"
#include "machine/acpi/dsdt.h"
#include "memory/address_space.h"

namespace atl::machine {
namespace {

class AcpiTables : public testing::Test {
 protected:
  void SetUp() override {
    ram = MUST(memory::RamBlock::create("ram", kMiB, {}));  // a small anonymous mapping
    memory::Region region;
    region.name = "ram";
    region.size = ram->size();
    region.ram = ram;
    MUST(space.add(region));  // an empty space has room
    const AcpiBlob blob = build_acpi({.dsdt = aml::name("_S5", aml::integer(0)), .cpus = 2});
    rsdp = MUST(install_acpi(blob, *space.guest_memory(), 0xe0000, 0x10000));  // it fits
  }
  const u8* at(u64 address) const { return ram->data() + address; }
  static u8 sum(const u8* data, u32 size) { return static_cast<u8>(std::accumulate(data, data + size, 0)); }
  /// The table with this signature, through the XSDT.
  const u8* find(std::string_view signature) const {
    const u8* xsdt = at(load_le<u64>(at(rsdp) + 24));
    const u32 count = (load_le<u32>(xsdt + 4) - 36) / 8;
    for (u32 i = 0; i < count; ++i) {
      const u8* table = at(load_le<u64>(xsdt + 36 + 8 * i));
      if (std::memcmp(table, signature.data(), 4) == 0) return table;
    }
    return nullptr;
  }

  memory::AddressSpace space{"memory", u64{1} << 32};
  std::shared_ptr<memory::RamBlock> ram;
  GuestAddr rsdp = 0;
};

TEST_F(AcpiTables, RootPointerHasBothChecksums) {
  EXPECT_EQ(std::memcmp(at(rsdp), "RSD PTR ", 8), 0);
  EXPECT_EQ(sum(at(rsdp), 20), 0);
  EXPECT_EQ(sum(at(rsdp), 36), 0);
}

TEST(AcpiBlobs, McfgTellsOfTheWindowAndTablesOfTheUserFollow) {
  const std::vector<u8> more = {'O', 'E', 'M', '1', 36};
  const AcpiBlob blob = build_acpi({.dsdt = {}, .ecam_base = 0xb0000000, .ecam_size = 256 * kMiB, .more = {more}});
  const std::string_view all(reinterpret_cast<const char*>(blob.tables.data()), blob.tables.size());
  const size_t mcfg = all.find("MCFG");
  ASSERT_NE(mcfg, std::string_view::npos);
  EXPECT_EQ(load_le<u64>(&blob.tables[mcfg + 44]), 0xb0000000u);
  EXPECT_EQ(blob.tables[mcfg + 55], 0xff);
  EXPECT_NE(all.find("OEM1"), std::string_view::npos);
}

TEST_F(AcpiTables, EveryTableSumsToZero) {
  for (const char* signature : {"FACP", "APIC"}) {
    const u8* table = find(signature);
    ASSERT_NE(table, nullptr) << signature;
    EXPECT_EQ(sum(table, load_le<u32>(table + 4)), 0) << signature;
  }
  const u8* dsdt = at(load_le<u32>(find("FACP") + 40));
  EXPECT_EQ(std::memcmp(dsdt, "DSDT", 4), 0);
  EXPECT_EQ(sum(dsdt, load_le<u32>(dsdt + 4)), 0);
}

TEST_F(AcpiTables, FadtHasTheLayoutOfItsRevision) {
  const u8* fadt = find("FACP");
  EXPECT_EQ(load_le<u32>(fadt + 4), 244u);
  EXPECT_EQ(load_le<u16>(fadt + 46), 9);          // SCI_INT
  EXPECT_EQ(load_le<u32>(fadt + 56), 0x600u);     // PM1a_EVT_BLK
  EXPECT_EQ(load_le<u32>(fadt + 76), 0x608u);     // PM_TMR_BLK
  EXPECT_EQ(load_le<u32>(fadt + 80), 0xafe0u);    // GPE0_BLK
  EXPECT_EQ(fadt[108], 0x32);                     // CENTURY
  EXPECT_EQ(load_le<u64>(fadt + 120), 0xcf9u);    // RESET_REG
  EXPECT_EQ(load_le<u64>(fadt + 140), load_le<u32>(fadt + 40));  // X_DSDT
  EXPECT_EQ(load_le<u64>(fadt + 212), 0x608u);    // X_PM_TMR_BLK
}

TEST_F(AcpiTables, MadtListsProcessorsAndIoApic) {
  const u8* madt = find("APIC");
  EXPECT_EQ(load_le<u32>(madt + 36), 0xfee00000u);
  EXPECT_EQ(madt[44], 0);
  EXPECT_EQ(madt[44 + 8 + 3], 1);  // second processor's APIC id
  EXPECT_EQ(madt[44 + 16], 1);     // I/O APIC
  EXPECT_EQ(load_le<u32>(madt + 44 + 16 + 4), 0xfec00000u);
}

TEST_F(AcpiTables, FacsIsAlignedTo64) {
  const u32 facs = load_le<u32>(find("FACP") + 36);
  EXPECT_EQ(facs % 64, 0u);
  EXPECT_EQ(std::memcmp(at(facs), "FACS", 4), 0);
}

TEST(AcpiInstall, RefusesTablesThatDoNotFit) {
  memory::AddressSpace space("memory", u64{1} << 32);
  const AcpiBlob blob = build_acpi({.dsdt = aml::Code(5000, 0)});
  EXPECT_FALSE(install_acpi(blob, *space.guest_memory(), 0xe0000, 4096).has_value());
}

TEST(TableLoader, CommandsAllocateThenPointThenSum) {
  const AcpiBlob blob = build_acpi({.dsdt = {}});
  const std::vector<u8> script = table_loader_script(blob);
  ASSERT_EQ(script.size() % 128, 0u);
  std::vector<u32> commands;
  for (size_t i = 0; i < script.size(); i += 128) commands.push_back(load_le<u32>(&script[i]));
  EXPECT_EQ(commands[0], 1u);
  EXPECT_EQ(commands[1], 1u);
  EXPECT_EQ(commands.back(), 3u);
  EXPECT_EQ(std::ranges::count(commands, 2u), static_cast<std::ptrdiff_t>(blob.pointers.size() + 2));
}

/// FNV-1a, to pin contents without a copy of them.
u32 fingerprint(const aml::Code& code) {
  u32 hash = 2166136261;
  for (u8 byte : code) hash = (hash ^ byte) * 16777619;
  return hash;
}

// A guest's hardware must not change unnoticed: who changes these tables on purpose looks at them with `iasl -d` and puts
// the new numbers here.
TEST(GoldenTables, PcDsdtIsUnchanged) {
  const aml::Code code = pc_dsdt({.cpus = 1, .hole_first = 0x20000000, .hole_last = 0xfebfffff, .serial_ports = 1});
  EXPECT_EQ(code.size(), 5979u);
  EXPECT_EQ(fingerprint(code), 2605646932u);
}

TEST(GoldenTables, MicrovmDsdtIsUnchanged) {
  const MmioDevice disk = {0xfeb00000, 512, 5};
  const aml::Code code = microvm_dsdt({.cpus = 1, .serial_ports = 1, .virtio = {&disk, 1}});
  EXPECT_EQ(code.size(), 207u);
  EXPECT_EQ(fingerprint(code), 1593442836u);
}

}  // namespace
}  // namespace atl::machine
