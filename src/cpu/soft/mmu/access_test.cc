#include "cpu/soft/mmu/access.h"

#include "cpu/soft/system/control_registers.h"
#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

constexpr u64 kMmio = 64 * kMiB;

struct Recorder final : memory::BusDevice {
  struct Call {
    u64 offset, value;
    unsigned width;
    bool operator==(const Call&) const = default;
  };
  u64 bus_read(u64 offset, unsigned width) override {
    calls.push_back({offset, 0, width});
    return 0x1122334455667788;
  }
  void bus_write(u64 offset, u64 value, unsigned width) override { calls.push_back({offset, value, width}); }
  std::vector<Call> calls;
};

class MemoryAccess : public testing::Test {
 protected:
  MemoryAccess() { m.use_page_table(); }
  Core& c() { return m.core(); }
  u64 page(u64 number) { return SystemMachine::kPages + number * 4096; }
  void add_device() {
    MUST(m.memory().add({.name = "recorder", .base = kMmio, .size = 4096, .device = &device}));  // the place is free
  }
  SystemMachine m;
  Recorder device;
};

TEST_F(MemoryAccess, WriteAcrossPagesChangesNothingIfTheSecondFaults) {
  m.pte(2, page(2) | 1);  // read-only
  m.poke<u64>(page(2) - 8, 0);
  EXPECT_FALSE(write_mem<u64>(c(), page(2) - 4, ~u64{0}));
  EXPECT_FAULT(c(), kPFault, kPfP | kPfW);
  EXPECT_EQ(c().fault.address, page(2));
  EXPECT_EQ(m.peek<u64>(page(2) - 8), 0u);
}

TEST_F(MemoryAccess, AccessAcrossPagesReachesBothFrames) {
  m.pte(1, page(7) | 7);
  m.pte(2, page(5) | 7);
  ASSERT_TRUE(write_mem<u64>(c(), page(2) - 3, 0x8877665544332211));
  EXPECT_EQ(m.peek<u16>(page(8) - 3), 0x2211);
  EXPECT_EQ(m.peek<u32>(page(5)), 0x77665544u);
  u64 back = 0;
  ASSERT_TRUE(read_mem(c(), page(2) - 3, back));
  EXPECT_EQ(back, 0x8877665544332211);
}

TEST_F(MemoryAccess, LinearAddressesWrapAt4GibOutsideLongMode) {
  m.go_protected();
  m.poke<u16>(0, 0xbeef);
  u32 value = 0;
  ASSERT_TRUE(read_mem(c(), 0xfffffffe, value));
  EXPECT_EQ(value >> 16, 0xbeefu);
}

TEST_F(MemoryAccess, DeviceSeesPowersOfTwo) {
  add_device();
  u8 bytes[7] = {1, 2, 3, 4, 5, 6, 7};
  ASSERT_TRUE(write_slow(c(), kMmio + 8, bytes, 7));
  ASSERT_EQ(device.calls.size(), 3u);
  EXPECT_EQ(device.calls[0], (Recorder::Call{8, 0x04030201, 4}));
  EXPECT_EQ(device.calls[1], (Recorder::Call{12, 0x0605, 2}));
  EXPECT_EQ(device.calls[2], (Recorder::Call{14, 7, 1}));
}

TEST_F(MemoryAccess, NewMapIsSeenByTheNextSlowAccess) {
  u32 value = 0;
  ASSERT_TRUE(read_mem(c(), kMmio, value));
  EXPECT_EQ(value, 0xffffffff);
  add_device();
  ASSERT_TRUE(read_mem(c(), kMmio, value));
  EXPECT_EQ(value, 0x55667788u);
}

