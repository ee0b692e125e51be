// PUSH POP LEAVE, and ENTER, PUSHA, POPA, POP to memory, which run as system functions (misc.h).
#include "cpu/soft/exec/stack.h"

#include "cpu/soft/exec/misc.h"
#include "cpu/soft/exec/pick.h"

namespace atl::soft {

void move_stack_pointer(Core& core, u64 delta) {
  u64 mask = stack_mask(core);
  core.gpr[kRsp] = (core.gpr[kRsp] & ~mask) | ((core.gpr[kRsp] + delta) & mask);
  if (mask == 0xffffffff) core.gpr[kRsp] &= mask;
}

bool push_slow(Core& core, u64 value, unsigned size) {
  u64 linear = 0;
  u64 offset = (core.gpr[kRsp] - size) & stack_mask(core);
  if (!segment_linear(core, kSs, offset, size, true, linear)) return false;
  if (!write_slow(core, linear, &value, size)) return false;
  move_stack_pointer(core, u64{0} - size);
  return true;
}

Loaded peek_stack(Core& core, unsigned size, u64 displace) {
  u64 linear = 0, value = 0;
  u64 offset = (core.gpr[kRsp] + displace) & stack_mask(core);
  bool ok = segment_linear(core, kSs, offset, size, false, linear) && read_slow(core, linear, &value, size);
  return {value, ok};
}

namespace {

template <class T, StackKind S>
const Op* push_reg(Core& core, const Op* op) {
  return push_then<T, S, next>(core, op, reg<T>(core, op->dst));
}

template <class T, StackKind S>
const Op* push_imm(Core& core, const Op* op) {
  return push_then<T, S, next>(core, op, static_cast<T>(op->imm));
}

template <class T, StackKind S, AddressKind A>
const Op* push_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T value) { return push_then<T, S, next>(c, o, value); }>(core, op);
}

template <class T, StackKind S>
const Op* pop_reg(Core& core, const Op* op) {
  return peek_then<T, S, [](Core& c, const Op* o, T value) {
    release_stack<S>(c, sizeof(T));
    set_reg<T>(c, o->dst, value);
    return next(c, o);
  }>(core, op);
}

template <class T>
const Op* leave64(Core& core, const Op* op) {
  u64 frame = core.gpr[kRbp];
  if (u8* host = fast_host(core, frame, sizeof(T), Access::Read)) [[likely]] {
    T value;
    std::memcpy(&value, host, sizeof(T));
    core.gpr[kRsp] = frame + sizeof(T);
    set_reg<T>(core, kRbp, value);
    return next(core, op);
  }
  return leave_general(core, op);
}

}  // namespace

const Op* leave_general(Core& core, const Op* op) {
  core.rip = op_rip(core, op);
  if (!run_leave(core, *op)) return nullptr;
  return next_unless_left(core, op);
}

Handler pick_push(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    return with_stack(stack_kind(pick), [&]<StackKind S>() -> Handler {
      if (pick.shape == Shape::Reg) return push_reg<T, S>;
      if (pick.shape == Shape::RegImm) return push_imm<T, S>;
      return with_address(pick.address, []<AddressKind A>() -> Handler { return push_mem<T, S, A>; });
    });
  });
}

Handler pick_pop(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    return with_stack(stack_kind(pick), []<StackKind S>() -> Handler { return pop_reg<T, S>; });
  });
}

Handler pick_leave(const Pick& pick) {
  if (pick.code == CodeSize::k64 && pick.size == 8) return leave64<u64>;
  return leave_general;
}

bool run_leave(Core& core, const Op& op) {
  u64 saved = core.gpr[kRsp];
  u64 mask = stack_mask(core);
  core.gpr[kRsp] = (saved & ~mask) | (core.gpr[kRbp] & mask);
  Loaded frame = peek_stack(core, op.opsize);
  if (!frame.ok) {
    core.gpr[kRsp] = saved;
    return false;
  }
  move_stack_pointer(core, op.opsize);
  set_reg_sized(core, kRbp, frame.value, op.opsize);
  return true;
}

bool run_pop_mem(Core& core, const Op& op) {
  Loaded value = peek_stack(core, op.opsize);
  if (!value.ok) return false;
  // The address of POP [RSP...] is computed after the increment (SDM vol. 2, POP).
  u64 saved = core.gpr[kRsp], linear = 0;
  move_stack_pointer(core, op.opsize);
  if (operand_linear(core, op, op.opsize, true, linear) && write_slow(core, linear, &value.value, op.opsize)) return true;
  core.gpr[kRsp] = saved;
  return false;
}

bool run_pusha(Core& core, const Op& op) {
  u64 saved = core.gpr[kRsp];
  for (u8 r = kRax; r <= kRdi; ++r) {
    u64 value = r == kRsp ? saved : core.gpr[r];
    if (push_slow(core, value, op.opsize)) continue;
    core.gpr[kRsp] = saved;
    return false;
  }
  return true;
}

bool run_popa(Core& core, const Op& op) {
  std::array<u64, 8> values;
  for (u8 i = 0; i < 8; ++i) {
    Loaded loaded = peek_stack(core, op.opsize, u64{i} * op.opsize);
    if (!loaded.ok) return false;
    values[i] = loaded.value;
  }
  for (u8 i = 0; i < 8; ++i) {
    if (kRdi - i != kRsp) set_reg_sized(core, static_cast<u8>(kRdi - i), values[i], op.opsize);
  }
  move_stack_pointer(core, u64{8} * op.opsize);
  return true;
}

namespace {

/// The outer frames' pointers that ENTER copies; false after a fault. `frame` runs down from RBP.
bool copy_display(Core& core, const Op& op, u8 levels) {
  u64 frame = core.gpr[kRbp];
  for (u8 i = 1; i < levels; ++i) {
    frame -= op.opsize;
    u64 linear = 0, value = 0;
    if (!segment_linear(core, kSs, frame & stack_mask(core), op.opsize, false, linear)) return false;
    if (!read_slow(core, linear, &value, op.opsize) || !push_slow(core, value, op.opsize)) return false;
  }
  return true;
}

}  // namespace

// SDM vol. 2, ENTER. imm = size, extra = nesting level.
bool run_enter(Core& core, const Op& op) {
  u64 saved = core.gpr[kRsp];
  u8 level = op.extra & 31;
  bool ok = push_slow(core, core.gpr[kRbp], op.opsize);
  u64 frame = core.gpr[kRsp];
  if (ok && level > 0) ok = copy_display(core, op, level) && push_slow(core, frame, op.opsize);
  if (ok) {
    move_stack_pointer(core, u64{0} - op.imm);
    // The new frame's first bytes must be writable.
    u64 linear = 0;
    ok = segment_linear(core, kSs, core.gpr[kRsp] & stack_mask(core), 1, true, linear) && probe_write(core, linear, 1);
  }
  if (!ok) {
    core.gpr[kRsp] = saved;
    return false;
  }
  set_reg_sized(core, kRbp, frame & stack_mask(core), op.opsize);
  return true;
}

}  // namespace atl::soft
