// Guest addresses: effective address, software TLB, host address.
//
//   lea  s0, [ea]                 ; linear address
//   rorx s1, s0, 12 - log2(entry) ; to the entry's offset
//   and  s1, mask
//   xor  s0, [tag + s1]           ; offset in the page, if it is a hit
//   cmp  s0, 4096 - size
//   ja   miss
//   add  s0, [host + s1]
#include <bit>

#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
namespace {

constexpr u8 kEntryShift = 12 - std::countr_zero(layout::kTlbStride);
constexpr i32 kEntryMask = static_cast<i32>((Tlb::kEntries - 1) * layout::kTlbStride);

}  // namespace

/// Base and index with their registers, brought to scratch 0 and 1 if they are in memory.
HostMemory Emitter::address_parts(const MemoryOperand& m) {
  HostMemory parts{.base = kNone, .index = kNone, .scale = 0, .disp = static_cast<i32>(m.disp)};
  if (m.rip) {
    a_.load(8, kScratch0, core(layout::kPageRip));
    parts.base = kScratch0;
  }
  if (m.base != kNone) parts.base = guest_in(m.base, kScratch0);
  if (m.index == kNone) return parts;
  u8 index = guest_in(m.index, kScratch1);
  if (parts.base == kNone && m.scale == 0) {
    parts.base = index;
  } else {
    parts.index = index;
    parts.scale = m.scale;
  }
  return parts;
}

void Emitter::emit_address(const MemoryOperand& m) {
  unsigned size = long_code_ && !m.narrow ? 8 : 4;
  HostMemory parts = address_parts(m);
  if (parts.base == kNone && parts.index == kNone) {
    a_.move_imm(kScratch0, size == 8 ? static_cast<u64>(m.disp) : static_cast<u32>(m.disp));
  } else if (parts.index == kNone && parts.disp == 0) {
    if (parts.base != kScratch0 || size == 4) a_.move(size, kScratch0, parts.base);
  } else {
    a_.lea(size, kScratch0, parts);
  }
  if (m.segment == kNone) return;
  a_.alu(AluOp::Add, word(), kScratch0, Place::of(core(layout::segment_base(m.segment))));
}

const InsnAccesses& Emitter::accesses() const {
  static constexpr InsnAccesses kNoWindows;
  const Version& version = versions_[version_];
  return version.plain ? kNoWindows : windows_[version.block]->accesses[index_];
}

bool Emitter::clobbers(const Access& access) const {
  return access.window == kNoWindow || windows_[versions_[version_].block]->windows[access.window].first == index_;
}

/// Host address of `size` bytes at `m` to scratch 0; flags and scratch 1 are lost.
void Emitter::look_up(const MemoryOperand& m, i64 size, bool write, const Aside& miss) {
  take_scratch();
  emit_address(m);
  check(size, write, miss);
}

/// Scratch 0 holds the linear address, and afterwards the host's.
void Emitter::check(i64 size, bool write, const Aside& miss) {
  if (host_.bmi2) {
    a_.rotate_right(kScratch1, kScratch0, kEntryShift);
  } else {
    a_.move(8, kScratch1, kScratch0);
    a_.shift_right(kScratch1, kEntryShift);
  }
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch1), kEntryMask);
  a_.alu(AluOp::Xor, 8, kScratch0, Place::of(HostMemory{kHostRsp, kScratch1, 0, layout::tlb_tag(tlb_set_, write)}));
  a_.alu_imm(AluOp::Cmp, 8, Place::of(kScratch0), static_cast<i32>(static_cast<i64>(kPageSize) - size));
  a_.jump_if(kAbove, aside(miss));
  a_.alu(AluOp::Add, 8, kScratch0, Place::of(HostMemory{kHostRsp, kScratch1, 0, layout::tlb_host(tlb_set_)}));
}

/// The window's lowest address, by way of the operand's.
void Emitter::open_window(const MemoryOperand& m, const Access& access) {
  const u16 block = versions_[version_].block;
  const Window& window = windows_[block]->windows[access.window];
  MemoryOperand lowest = m;
  lowest.disp += window.low - access.offset;
  look_up(lowest, window.high - window.low, window.write,
          {.kind = Aside::Kind::Plain, .state = s_, .insn = insn_, .block = block, .index = static_cast<u16>(index_)});
  a_.store(8, core(layout::window(window.slot)), kScratch0);
  in_scratch_ = access.window;
}

Emitter::Aside Emitter::miss_aside(bool write, HostOffset retry) const {
  return {.kind = Aside::Kind::Miss, .state = s_, .insn = insn_, .retry = retry, .resume = resume_, .resumes = !insn_->terminal(), .write = write};
}

HostMemory Emitter::reach(const MemoryOperand& m, bool write, const Access& access) {
  if (access.window == kNoWindow) {
    before_clobber();
    look_up(m, m.size, write, miss_aside(write, a_.here()));
    return {kScratch0};
  }
  if (clobbers(access)) {
    before_clobber();
    open_window(m, access);
  } else if (in_scratch_ != access.window) {
    a_.load(8, kScratch0, core(layout::window(windows_[versions_[version_].block]->windows[access.window].slot)));
    in_scratch_ = access.window;
  }
  const Window& window = windows_[versions_[version_].block]->windows[access.window];
  return {.base = kScratch0, .disp = static_cast<i32>(access.offset - window.low)};
}

HostMemory Emitter::reach_stack(u8 reg, i32 disp, bool write) {
  MemoryOperand m;
  m.present = true;
  m.base = reg;
  m.size = static_cast<u8>(word());
  m.disp = disp;
  return reach(m, write, accesses().stack);
}

}  // namespace atl::soft::translate
