// The stack in the width that the mode gives it.
#pragma once

#include "cpu/soft/exec/handler.h"

namespace atl::soft {

/// How RSP addresses memory: all of it in 64-bit mode, ESP with a flat SS, or by push_slow() and peek_stack().
enum class StackKind : u8 { Flat64, Flat32, General };

inline u64 stack_mask(const Core& core) {
  if (core.code_size == CodeSize::k64) return ~u64{0};
  return core.seg[kSs].db() ? 0xffffffff : 0xffff;
}

/// Adds to RSP, ESP or SP.
void move_stack_pointer(Core& core, u64 delta);
/// Any mode: pushes the low `size` bytes; RSP is unchanged if it faults.
[[gnu::noinline]] bool push_slow(Core& core, u64 value, unsigned size);
/// Reads what lies `displace` bytes above the stack's top.
[[gnu::noinline]] Loaded peek_stack(Core& core, unsigned size, u64 displace = 0);

template <StackKind S>
inline u64 stack_top(const Core& core) {
  if constexpr (S == StackKind::Flat32) return static_cast<u32>(core.gpr[kRsp]);
  return core.gpr[kRsp];
}

template <class T, auto Then>
[[gnu::noinline, gnu::cold]] const Op* push_cold(Core& core, const Op* op, T value) {
  if (!push_slow(core, value, sizeof(T))) return leave_faulted(core, op);
  if (core.leave_block) op = isolated(core, op);
  return Then(core, op);
}

/// Pushes and returns Then(core, op).
template <class T, StackKind S, auto Then>
[[gnu::always_inline]] inline const Op* push_then(Core& core, const Op* op, T value) {
  if constexpr (S != StackKind::General) {
    u64 linear = stack_top<S>(core) - sizeof(T);
    if constexpr (S == StackKind::Flat32) linear = static_cast<u32>(linear);
    if (u8* host = fast_host(core, linear, sizeof(T), Access::Write)) [[likely]] {
      std::memcpy(host, &value, sizeof(T));
      core.gpr[kRsp] = linear;
      return Then(core, op);
    }
  }
  return push_cold<T, Then>(core, op, value);
}

template <class T, auto Then>
[[gnu::noinline, gnu::cold]] const Op* peek_cold(Core& core, const Op* op) {
  Loaded value = peek_stack(core, sizeof(T));
  if (!value.ok) return leave_faulted(core, op);
  if (core.leave_block) op = isolated(core, op);
  return Then(core, op, static_cast<T>(value.value));
}

/// Reads the stack's top, leaving RSP alone, and returns Then(core, op, value).
template <class T, StackKind S, auto Then>
[[gnu::always_inline]] inline const Op* peek_then(Core& core, const Op* op) {
  if constexpr (S != StackKind::General) {
    if (u8* host = fast_host(core, stack_top<S>(core), sizeof(T), Access::Read)) [[likely]] {
      T value;
      std::memcpy(&value, host, sizeof(T));
      return Then(core, op, value);
    }
  }
  return peek_cold<T, Then>(core, op);
}

/// Releases `bytes` of the stack.
template <StackKind S>
inline void release_stack(Core& core, u64 bytes) {
  if constexpr (S == StackKind::Flat64) core.gpr[kRsp] += bytes;
  if constexpr (S == StackKind::Flat32) core.gpr[kRsp] = static_cast<u32>(core.gpr[kRsp] + bytes);
  if constexpr (S == StackKind::General) move_stack_pointer(core, bytes);
}

inline StackKind stack_kind(const Pick& pick) {
  if (pick.code == CodeSize::k64) return StackKind::Flat64;
  return pick.flat_stack ? StackKind::Flat32 : StackKind::General;
}

template <class F>
Handler with_stack(StackKind kind, F f) {
  switch (kind) {
    case StackKind::Flat64: return f.template operator()<StackKind::Flat64>();
    case StackKind::Flat32: return f.template operator()<StackKind::Flat32>();
    default: return f.template operator()<StackKind::General>();
  }
}

}  // namespace atl::soft
