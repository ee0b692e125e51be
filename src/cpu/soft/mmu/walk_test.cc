#include "cpu/soft/mmu/walk.h"

#include "cpu/soft/system/control_registers.h"
#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

constexpr u64 kP = 1, kW = 2, kU = 4, kA = 0x20, kD = 0x40, kG = 0x100, kNx = u64{1} << 63;

class Walk : public testing::Test {
 protected:
  Walk() { m.use_page_table(); }
  Core& c() { return m.core(); }
  u64 page(u64 number) { return SystemMachine::kPages + number * 4096; }
  void set(u64 number, u64 flags) {
    m.pte(number, page(number) | flags);
    flush_tlb(c(), false);
  }
  bool read(u64 linear) {
    u32 value = 0;
    c().fault_pending = false;
    return read_mem(c(), linear, value);
  }
  bool write(u64 linear) {
    c().fault_pending = false;
    return write_mem<u32>(c(), linear, 0x12345678);
  }
  bool fetch(u64 linear) {
    FetchPage out;
    c().fault_pending = false;
    return fetch_page(c(), linear, out);
  }
  SystemMachine m;
};

TEST_F(Walk, ReadSetsAccessedAndWriteSetsDirty) {
  set(1, kP | kW | kU);
  EXPECT_TRUE(read(page(1)));
  EXPECT_EQ(m.pte(1) & (kA | kD), kA);
  EXPECT_TRUE(write(page(1)));
  EXPECT_EQ(m.pte(1) & (kA | kD), kA | kD);
}

TEST_F(Walk, UpperLevelsGetAccessedButNotDirty) {
  EXPECT_TRUE(write(page(1)));
  EXPECT_EQ(m.peek<u64>(SystemMachine::kPageTables) & (kA | kD), kA);
}

TEST_F(Walk, FaultingAccessSetsNoFlag) {
  set(1, kP | kU);
  m.go_user64();
  EXPECT_FALSE(write(page(1)));
  EXPECT_EQ(m.pte(1) & (kA | kD), 0u);
}

TEST_F(Walk, AbsentPageHasCodeOfTheAccess) {
  set(2, 0);
  EXPECT_FALSE(read(page(2) + 5));
  EXPECT_FAULT(c(), kPFault, 0);
  EXPECT_EQ(c().fault.address, page(2) + 5);
  EXPECT_FALSE(write(page(2)));
  EXPECT_FAULT(c(), kPFault, kPfW);
  EXPECT_FALSE(fetch(page(2)));
  EXPECT_FAULT(c(), kPFault, kPfI);
  m.go_user64();
  EXPECT_FALSE(read(page(2)));
  EXPECT_FAULT(c(), kPFault, kPfU);
}

TEST_F(Walk, FetchBitNeedsNxeOrSmep) {
  set(2, 0);
  c().efer &= ~u64{kEferNXE};
  EXPECT_FALSE(fetch(page(2)));
  EXPECT_FAULT(c(), kPFault, 0);
  c().cr4 |= kCr4SMEP;
  EXPECT_FALSE(fetch(page(2)));
  EXPECT_FAULT(c(), kPFault, kPfI);
}

TEST_F(Walk, SupervisorPageIsClosedToUser) {
  set(1, kP | kW);
  m.go_user64();
  EXPECT_FALSE(read(page(1)));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfU);
}

TEST_F(Walk, WriteProtectBindsSupervisorOnlyWithWp) {
  set(1, kP);
  EXPECT_FALSE(write(page(1)));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfW);
  c().cr0 &= ~u64{kCr0WP};
  EXPECT_TRUE(write(page(1)));
}

TEST_F(Walk, NoExecuteStopsFetch) {
  set(1, kP | kU | kNx);
  EXPECT_TRUE(read(page(1)));
  EXPECT_FALSE(fetch(page(1)));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfI);
}

TEST_F(Walk, ReservedBitsAreReported) {
  set(1, kP | kW | u64{1} << 51);
  EXPECT_FALSE(read(page(1)));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfRsvd);
  set(1, kP | kNx);
  c().efer &= ~u64{kEferNXE};
  EXPECT_FALSE(write(page(1)));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfRsvd | kPfW);
}

TEST_F(Walk, SmepStopsSupervisorFetchFromUserPage) {
  set(1, kP | kU);
  EXPECT_TRUE(fetch(page(1)));
  flush_tlb(c(), false);
  c().cr4 |= kCr4SMEP;
  EXPECT_FALSE(fetch(page(1)));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfI);
}

TEST_F(Walk, SmapNeedsAcForUserPages) {
  set(1, kP | kW | kU);
  c().cr4 |= kCr4SMAP;
  update_mode(c());
  EXPECT_FALSE(read(page(1)));
  EXPECT_FAULT(c(), kPFault, kPfP);
  m.call(sys_stac, {});
  EXPECT_TRUE(write(page(1)));
  m.call(sys_clac, {});
  EXPECT_FALSE(write(page(1)));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfW);
}

TEST_F(Walk, SmapBindsImplicitAccessesDespiteAc) {
  set(1, kP | kW | kU);
  c().cr4 |= kCr4SMAP;
  m.call(sys_stac, {});
  u64 value = 0;
  EXPECT_FALSE(system_read(c(), page(1), &value, 8));
  EXPECT_FAULT(c(), kPFault, kPfP);
}