TEST_F(MemoryAccess, RomIgnoresWrites) {
  auto rom = MUST(memory::RamBlock::create("rom", 4096, {}));  // one page
  rom->data()[0] = 0x5a;
  MUST(m.memory().add({.name = "rom", .base = kMmio, .size = 4096, .ram = rom, .readonly = true}));
  u8 value = 0;
  EXPECT_TRUE(write_mem<u8>(c(), kMmio, 1));
  EXPECT_TRUE(read_mem(c(), kMmio, value));
  EXPECT_EQ(value, 0x5a);
  EXPECT_EQ(fast_host(c(), kMmio, 1, Access::Write), nullptr);
  EXPECT_NE(fast_host(c(), kMmio, 1, Access::Read), nullptr);
}

TEST_F(MemoryAccess, WriteToCodePageRaisesItsVersionAndLeavesTheBlock) {
  ASSERT_TRUE(write_mem<u8>(c(), page(1), 1));
  m.vm().code.mark(page(1));
  drop_write_tags(c(), page(1));
  const u32 version = m.vm().code.version(page(1));
  c().leave_block = false;
  ASSERT_TRUE(write_mem<u8>(c(), page(1), 2));
  EXPECT_TRUE(c().leave_block);
  EXPECT_NE(m.vm().code.version(page(1)), version);
}

TEST_F(MemoryAccess, AtomicHostIsRefusedForDevicesAndCrossings) {
  add_device();
  EXPECT_NE(host_for_atomic(c(), page(1), 8), nullptr);
  EXPECT_EQ(host_for_atomic(c(), page(1) - 4, 8), nullptr);
  EXPECT_EQ(host_for_atomic(c(), kMmio, 4), nullptr);
  EXPECT_FALSE(c().fault_pending);
  m.pte(3, 0);
  EXPECT_EQ(host_for_atomic(c(), page(3), 4), nullptr);
  EXPECT_FAULT(c(), kPFault, kPfW);
}

TEST_F(MemoryAccess, MisalignedUserAccessFaultsWithAlignmentChecks) {
  m.go_user64();
  c().cr0 |= kCr0AM;
  c().other_flags |= kAC;
  update_mode(c());
  u32 value = 0;
  EXPECT_TRUE(read_mem(c(), page(1) + 4, value));
  EXPECT_FALSE(read_mem(c(), page(1) + 2, value));
  EXPECT_FAULT(c(), kACheck, 0);
}

TEST_F(MemoryAccess, DataBreakpointIsNotedAndKeepsThePageSlow) {
  ASSERT_TRUE(write_mem<u32>(c(), page(1), 1));
  c().gpr[kRax] = page(1) + 4;
  ASSERT_TRUE(m.call(sys_mov_to_dr, {.src = kRax, .extra = 0}));
  c().gpr[kRax] = 0x400 | 2 | 0xd << 16;  // G0, four bytes, writes
  ASSERT_TRUE(m.call(sys_mov_to_dr, {.src = kRax, .extra = 7}));
  ASSERT_TRUE(write_mem<u32>(c(), page(1), 1));
  EXPECT_EQ(c().debug_hits, 0u);
  ASSERT_TRUE(write_mem<u8>(c(), page(1) + 7, 1));
  EXPECT_EQ(c().debug_hits, 1u);
  EXPECT_TRUE(c().leave_block);
}

TEST_F(MemoryAccess, StringRunReachesThePageEnd) {
  ASSERT_TRUE(write_mem<u8>(c(), page(2), 1));  // takes up the memory map
  HostRun run = host_run(c(), page(1) + 16, Access::Write);
  EXPECT_NE(run.host, nullptr);
  EXPECT_EQ(run.bytes, 4096u - 16);
}

TEST_F(MemoryAccess, StringRunOfAnUnmappedPageRecordsNoFault) {
  EXPECT_EQ(host_run(c(), u64{1} << 40, Access::Read).host, nullptr);
  EXPECT_EQ(host_run(c(), u64{1} << 63, Access::Read).host, nullptr);
  EXPECT_FALSE(c().fault_pending);
}

}  // namespace
}  // namespace atl::soft
