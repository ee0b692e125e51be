#include "cpu/soft/system/state.h"

#include "cpu/soft/system/msr.h"
#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

class State : public testing::Test {
 protected:
  Core& c() { return m.core(); }
  SystemMachine m;
};

TEST_F(State, ExportedStateImportsToTheSame) {
  reset_core(c(), true);
  m.enter_long_mode();
  c().gpr[kR9] = 0x1234;
  c().set_rflags(0x246);
  c().msr.lstar = 0xffffffff80000000;
  c().msr.pat = 0x0000050100070406;
  c().interrupt_shadow = true;
  VcpuState first, second;
  export_state(c(), first);
  reset_core(c(), true);
  ASSERT_TRUE(import_state(c(), first).has_value());
  EXPECT_EQ(c().code_size, CodeSize::k64);
  export_state(c(), second);
  EXPECT_EQ(first.gpr, second.gpr);
  EXPECT_EQ(first.rflags, second.rflags);
  EXPECT_EQ(first.seg, second.seg);
  EXPECT_EQ(first.msrs, second.msrs);
  EXPECT_EQ(first.events, second.events);
  EXPECT_EQ(first.xsave, second.xsave);
}

TEST_F(State, ImpossibleValuesAreRefusedByName) {
  VcpuState good;
  export_state(c(), good);
  auto refused = [&](auto change, std::string_view name) {
    VcpuState bad = good;
    change(bad);
    Status status = import_state(c(), bad);
    ASSERT_FALSE(status.has_value()) << name;
    EXPECT_NE(status.error().text().find(name), std::string::npos) << status.error().text();
  };
  refused([](VcpuState& s) { s.cr0 = kCr0PG; }, "CR0");
  refused([](VcpuState& s) { s.cr4 = 1u << 12; }, "CR4");
  refused([](VcpuState& s) { s.efer &= ~u64{kEferLMA}; }, "EFER");
  refused([](VcpuState& s) { s.rip = u64{1} << 50; }, "RIP");
  refused([](VcpuState& s) { s.xcr0 = 4; }, "XCR0");
  refused([](VcpuState& s) { s.rflags = u64{1} << 40; }, "RFLAGS");
  refused([](VcpuState& s) { s.seg[kFs].base = u64{1} << 60; }, "segment");
  refused([](VcpuState& s) { s.mp_state = static_cast<MpState>(99); }, "activity");
  refused([](VcpuState& s) { s.msrs = {{kMsrLstar, u64{1} << 60}}; }, "MSR 0xc0000082");
  EXPECT_TRUE(import_state(c(), good).has_value());
}

TEST_F(State, ResetStartsAtTheTopOfTheAddressSpace) {
  reset_core(c(), true);
  EXPECT_EQ(c().seg[kCs].base + c().rip, 0xfffffff0u);
  EXPECT_EQ(c().code_size, CodeSize::k16);
  EXPECT_EQ(c().mp_state, MpState::Runnable);
  EXPECT_EQ(c().cpl, 0);
}

TEST_F(State, InitKeepsExtendedStateAndMsrs) {
  c().index = 1;
  c().ext.xsave[200] = 0x77;
  c().msr.lstar = 0x1000;
  c().cr0 &= ~u64{kCr0CD};
  c().attention |= kAttendSipi;  // sent right after the INIT
  init_core(c());
  EXPECT_TRUE(c().attention & kAttendSipi);
  EXPECT_EQ(c().ext.xsave[200], 0x77);
  EXPECT_EQ(c().msr.lstar, 0x1000u);
  EXPECT_EQ(c().mp_state, MpState::InitReceived);
  EXPECT_FALSE(c().cr0 & kCr0CD);
  start_sipi(c(), 0x9a);
  EXPECT_EQ(c().mp_state, MpState::Runnable);
  EXPECT_EQ(c().seg[kCs].base, 0x9a000u);
  EXPECT_EQ(c().rip, 0u);
  start_sipi(c(), 0x10);
  EXPECT_EQ(c().seg[kCs].base, 0x9a000u) << "a running core ignores SIPI";
}

// -- model-specific registers --------------------------------------------------------------------------------------------------

TEST_F(State, UnknownMsrFaults) {
  c().gpr[kRcx] = 0xdead;
  EXPECT_FALSE(m.call(sys_rdmsr, {}));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_FALSE(m.call(sys_wrmsr, {}));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(State, MsrsCheckTheirValues) {
  EXPECT_FALSE(write_msr(c(), kMsrLstar, u64{1} << 47));
  EXPECT_FALSE(write_msr(c(), kMsrPat, 2));
  EXPECT_FALSE(write_msr(c(), kMsrMtrrDefType, 3));
  EXPECT_FALSE(write_msr(c(), kMsrMtrrFix64k, 0x0202020202020202));
  EXPECT_FALSE(write_msr(c(), kMsrEfer, u64{1} << 20));
  EXPECT_FALSE(write_msr(c(), kMsrMtrrCap, 0));
  EXPECT_TRUE(write_msr(c(), kMsrMtrrPhysBase0 + 1, 0xffffff000 | 0x800));
}

TEST_F(State, TscMovesTogetherWithItsAdjustment) {
  u64 adjust = 0, tsc = 0;
  ASSERT_TRUE(write_msr(c(), kMsrTsc, 1'000'000));
  ASSERT_TRUE(read_msr(c(), kMsrTsc, tsc));
  EXPECT_EQ(tsc, 1'000'000u);  // the machine's clock stands still
  ASSERT_TRUE(read_msr(c(), kMsrTscAdjust, adjust));
  ASSERT_TRUE(write_msr(c(), kMsrTscAdjust, adjust + 500));
  EXPECT_EQ(read_tsc(c()), 1'000'500u);
}

TEST_F(State, UserReadsTscUnlessDisabled) {
  m.go_user64();
  EXPECT_TRUE(m.call(sys_rdtsc, {}));
  c().cr4 |= kCr4TSD;
  EXPECT_FALSE(m.call(sys_rdtsc, {}));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(State, CpuidFollowsOsxsave) {
  c().gpr[kRax] = 1;
  c().gpr[kRcx] = 0;
  ASSERT_TRUE(m.call(sys_cpuid, {}));
  EXPECT_TRUE(c().gpr[kRcx] & 1u << 27);
  c().cr4 &= ~u64{kCr4OSXSAVE};
  c().gpr[kRax] = 1;
  ASSERT_TRUE(m.call(sys_cpuid, {}));
  EXPECT_FALSE(c().gpr[kRcx] & 1u << 27);
}

TEST_F(State, InvpcidChecksItsDescriptor) {
  m.poke<u64>(0x9000, 0);
  m.poke<u64>(0x9008, u64{1} << 47);
  c().gpr[kRax] = 0;
  EXPECT_FALSE(m.call(sys_invpcid, {.disp = 0x9000, .dst = kRax}));
  EXPECT_FAULT(c(), kGP, 0);
  c().gpr[kRax] = 2;
  EXPECT_TRUE(m.call(sys_invpcid, {.disp = 0x9000, .dst = kRax}));
  c().gpr[kRax] = 4;
  EXPECT_FALSE(m.call(sys_invpcid, {.disp = 0x9000, .dst = kRax}));
}

TEST_F(State, HaltStopsTheCoreAtCplZeroOnly) {
  ASSERT_TRUE(m.call(sys_hlt, {}));
  EXPECT_EQ(c().mp_state, MpState::Halted);
  m.go_user64();
  EXPECT_FALSE(m.call(sys_hlt, {}));
  EXPECT_FAULT(c(), kGP, 0);
}

}  // namespace
}  // namespace atl::soft
