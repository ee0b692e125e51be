// Control flow. What leaves the region has the flags in Core::cc.
#include <bit>

#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
namespace {

bool in_page(i32 offset) { return offset >= 0 && offset < static_cast<i32>(kPageSize); }

}  // namespace

void Emitter::target_rip(i32 target) {
  take_scratch();
  a_.load(8, kScratch0, core(layout::kPageRip));
  if (target != 0 || !long_code_) a_.lea(word(), kScratch0, {.base = kScratch0, .disp = target});
}

/// Leaves for `target` if somebody wants attention.
void Emitter::poll(i32 target) {
  before_clobber();
  a_.alu_imm(AluOp::Cmp, 4, Place::of(core(layout::kAttention)), 0);
  a_.jump_if(kNotEqual, aside({.kind = Aside::Kind::Leave, .state = s_, .insn = insn_, .target = target}));
}

/// In a block that ends with a branch backwards: polls before `insn` if the host's flags are of no more use there, which at the
/// branch itself they are.
void Emitter::poll_early(const Insn& insn) {
  bool recoverable = (s_.memory || s_.recipe) && !stale_;
  bool kills = insn.flags_killed == kArithmetic && !insn.flags_read;
  bool checks = insn.kind == Kind::Copy && insn.mem.present && clobbers(accesses().operand);
  if (!recoverable || insn.branches() || !(kills || checks)) return;
  poll(insn.offset);
  poll_due_ = false;
}

/// Goes to `elsewhere` with all registers as they are if the jump cache does not know, or somebody wants attention.
void Emitter::look_up_jump(Mode mode, Label elsewhere) {
  s_.host = false;
  a_.alu_imm(AluOp::Cmp, 4, Place::of(core(layout::kAttention)), 0);
  a_.jump_if(kNotEqual, elsewhere);
  if (host_.bmi2) {
    a_.rotate_right(kScratch1, kScratch0, kJumpBits);
  } else {
    a_.move(8, kScratch1, kScratch0);
    a_.shift_right(kScratch1, kJumpBits);
  }
  a_.alu(AluOp::Xor, 4, kScratch1, Place::of(kScratch0));
  a_.alu_imm(AluOp::And, 4, Place::of(kScratch1), kJumpEntries - 1);
  a_.shift_left(4, kScratch1, std::countr_zero(sizeof(JumpEntry)));
  i32 table = layout::jump_table(mode);
  a_.alu(AluOp::Cmp, 8, kScratch0, Place::of(HostMemory{kHostRsp, kScratch1, 0, table + static_cast<i32>(offsetof(JumpEntry, rip))}));
  a_.jump_if(kNotEqual, elsewhere);
  a_.jump_memory({kHostRsp, kScratch1, 0, table + static_cast<i32>(offsetof(JumpEntry, code))});
}

void Emitter::look_up_jump(Mode mode) {
  Label elsewhere = a_.new_label();
  look_up_jump(mode, elsewhere);
  a_.bind(elsewhere);
  jump_thunk(Thunk::Lookup);
}

void Emitter::leave_indirect() {
  s_.host = false;
  look_up_jump(request_.mode, aside({.kind = Aside::Kind::Indirect, .state = s_, .insn = insn_}));
}

/// A target that is not canonical is a fault of the branch (SDM vol. 2, JMP, CALL, RET), which the interpreter raises once RSP is
/// what it was.
void Emitter::emit_elsewhere(const Aside& what) {
  if (long_code_) {
    constexpr u8 kSignBit = 47;
    Label canonical = a_.new_label();
    a_.move(8, kScratch1, kScratch0);
    a_.shift_right(kScratch1, kSignBit);
    a_.alu_imm(AluOp::Add, 4, Place::of(kScratch1), 1);
    a_.test_imm(4, Place::of(kScratch1), 0x1fffe);  // of 0 and 1FFFF, plus 1
    a_.jump_if(kEqual, canonical);
    if (what.insn->kind == Kind::Ret) move_stack(-static_cast<i32>(word() + (what.insn->imm & 0xffff)));
    if (what.insn->kind == Kind::CallIndirect) move_stack(static_cast<i32>(word()));
    emit_single(*what.insn);
    a_.bind(canonical);
  }
  jump_thunk(Thunk::Lookup);
}

void Emitter::leave_direct(i32 target) {
  ensure_memory();
  target_rip(target);
  look_up_jump(request_.mode);
}

/// A jump that the runtime may point elsewhere, with the way through the runtime right behind it.
void Emitter::link(u16 target) {
  ensure_memory();
  a_.align(4, 1);
  HostOffset field = a_.jump_field();
  draft_.links.push_back({field, a_.here(), target});
  target_rip(target);
  jump_thunk(Thunk::Lookup);
}