TEST_F(Walk, GibPageMapsAndChecksItsReservedBits) {
  m.poke<u64>(SystemMachine::kPageTables + 0x1000 + 8, kP | kW | kU | 0x80);  // 1 GiB at linear 1 GiB
  u32 value = 0;
  m.poke<u32>(0x9000, 77);
  ASSERT_TRUE(read_mem(c(), kGiB + 0x9000, value));
  EXPECT_EQ(value, 77u);
  m.poke<u64>(SystemMachine::kPageTables + 0x1000 + 8, kP | kW | kU | 0x80 | 1 << 13);
  flush_tlb(c(), false);
  EXPECT_FALSE(read(kGiB));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfRsvd);
}

TEST_F(Walk, FlushOfOneAddressDropsItsWholeLargePage) {
  const u64 linear = 6 * kMiB;  // a 2 MiB page
  EXPECT_TRUE(read(linear) && read(linear + 0x5000));
  m.poke<u64>(SystemMachine::kPageTables + 0x2000 + 3 * 8, 0);
  EXPECT_TRUE(read(linear + 0x5000));  // still cached, as it may be
  flush_tlb_page(c(), linear);
  EXPECT_FALSE(read(linear + 0x5000));
}

TEST_F(Walk, GlobalPagesOutliveCr3Writes) {
  c().cr4 |= kCr4PGE;
  set(1, kP | kG);
  set(2, kP);
  EXPECT_TRUE(read(page(1)) && read(page(2)));
  m.pte(1, 0);
  m.pte(2, 0);
  write_cr3(c(), c().cr3);
  EXPECT_TRUE(read(page(1)));
  EXPECT_FALSE(read(page(2)));
}

TEST_F(Walk, DebuggerSeesTranslationWithoutTouchingFlags) {
  set(3, kP);
  GuestAddr gpa = 0;
  ASSERT_TRUE(debug_translate(c(), page(3) + 0x123, gpa));
  EXPECT_EQ(gpa, page(3) + 0x123);
  EXPECT_EQ(m.pte(3) & kA, 0u);
  set(3, 0);
  EXPECT_FALSE(debug_translate(c(), page(3), gpa));
}

// -- legacy formats ----------------------------------------------------------------------------------------------------------

class LegacyWalk : public Walk {
 protected:
  static constexpr u64 kDirectory = 0x40000, kTable = 0x41000;
  LegacyWalk() { m.go_protected(); }
  void turn_on(u64 cr4) {
    c().cr3 = kDirectory;
    ASSERT_TRUE(write_cr4(c(), cr4));
    ASSERT_TRUE(write_cr0(c(), c().cr0 | kCr0PG | kCr0WP));
  }
};

TEST_F(LegacyWalk, TwoLevelsTranslate) {
  m.poke<u32>(kDirectory + 1 * 4, kTable | 7);
  m.poke<u32>(kTable + 3 * 4, 0x30000 | 7);
  m.poke<u32>(0x30010, 4711);
  turn_on(0);
  u32 value = 0;
  ASSERT_TRUE(read_mem(c(), 0x403010, value));
  EXPECT_EQ(value, 4711u);
  EXPECT_EQ(m.peek<u32>(kTable + 3 * 4), 0x30000u | 7 | kA);
}

TEST_F(LegacyWalk, FourMibPageUsesPse36Bits) {
  m.poke<u32>(kDirectory, 0x83);
  m.poke<u32>(kDirectory + 4, 0x83 | 1 << 13);  // at 4 GiB, where nothing is
  m.poke<u32>(0x30010, 4711);
  turn_on(kCr4PSE);
  u32 value = 0;
  ASSERT_TRUE(read_mem(c(), 0x30010, value));
  EXPECT_EQ(value, 4711u);
  GuestAddr gpa = 0;
  ASSERT_TRUE(debug_translate(c(), 0x400000, gpa));
  EXPECT_EQ(gpa, u64{1} << 32);
}

TEST_F(LegacyWalk, Pse36ReservedBitFaults) {
  m.poke<u32>(kDirectory, 0x83 | 1 << 21);
  turn_on(kCr4PSE);
  EXPECT_FALSE(read(0));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfRsvd);
}

TEST_F(LegacyWalk, PaeUsesThePdptesLoadedWithCr3) {
  m.poke<u64>(kDirectory, kTable | 1);
  m.poke<u64>(kTable, 0x83);
  m.poke<u32>(0x30010, 4711);
  turn_on(kCr4PAE);
  m.poke<u64>(kDirectory, 0);  // not looked at again
  u32 value = 0;
  ASSERT_TRUE(read_mem(c(), 0x30010, value));
  EXPECT_EQ(value, 4711u);
  ASSERT_TRUE(write_cr3(c(), kDirectory));
  EXPECT_FALSE(read(0x30010));
}

TEST_F(LegacyWalk, BadPdpteFaultsTheCr3Write) {
  m.poke<u64>(kDirectory, kTable | 1);
  m.poke<u64>(kTable, 0x83);
  turn_on(kCr4PAE);
  m.poke<u64>(kDirectory + 0x20, kTable | 3);
  EXPECT_FALSE(write_cr3(c(), kDirectory + 0x20));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_EQ(c().cr3, kDirectory);
}

}  // namespace
}  // namespace atl::soft
