#include "cpu/soft/system/smm.h"

#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/state.h"
#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

constexpr GuestAddr kSmbase = 0x40000, kSave = kSmbase + 0x8000;  // AMD's table counts from here

class Smm : public testing::Test {
 protected:
  Smm() {
    c().smbase = kSmbase;
    c().gpr[kR15] = 0xf15;
    c().gpr[kRax] = 0xa0;
    c().set_rflags(0x246);
    c().rip = c().next_rip = 0x1234;
  }
  Core& c() { return m.core(); }
  SystemMachine m;
};

TEST_F(Smm, TheHandlerStartsInRealModeWithLargeSegments) {
  enter_smm(c());
  EXPECT_TRUE(c().smm);
  EXPECT_EQ(c().rip, 0x8000u);
  EXPECT_EQ(c().seg[kCs].base, kSmbase);
  EXPECT_EQ(c().seg[kCs].selector, kSmbase >> 4);
  EXPECT_EQ(c().seg[kDs].limit, 0xffffffffu);
  EXPECT_EQ(c().cr0 & (kCr0PE | kCr0PG), 0u);
  EXPECT_EQ(c().efer, 0u);
  EXPECT_EQ(c().rflags(), 2u);
  EXPECT_TRUE(c().nmi_masked);
}

TEST_F(Smm, TheStateLiesWhereTheManualHasIt) {
  const u64 cr3 = c().cr3;
  enter_smm(c());
  EXPECT_EQ(m.peek<u32>(kSave + 0x7efc), 0x20064u);
  EXPECT_EQ(m.peek<u32>(kSave + 0x7f00), kSmbase);
  EXPECT_EQ(m.peek<u64>(kSave + 0x7f50), cr3);
  EXPECT_EQ(m.peek<u64>(kSave + 0x7f78), 0x1234u);
  EXPECT_EQ(m.peek<u64>(kSave + 0x7f80), 0xf15u);
  EXPECT_EQ(m.peek<u64>(kSave + 0x7ff8), 0xa0u);
  EXPECT_EQ(m.peek<u16>(kSave + 0x7e10), 8u) << "CS";
  EXPECT_EQ(m.peek<u16>(kSave + 0x7e12), 0xa09bu);
}

TEST_F(Smm, RsmGoesBackAndTakesTheNewSmbase) {
  VcpuState before, after;
  export_registers(c(), before);
  enter_smm(c());
  c().gpr[kR15] = 0;
  m.poke<u32>(kSave + 0x7f00, 0x50000);
  m.poke<u64>(kSave + 0x7ff8, 0xbeef);
  ASSERT_TRUE(m.call(sys_rsm, {}));
  export_registers(c(), after);
  EXPECT_FALSE(c().smm);
  EXPECT_EQ(after.smbase, 0x50000u);
  EXPECT_EQ(after.gpr[kRax], 0xbeefu);
  EXPECT_EQ(after.gpr[kR15], 0xf15u);
  EXPECT_EQ(after.seg, before.seg);
  EXPECT_EQ(after.tr, before.tr);
  EXPECT_EQ(after.gdtr, before.gdtr);
  EXPECT_EQ(after.cr0, before.cr0);
  EXPECT_EQ(after.efer, before.efer);
  EXPECT_EQ(after.rflags, before.rflags);
  EXPECT_EQ(c().next_rip, 0x1234u);
  EXPECT_FALSE(c().nmi_masked);
}

TEST_F(Smm, AHaltGoesOnAfterRsm) {
  c().mp_state = MpState::Halted;
  enter_smm(c());
  EXPECT_EQ(c().mp_state, MpState::Runnable);
  ASSERT_TRUE(m.call(sys_rsm, {}));
  EXPECT_EQ(c().mp_state, MpState::Halted);
}

TEST_F(Smm, AStateThatCannotBeShutsDown) {
  enter_smm(c());
  m.poke<u32>(kSave + 0x7f58, kCr0PG);
  ASSERT_TRUE(m.call(sys_rsm, {}));
  EXPECT_TRUE(c().shutdown);
}

TEST_F(Smm, RsmOutsideIsUndefined) {
  EXPECT_FALSE(m.call(sys_rsm, {}));
  EXPECT_EQ(c().fault.vector, kUD);
}

TEST_F(Smm, HiddenMemoryIsThereInside) {
  struct Hidden : memory::BusDevice {
    u64 bus_read(u64, unsigned) override { return 0x77; }
    void bus_write(u64, u64, unsigned) override {}
  } hidden;
  MUST(m.memory().add({.name = "hidden", .base = 0x60000, .size = 0x1000, .priority = 1, .device = &hidden,
                       .audience = memory::Audience::NormalOnly}));  // free there
  EXPECT_EQ(c().memory_bus->read(0x60000, 1), 0x77u);
  enter_smm(c());
  EXPECT_EQ(c().memory_bus->read(0x60000, 1), 0u);
  EXPECT_NE(c().tlb.physical.find(0x60000, 1), nullptr);
  ASSERT_TRUE(m.call(sys_rsm, {}));
  EXPECT_EQ(c().tlb.physical.find(0x60000, 1), nullptr);
}

TEST_F(Smm, SavedStateTellsOfIt) {
  enter_smm(c());
  VcpuState state;
  export_state(c(), state);
  EXPECT_TRUE(state.events.in_smm);
  reset_core(c(), true);
  EXPECT_FALSE(c().smm);
  EXPECT_EQ(c().smbase, 0x30000u);
  ASSERT_TRUE(import_state(c(), state).has_value());
  EXPECT_TRUE(c().smm);
  EXPECT_EQ(c().smbase, kSmbase);
}

}  // namespace
}  // namespace atl::soft
