// What every handler needs: registers by number and size, memory operands, and the ways on to the next op.
//
// A handler must compile to a jump at its end. So it has no locals with destructors, and never passes the address of a local
// to a function that is not inlined: slow paths return their results in registers (`Loaded`).
#pragma once

#include <cstring>
#include <type_traits>

#include "cpu/soft/exec/address.h"
#include "cpu/soft/exec/block_cache.h"
#include "cpu/soft/mmu/access.h"

namespace atl::soft {

/// How a handler turns its memory operand into a linear address; chosen by the decoder.
enum class AddressKind : u8 {
  Flat64,   // 64-bit address size, no segment base
  Based64,  // 64-bit address size, FS or GS
  Flat32,   // 32-bit address size, flat segment
  General,  // everything else: operand_linear()
};

// GCC tells of sanitizers by macros, Clang by features.
#if defined(__has_feature)
#define ATL_HAS_FEATURE(x) __has_feature(x)
#else
#define ATL_HAS_FEATURE(x) 0
#endif
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !ATL_HAS_FEATURE(address_sanitizer) && !ATL_HAS_FEATURE(thread_sanitizer)
/// Calls in tail position become jumps, so that blocks may run on into each other without end.
inline constexpr bool kTailCalls = true;
#else
inline constexpr bool kTailCalls = false;
#endif

// -- registers -----------------------------------------------------------------------------------------------------------

/// Register operands of our own handlers: the register's number; for byte operands the byte's place in the register file
/// (8 * number, + 1 for AH to BH).
template <class T>
inline T reg(const Core& core, u8 number) {
  if constexpr (sizeof(T) == 1) return reinterpret_cast<const u8*>(register_file(core))[number];
  return static_cast<T>(register_file(core)[number]);
}

/// Writes as the processor does: 32-bit results clear the upper half, smaller ones leave the rest alone.
template <class T>
inline void set_reg(Core& core, u8 number, T value) {
  u64* regs = register_file(core);
  if constexpr (sizeof(T) == 1) {
    reinterpret_cast<u8*>(regs)[number] = value;
  } else if constexpr (sizeof(T) == 2) {
    std::memcpy(&regs[number], &value, 2);  // little-endian: the low half-word
  } else {
    regs[number] = static_cast<std::make_unsigned_t<T>>(value);
  }
}

// -- control flow ----------------------------------------------------------------------------------------------------------

inline const Op* next(Core& core, const Op* op) { return op[1].run(core, op + 1); }

inline u64 op_rip(const Core& core, const Op* op) { return core.block_rip + op->offset; }
inline u64 rip_after(const Core& core, const Op* op) { return core.block_rip + op->offset + op->length; }

/// Leaves after a fault that is recorded already.
[[gnu::noinline, gnu::cold]] const Op* leave_faulted(Core& core, const Op* op);
/// Leaves after `op` completed, because the block may have changed under it.
[[gnu::noinline, gnu::cold]] const Op* leave_after(Core& core, const Op* op);
[[gnu::noinline, gnu::cold]] const Op* leave_raising(Core& core, const Op* op, u8 vector, u32 error);
[[gnu::noinline, gnu::cold]] const Op* leave_raising(Core& core, const Op* op, u8 vector);

/// A copy of `op` after which the block ends; for loads that met a data breakpoint.
[[gnu::noinline, gnu::cold]] const Op* isolated(Core& core, const Op* op);

/// After a store through the slow path.
inline const Op* next_unless_left(Core& core, const Op* op) {
  if (core.leave_block) [[unlikely]] return leave_after(core, op);
  return next(core, op);
}

// -- memory operands -------------------------------------------------------------------------------------------------------

struct Loaded {
  u64 value;
  bool ok;
};

template <AddressKind A>
inline u64 flat_address(const Core& core, const Op* op) {
  const u64* regs = register_file(core);
  u64 sum = regs[op->base] + (regs[op->index] << op->scale) + static_cast<u64>(op->disp);
  if constexpr (A == AddressKind::Flat32) return static_cast<u32>(sum);
  if constexpr (A == AddressKind::Based64) return sum + core.seg[op->seg].base;
  return sum;
}

/// Slow paths; `size` up to 8. `seg` decides between #GP and #SS where the linear address is not canonical.
[[gnu::noinline]] Loaded load_slow(Core& core, u64 linear, u8 seg, unsigned size);
[[gnu::noinline]] bool store_slow(Core& core, u64 linear, u8 seg, unsigned size, u64 value);
/// For read-modify-write: a page fault reports the write.
[[gnu::noinline]] Loaded load_for_write_slow(Core& core, u64 linear, u8 seg, unsigned size);
/// The linear address of the operand for a read-modify-write; not ok after a fault.
[[gnu::noinline]] Loaded general_linear(Core& core, const Op* op, unsigned size, bool write, u64 displace = 0);

/// Linear address of the memory operand, checked for General only; not ok after a fault.
template <AddressKind A>
inline Loaded slow_linear(Core& core, const Op* op, unsigned size, bool write) {
  if constexpr (A == AddressKind::General) return general_linear(core, op, size, write);
  return {flat_address<A>(core, op), true};
}

// Each access has two functions: the handler itself, which ends in jumps only and so needs no stack frame, and a cold copy
// that it jumps to when the access is not a plain one to RAM. `Then` is a captureless lambda with the rest of the handler.

template <class T, AddressKind A, auto Then>
[[gnu::noinline, gnu::cold]] const Op* load_cold(Core& core, const Op* op) {
  Loaded address = slow_linear<A>(core, op, sizeof(T), false);
  if (!address.ok) return leave_faulted(core, op);
  Loaded loaded = load_slow(core, address.value, op->seg, sizeof(T));
  if (!loaded.ok) return leave_faulted(core, op);
  if (core.leave_block) op = isolated(core, op);
  return Then(core, op, static_cast<T>(loaded.value));
}

/// Loads the memory operand and returns Then(core, op, value).
template <class T, AddressKind A, auto Then>
[[gnu::always_inline]] inline const Op* load_then(Core& core, const Op* op) {
  Loaded address = slow_linear<A>(core, op, sizeof(T), false);
  if constexpr (A == AddressKind::General) {
    if (!address.ok) [[unlikely]] return leave_faulted(core, op);
  }
  if (u8* host = fast_host(core, address.value, sizeof(T), Access::Read)) [[likely]] {
    T value;
    std::memcpy(&value, host, sizeof(T));
    return Then(core, op, value);
  }
  return load_cold<T, A, Then>(core, op);
}

template <class T, AddressKind A>
[[gnu::noinline, gnu::cold]] const Op* store_cold(Core& core, const Op* op, T value) {
  Loaded address = slow_linear<A>(core, op, sizeof(T), true);
  if (!address.ok || !store_slow(core, address.value, op->seg, sizeof(T), value)) return leave_faulted(core, op);
  return next_unless_left(core, op);
}

/// Stores to the memory operand and goes on.
template <class T, AddressKind A>
[[gnu::always_inline]] inline const Op* store_and_next(Core& core, const Op* op, T value) {
  Loaded address = slow_linear<A>(core, op, sizeof(T), true);
  if constexpr (A == AddressKind::General) {
    if (!address.ok) [[unlikely]] return leave_faulted(core, op);
  }
  if (u8* host = fast_host(core, address.value, sizeof(T), Access::Write)) [[likely]] {
    std::memcpy(host, &value, sizeof(T));
    return next(core, op);
  }
  return store_cold<T, A>(core, op, value);
}

template <class T, AddressKind A, auto Change>
[[gnu::noinline, gnu::cold]] const Op* modify_cold(Core& core, const Op* op, T operand) {
  Loaded address = slow_linear<A>(core, op, sizeof(T), true);
  if (!address.ok) return leave_faulted(core, op);
  Loaded old = load_for_write_slow(core, address.value, op->seg, sizeof(T));
  if (!old.ok) return leave_faulted(core, op);
  u16 cc = core.cc;
  T value = Change(op, static_cast<T>(old.value), operand, cc);
  if (!store_slow(core, address.value, op->seg, sizeof(T), value)) return leave_faulted(core, op);
  core.cc = cc;
  return next_unless_left(core, op);
}

/// Memory operand = Change(op, memory operand, operand, cc); neither memory nor flags change if it faults.
template <class T, AddressKind A, auto Change>
[[gnu::always_inline]] inline const Op* modify_and_next(Core& core, const Op* op, T operand) {
  Loaded address = slow_linear<A>(core, op, sizeof(T), true);
  if constexpr (A == AddressKind::General) {
    if (!address.ok) [[unlikely]] return leave_faulted(core, op);
  }
  if (u8* host = fast_host(core, address.value, sizeof(T), Access::Write)) [[likely]] {
    u16 cc = core.cc;
    T value;
    std::memcpy(&value, host, sizeof(T));
    value = Change(op, value, operand, cc);
    std::memcpy(host, &value, sizeof(T));
    core.cc = cc;
    return next(core, op);
  }
  return modify_cold<T, A, Change>(core, op, operand);
}

// -- choosing ----------------------------------------------------------------------------------------------------------------

enum class Shape : u8 { None, Reg, Mem, RegReg, RegMem, MemReg, RegImm, MemImm };

/// What the decoder knows when it asks for a handler; `size` is that of the operation in bytes.
struct Pick {
  Shape shape = Shape::None;
  u8 size = 4;
  AddressKind address = AddressKind::General;
  CodeSize code = CodeSize::k64;
  bool flat_stack = false;
  bool nonzero_count = false;   // of a shift by an immediate
};

/// Calls f.template operator()<T>() with the unsigned type of `size` bytes.
template <class F>
Handler with_size(u8 size, F f) {
  switch (size) {
    case 1: return f.template operator()<u8>();
    case 2: return f.template operator()<u16>();
    case 4: return f.template operator()<u32>();
    default: return f.template operator()<u64>();
  }
}

/// For instructions without a byte form.
template <class F>
Handler with_word_size(u8 size, F f) {
  switch (size) {
    case 2: return f.template operator()<u16>();
    case 4: return f.template operator()<u32>();
    default: return f.template operator()<u64>();
  }
}

template <class F>
Handler with_address(AddressKind kind, F f) {
  switch (kind) {
    case AddressKind::Flat64: return f.template operator()<AddressKind::Flat64>();
    case AddressKind::Based64: return f.template operator()<AddressKind::Based64>();
    case AddressKind::Flat32: return f.template operator()<AddressKind::Flat32>();
    default: return f.template operator()<AddressKind::General>();
  }
}

/// Runs op->system and goes on with the next op.
const Op* run_system(Core& core, const Op* op);
/// The same for a function that ends its block but leaves the mode alone: the end that follows looks for attention.
const Op* run_system_then_end(Core& core, const Op* op);
/// Runs op->system, after which mode, mapping or CPL may differ, and goes on at core.next_rip.
const Op* run_system_and_leave(Core& core, const Op* op);
/// LEAVE in any mode.
const Op* leave_general(Core& core, const Op* op);

}  // namespace atl::soft
