#include "machine/loaders/boot_entry.h"

#include <array>

#include "cpu/spec.h"

namespace atl::machine {
namespace {

// Linux/x86 boot protocol: __BOOT_CS and __BOOT_DS.
constexpr u16 kCodeSelector = 0x10, kDataSelector = 0x18, kTaskSelector = 0x20;

// Attributes in the layout of cpu::Segment: type, S, P; D/B or L; G.
constexpr u16 kCode32 = 0xc09b, kCode64 = 0xa09b, kData = 0xc093, kTask = 0x008b;

cpu::Segment flat(u16 selector, u16 attributes) {
  return {.selector = selector, .attributes = attributes, .limit = 0xffffffff, .base = 0};
}

/// The 8-byte descriptor with base 0 and the given attributes (SDM vol. 3, section 3.4.5).
constexpr u64 descriptor(u16 attributes, u32 limit) {
  return u64{limit & 0xffff} | u64{attributes & 0xffu} << 40 | u64{limit >> 16 & 0xf} << 48 |
         u64{(attributes >> 12) & 0xfu} << 52;
}

Status write_gdt(const memory::GuestMemory& memory, u16 code) {
  const std::array<u64, 5> table = {0, 0, descriptor(code, 0xfffff), descriptor(kData, 0xfffff),
                                    descriptor(kTask, 0x67)};
  if (memory.write_object(kBootGdt, table)) return {};
  return Error(ErrorKind::Invalid, "guest memory is too small to start a kernel");
}

/// PML4, PDPT and four page directories of 2 MiB pages.
Status write_page_tables(const memory::GuestMemory& memory) {
  constexpr u64 kPresentWritable = 3, kLarge = 0x80, kLargePage = 2 * kMiB;
  std::array<u64, 6 * 512> tables{};
  tables[0] = (kBootPageTables + kPageSize) | kPresentWritable;
  for (u64 i = 0; i < 4; ++i) tables[512 + i] = (kBootPageTables + (2 + i) * kPageSize) | kPresentWritable;
  for (u64 i = 0; i < 2048; ++i) tables[1024 + i] = i * kLargePage | kPresentWritable | kLarge;
  if (memory.write_object(kBootPageTables, tables)) return {};
  return Error(ErrorKind::Invalid, "guest memory is too small to start a kernel");
}

}  // namespace

Status enter(const BootEntry& entry, const memory::GuestMemory& memory, cpu::VcpuState& state) {
  if (entry.mode == BootEntry::Mode::Reset) return {};
  const bool long_mode = entry.mode == BootEntry::Mode::Long64;
  const u16 code = long_mode ? kCode64 : kCode32;
  TRY(write_gdt(memory, code));
  if (long_mode) TRY(write_page_tables(memory));

  state.seg.fill(flat(kDataSelector, kData));
  state.seg[cpu::kCs] = flat(kCodeSelector, code);
  state.tr = {.selector = kTaskSelector, .attributes = kTask, .limit = 0x67, .base = 0};
  state.gdtr = {.base = kBootGdt, .limit = 5 * 8 - 1};
  state.idtr = {.base = 0, .limit = 0};
  state.cr0 = cpu::kCr0PE | cpu::kCr0ET;
  if (long_mode) {
    state.cr0 |= cpu::kCr0PG;
    state.cr3 = kBootPageTables;
    state.cr4 = cpu::kCr4PAE;
    state.efer = cpu::kEferLME | cpu::kEferLMA;
  }
  state.gpr.fill(0);
  state.gpr[cpu::kRax] = entry.eax;
  state.gpr[cpu::kRbx] = entry.ebx;
  state.gpr[cpu::kRsi] = entry.rsi;
  state.gpr[cpu::kRsp] = kBootStack;
  state.rip = entry.ip;
  state.rflags = 2;
  return {};
}

}  // namespace atl::machine