/// Into a block of the region; falls into it if it has not been emitted yet.
void Emitter::enter_block(u16 block) {
  size_t version = find_version(block, s_);
  if (version == kNoVersion) {
    ensure_memory();
    s_ = {};
    version = find_version(block, s_);
  }
  if (!inline_ && !versions_[version].emitted) {
    next_version_ = version;
  } else {
    a_.jump(versions_[version].label);
  }
}

void Emitter::transfer(i32 target, bool backward) {
  if (!in_page(target)) return leave_direct(target);
  if (backward && poll_due_) poll(target);
  u16 block = region_.block_at(static_cast<u16>(target));
  if (block == kNoBlock) link(static_cast<u16>(target));
  else enter_block(block);
}

void Emitter::fall_through(const Block& block) {
  transfer(block.end, false);
}

/// Whether the branch can go straight to a version of its target: nothing to do on the way.
bool Emitter::branch_directly(const Insn& insn) {
  if (!in_page(insn.target) || (poll_due_ && insn.loops())) return false;
  u16 block = region_.block_at(static_cast<u16>(insn.target));
  if (block == kNoBlock) return false;
  size_t version = find_version(block, s_);
  if (version == kNoVersion) return false;
  a_.jump_if(insn.cond, versions_[version].label);
  return true;
}

void Emitter::emit_jcc(const Insn& insn) {
  ensure_host();
  if (branch_directly(insn)) return;
  bool loop = insn.loops() && region_.block_at(static_cast<u16>(insn.target)) != kNoBlock;
  if (!loop) {
    a_.jump_if(insn.cond, aside({.kind = Aside::Kind::Branch, .state = s_, .insn = insn_, .target = insn.target}));
    return;
  }
  Label skip = a_.new_label();
  a_.jump_if(insn.cond ^ 1, skip);
  jump_inline(insn.target, true);
  a_.bind(skip);
}

void Emitter::jump_aside(const Insn& insn) {
  a_.jump(aside({.kind = Aside::Kind::Branch, .state = s_, .insn = insn_, .target = insn.target}));
}

/// transfer() in the middle of a block: control goes on behind it in the state before.
void Emitter::jump_inline(i32 target, bool backward) {
  State before = s_;
  inline_ = true;
  transfer(target, backward);
  inline_ = false;
  s_ = before;
}

void Emitter::emit_loop(const Insn& insn) {
  u8 rcx = kHostOf[kRcx];
  a_.lea(word(), rcx, {.base = rcx, .disp = -1});
  note_flags(insn);
  Label done = a_.new_label();
  a_.jump_count_zero(done);
  jump_aside(insn);
  a_.bind(done);
}

void Emitter::emit_count_zero(const Insn& insn) {
  Label taken = a_.new_label(), done = a_.new_label();
  a_.jump_count_zero(taken);
  a_.jump(done);
  a_.bind(taken);
  jump_aside(insn);
  a_.bind(done);
}

void Emitter::emit_call(const Insn& insn) {
  ensure_memory();
  emit_push_return(insn);
  s_.recipe = {};
  transfer(insn.target, insn.target <= insn.offset);
}

void Emitter::emit_ret(const Insn& insn) {
  ensure_memory();
  HostMemory at = reach_stack(kRsp, 0, false);
  a_.load(word(), kScratch0, at);
  move_stack(static_cast<i32>(word() + (insn.imm & 0xffff)));
  leave_indirect();
}

void Emitter::emit_indirect(const Insn& insn) {
  ensure_memory();
  bool call = insn.kind == Kind::CallIndirect;
  if (insn.mem.present) {
    HostMemory at = reach(insn.mem, false, accesses().operand);
    take_scratch();
    a_.load(word(), kScratch0, at);
  } else {
    take_scratch();
    load_guest(kScratch0, insn.rm.reg);
  }
  if (call) {
    a_.store(8, core(layout::slot(0)), kScratch0);
    emit_push_return(insn);
    a_.load(8, kScratch0, core(layout::slot(0)));
  }
  leave_indirect();
}

void Emitter::emit_call_out(const Insn& insn) {
  ensure_memory();
  call_thunk(Thunk::CallOut);
  a_.bind(resume_);
  add_site({.at = a_.here(), .offset = insn.offset, .op = insn.op, .vectors = s_.vectors}, resume_, !insn.ends);
  s_ = {.host = true, .memory = true, .vectors = s_.vectors};
  stale_ = false;
  take_scratch();
}

}  // namespace atl::soft::translate
