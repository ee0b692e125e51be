// Instructions that reach into the next page of the linear address space. What is there is not known when they run: another
// page may be mapped, or other bytes written. So each time the fetch entry for that page must be there, and its bytes must be
// those that were translated; else the interpreter runs this one instruction.
#include <bit>

#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
namespace {

constexpr u8 kEntryShift = 12 - std::countr_zero(layout::kFetchStride);
constexpr i32 kEntryMask = static_cast<i32>((Tlb::kFetchEntries - 1) * layout::kFetchStride);

}  // namespace

/// `count` bytes of the tail, from `offset` in it, against [scratch 0].
void Emitter::compare_bytes(u16 offset, size_t count, Label differ) {
  while (count) {
    unsigned size = count >= 4 ? 4 : count >= 2 ? 2 : 1;
    u32 expected = 0;
    for (unsigned i = 0; i < size; ++i) expected |= u32{request_.page[kPageSize + offset + i]} << 8 * i;
    i32 value = size == 4 ? static_cast<i32>(expected) : size == 2 ? static_cast<i16>(expected) : static_cast<i8>(expected);
    a_.alu_imm(AluOp::Cmp, size, Place::of(HostMemory{.base = kScratch0, .disp = offset}), value);
    a_.jump_if(kNotEqual, differ);
    offset = static_cast<u16>(offset + size);
    count -= size;
  }
}

void Emitter::guard_tail(const Insn& insn) {
  before_clobber();
  const bool user = tlb_set_ == kUserSet;
  Label differs = aside({.kind = Aside::Kind::Single, .state = s_, .insn = insn_});
  target_rip(kPageSize);
  a_.move(8, kScratch1, kScratch0);
  a_.shift_right(kScratch1, kEntryShift);
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch1), kEntryMask);
  a_.alu(AluOp::Xor, 8, kScratch0, Place::of(HostMemory{kHostRsp, kScratch1, 0, layout::fetch(user, offsetof(FetchEntry, tag))}));
  a_.jump_if(kNotEqual, differs);
  a_.load(8, kScratch0, {kHostRsp, kScratch1, 0, layout::fetch(user, offsetof(FetchEntry, host))});
  a_.test(8, Place::of(kScratch0), kScratch0);
  a_.jump_if(kEqual, differs);
  compare_bytes(0, insn.end() - kPageSize, differs);
}

}  // namespace atl::soft::translate
