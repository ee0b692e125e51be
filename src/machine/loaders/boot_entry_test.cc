#include "machine/loaders/boot_entry.h"

#include "cpu/spec.h"
#include "machine/loaders/loader_fixture.h"

namespace atl::machine {
namespace {

class BootEntryTest : public LoaderTest {
 protected:
  cpu::VcpuState started(BootEntry entry) {
    cpu::VcpuState state = cpu::reset_state(true);
    MUST(enter(entry, *space.guest_memory(), state));  // RAM is there
    return state;
  }
};

TEST_F(BootEntryTest, LongModeHasIdentityPagesAndFlatSegments) {
  const cpu::VcpuState s = started({.mode = BootEntry::Mode::Long64, .ip = 0x100200, .rsi = kBootInfo});
  EXPECT_EQ(s.rip, 0x100200u);
  EXPECT_EQ(s.gpr[cpu::kRsi], kBootInfo);
  EXPECT_TRUE(s.seg[cpu::kCs].l());
  EXPECT_EQ(s.efer, u64{cpu::kEferLME} | cpu::kEferLMA);
  const u64 pml4 = peek<u64>(s.cr3), pdpt = peek<u64>(pml4 & ~u64{0xfff});
  EXPECT_EQ(pml4 & 1, 1u);
  EXPECT_EQ(peek<u64>((pdpt & ~u64{0xfff}) + 8), 0x200083u);
  EXPECT_EQ(peek<u64>(kBootGdt + 0x10), 0x00af9b000000ffffu);
  EXPECT_EQ(peek<u64>(kBootGdt + 0x18), 0x00cf93000000ffffu);
}

TEST_F(BootEntryTest, ProtectedModeHasPagingOff) {
  const cpu::VcpuState s = started({.mode = BootEntry::Mode::Protected32, .ip = 0x100000, .eax = 1, .ebx = 2});
  EXPECT_EQ(s.cr0, u64{cpu::kCr0PE} | cpu::kCr0ET);
  EXPECT_EQ(s.gpr[cpu::kRax], 1u);
  EXPECT_EQ(s.gpr[cpu::kRbx], 2u);
  EXPECT_TRUE(s.seg[cpu::kCs].db());
  EXPECT_EQ(s.seg[cpu::kSs].limit, 0xffffffffu);
}

TEST_F(BootEntryTest, ResetLeavesThePowerOnState) {
  EXPECT_EQ(started({}).rip, 0xfff0u);
}

}  // namespace
}  // namespace atl::machine
