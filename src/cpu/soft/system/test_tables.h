// A TestMachine with descriptor tables, a TSS and page tables of its own to break, for the tests of system/ and mmu/.
#pragma once

#include <gtest/gtest.h>

#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/events.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/segments.h"

namespace atl::soft {

class SystemMachine : public TestMachine {
 public:
  static constexpr u64 kGdt = 0x5000, kIdt = 0x6000, kTss = 0x7000, kPageTable = 0x8000, kRing0Stack = 0x28000;
  static constexpr u64 kPages = 4 * kMiB;  // the 2 MiB that kPageTable maps, one to one
  enum Selector : u16 {
    kCode64 = 0x08, kData0 = 0x10, kCode32 = 0x18, kUserCode32 = 0x23, kUserData = 0x2b, kUserCode64 = 0x33, kTssSelector = 0x38,
    kCode16 = 0x48, kData16 = 0x50, kSpare = 0x60, kSpare2 = 0x70,
  };

  SystemMachine() {
    Core& c = core();
    c.gdtr = {kGdt, 0xff};
    c.idtr = {kIdt, 0xfff};
    descriptor(kCode64, 0xaf9b, 0, 0xfffff);
    descriptor(kData0, 0xcf93, 0, 0xfffff);
    descriptor(kCode32, 0xcf9b, 0, 0xfffff);
    descriptor(kUserCode32, 0xcffb, 0, 0xfffff);
    descriptor(kUserData, 0xcff3, 0, 0xfffff);
    descriptor(kUserCode64, 0xaffb, 0, 0xfffff);
    descriptor(kCode16, 0x009b, 0, 0xffff);
    descriptor(kData16, 0x0093, 0, 0xffff);
    descriptor(kTssSelector, 0x008b, kTss, 0x67);
    c.tr = {.selector = kTssSelector, .attributes = 0x8b, .limit = 0x67, .base = kTss};
    poke<u64>(kTss + 4, kRing0Stack);
  }

  /// `flags`: bytes 5 and 6 of a descriptor, as in 0xcf9b.
  void descriptor(u16 selector, u16 flags, u32 base, u32 limit) {
    u64 raw = (limit & 0xffff) | u64{base & 0xffffff} << 16 | u64{flags & 0xffu} << 40 | u64{limit >> 16 & 15} << 48 |
              u64{flags >> 12 & 15u} << 52 | u64{base >> 24} << 56;
    poke<u64>(kGdt + (selector & ~7u), raw);
  }
  void gate64(u8 vector, u16 selector, u64 offset, u8 type = kInterruptGate32, u8 dpl = 0, u8 ist = 0) {
    poke<u64>(kIdt + vector * 16u, gate_low(selector, static_cast<u32>(offset), type, dpl) | u64{ist} << 32);
    poke<u64>(kIdt + vector * 16u + 8, offset >> 32);
  }
  void gate32(u8 vector, u16 selector, u32 offset, u8 type = kInterruptGate32, u8 dpl = 0) {
    poke<u64>(kIdt + vector * 8u, gate_low(selector, offset, type, dpl));
  }
  /// Maps kPages with 4 KiB pages through kPageTable; entry 0 stands for kPages itself.
  void use_page_table() {
    for (u64 i = 0; i < 512; ++i) poke<u64>(kPageTable + i * 8, (kPages + i * 4096) | 7);
    poke<u64>(kPageTables + 0x2000 + (kPages >> 21) * 8, kPageTable | 7);
  }
  void pte(u64 page, u64 value) { poke<u64>(kPageTable + page * 8, value); }
  u64 pte(u64 page) { return peek<u64>(kPageTable + page * 8); }

  /// 64-bit code at CPL 3.
  void go_user64() {
    Core& c = core();
    c.seg[kCs] = {.selector = kUserCode64, .attributes = 0xa0fb, .limit = 0xffffffff};
    c.seg[kSs] = {.selector = kUserData, .attributes = 0xc0f3, .limit = 0xffffffff};
    update_mode(c);
  }
  /// Flat 32-bit protected mode without paging, with these tables.
  void go_protected() {
    enter_protected_mode();
    Core& c = core();
    c.seg[kCs].selector = kCode32;
    for (SegReg reg : {kSs, kDs, kEs, kFs, kGs}) c.seg[reg].selector = kData0;
    poke<u32>(kTss + 4, kRing0Stack);
    poke<u32>(kTss + 8, kData0);
    c.idtr.limit = 0x7ff;
  }
  void go_user32() {
    Core& c = core();
    c.seg[kCs] = {.selector = kUserCode32, .attributes = 0xc0fb, .limit = 0xffffffff};
    for (SegReg reg : {kSs, kDs, kEs, kFs, kGs}) c.seg[reg] = {.selector = kUserData, .attributes = 0xc0f3, .limit = 0xffffffff};
    update_mode(c);
  }

  /// Calls a system instruction as the wrapper does: RIP moves on only if it succeeds.
  bool call(SystemFunction function, const Op& op, unsigned length = 2) {
    Core& c = core();
    c.fault_pending = false;
    c.next_rip = c.rip + length;
    if (!function(c, op)) return false;
    c.rip = c.next_rip;
    return true;
  }
  /// The qword (or dword) `index` places above the stack pointer.
  u64 stack64(unsigned index) { return peek<u64>(core().gpr[kRsp] + index * 8); }
  u32 stack32(unsigned index) { return peek<u32>(core().gpr[kRsp] + index * 4); }

 private:
  static u64 gate_low(u16 selector, u32 offset, u8 type, u8 dpl) {
    return (offset & 0xffff) | u64{selector} << 16 | u64{0x80u | dpl << 5 | type} << 40 | u64{offset >> 16} << 48;
  }
};

#define EXPECT_FAULT(core, expected_vector, expected_error)                \
  do {                                                                     \
    EXPECT_TRUE((core).fault_pending);                                     \
    EXPECT_EQ((core).fault.vector, (expected_vector));                     \
    EXPECT_EQ((core).fault.error, static_cast<u32>(expected_error));       \
  } while (0)

}  // namespace atl::soft
