// Near JMP, Jcc, CALL, RET, and the end of a block without a branch.
//
// T is the width of the new instruction pointer: the operand size, in 64-bit mode 8 (or 2 with AMD's operand-size prefix).
#include "cpu/soft/exec/chain.h"
#include "cpu/soft/exec/pick.h"
#include "cpu/soft/exec/stack.h"

namespace atl::soft {

namespace {

template <class T>
inline u64 direct_target(const Core& core, const Op* op) {
  return static_cast<T>(core.block_rip + op->imm);
}

template <class T, bool kSamePage>
const Op* jmp(Core& core, const Op* op) {
  return jump_direct<T, kSamePage>(core, op, direct_target<T>(core, op));
}

/// The op after a Jcc is the block's end, whose link serves the branch not taken. kSamePage: so are both ways on.
template <u8 C, class T, bool kSamePage>
const Op* jcc(Core& core, const Op* op) {
  if (condition<C>(core.cc)) return jump_direct<T, kSamePage>(core, op, direct_target<T>(core, op));
  if constexpr (kSamePage && sizeof(T) == 8) return jump_direct<T, true>(core, op + 1, rip_after(core, op));
  return next(core, op);
}

/// CMP or TEST and the Jcc behind it in one; op[1] is that Jcc.
template <Alu K, bool kImmediate, class S, u8 C, bool kSamePage>
const Op* compare_and_jump(Core& core, const Op* op) {
  S b = kImmediate ? static_cast<S>(op->imm) : reg<S>(core, op->src);
  u16 cc = core.cc;
  alu<K>(reg<S>(core, op->dst), b, cc);
  core.cc = cc;
  const Op* jump = op + 1;
  if (condition<C>(cc)) return jump_direct<u64, kSamePage>(core, jump, direct_target<u64>(core, jump));
  if constexpr (kSamePage) return jump_direct<u64, true>(core, jump + 1, rip_after(core, jump));
  return next(core, jump);
}

template <class T, StackKind S, bool kSamePage>
const Op* call(Core& core, const Op* op) {
  if (!target_allowed<T>(core, static_cast<T>(direct_target<T>(core, op)))) [[unlikely]] {
    return leave_raising(core, op, kGP, 0);
  }
  return push_then<T, S, [](Core& c, const Op* o) {
    return jump_direct<T, kSamePage>(c, o, direct_target<T>(c, o));
  }>(core, op, static_cast<T>(rip_after(core, op)));
}

template <class T>
[[gnu::always_inline]] inline const Op* jump_to_value(Core& core, const Op* op, T target) {
  if (!target_allowed<T>(core, target)) [[unlikely]] return leave_raising(core, op, kGP, 0);
  return jump_indirect(core, target);
}

template <class T>
const Op* jmp_reg(Core& core, const Op* op) {
  return jump_to_value<T>(core, op, reg<T>(core, op->dst));
}

template <class T, AddressKind A>
const Op* jmp_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T target) { return jump_to_value<T>(c, o, target); }>(core, op);
}

/// The target waits in core.next_rip while the push happens.
template <class T, StackKind S>
[[gnu::always_inline]] inline const Op* call_value(Core& core, const Op* op, T target) {
  if (!target_allowed<T>(core, target)) [[unlikely]] return leave_raising(core, op, kGP, 0);
  core.next_rip = target;
  return push_then<T, S, [](Core& c, const Op*) { return jump_indirect(c, c.next_rip); }>(
      core, op, static_cast<T>(rip_after(core, op)));
}

template <class T, StackKind S>
const Op* call_reg(Core& core, const Op* op) {
  return call_value<T, S>(core, op, reg<T>(core, op->dst));
}

template <class T, StackKind S, AddressKind A>
const Op* call_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T target) { return call_value<T, S>(c, o, target); }>(core, op);
}

template <class T, StackKind S>
const Op* ret(Core& core, const Op* op) {
  return peek_then<T, S, [](Core& c, const Op* o, T target) {
    if (!target_allowed<T>(c, target)) [[unlikely]] return leave_raising(c, o, kGP, 0);
    release_stack<S>(c, sizeof(T) + o->imm);
    return jump_indirect(c, target);
  }>(core, op);
}

/// The end op's offset is the block's length.
template <bool kSamePage>
const Op* end_of_block(Core& core, const Op* op) {
  return jump_direct<u64, kSamePage>(core, op, op_rip(core, op));
}

/// Outside 64-bit mode the limit is checked when the next instruction is fetched.
const Op* end_of_legacy_block(Core& core, const Op* op) {
  u64 target = op_rip(core, op);
  if constexpr (kTailCalls) {
    CodeBlock* block = op->link;
    if (block && block->fresh() && undisturbed(core) && maps_to(core, target, block->gpa)) {
      return enter(core, block, target);
    }
  }
  core.rip = target;
  return op;
}

}  // namespace

Handler pick_jmp(const Pick& pick, bool same_page) {
  return with_word_size(pick.size, [&]<class T>() -> Handler { return same_page ? jmp<T, true> : jmp<T, false>; });
}

Handler pick_jcc(const Pick& pick, u8 condition_code, bool same_page) {
  return with_condition(condition_code, [&]<u8 C>() -> Handler {
    return with_word_size(pick.size,
                          [&]<class T>() -> Handler { return same_page ? jcc<C, T, true> : jcc<C, T, false>; });
  });
}

Handler pick_compare_and_jump(const CompareAndJump& pair) {
  auto by_size = [&]<Alu K, bool kImmediate, class S>() {
    return with_condition(pair.condition_code, [&]<u8 C>() -> Handler {
      return pair.same_page ? compare_and_jump<K, kImmediate, S, C, true> : compare_and_jump<K, kImmediate, S, C, false>;
    });
  };
  auto by_operand = [&]<Alu K, bool kImmediate>() -> Handler {
    if (pair.size == 1) return by_size.template operator()<K, kImmediate, u8>();
    if (pair.size == 4) return by_size.template operator()<K, kImmediate, u32>();
    return pair.size == 8 ? by_size.template operator()<K, kImmediate, u64>() : nullptr;
  };
  if (pair.test) return pair.immediate ? by_operand.template operator()<Alu::Test, true>() : by_operand.template operator()<Alu::Test, false>();
  return pair.immediate ? by_operand.template operator()<Alu::Cmp, true>() : by_operand.template operator()<Alu::Cmp, false>();
}

Handler pick_call(const Pick& pick, bool same_page) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    return with_stack(stack_kind(pick), [&]<StackKind S>() -> Handler {
      return same_page ? call<T, S, true> : call<T, S, false>;
    });
  });
}

Handler pick_jmp_indirect(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::Reg) return jmp_reg<T>;
    return with_address(pick.address, []<AddressKind A>() -> Handler { return jmp_mem<T, A>; });
  });
}

Handler pick_call_indirect(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    return with_stack(stack_kind(pick), [&]<StackKind S>() -> Handler {
      if (pick.shape == Shape::Reg) return call_reg<T, S>;
      return with_address(pick.address, []<AddressKind A>() -> Handler { return call_mem<T, S, A>; });
    });
  });
}

Handler pick_ret(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    return with_stack(stack_kind(pick), []<StackKind S>() -> Handler { return ret<T, S>; });
  });
}

Handler pick_end(const Pick& pick, bool same_page) {
  if (pick.code != CodeSize::k64) return end_of_legacy_block;
  return same_page ? end_of_block<true> : end_of_block<false>;
}

}  // namespace atl::soft
