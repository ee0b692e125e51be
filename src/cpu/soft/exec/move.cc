// MOV LEA XCHG BSWAP MOVBE MOVZX MOVSX MOVSXD CMOVcc SETcc CBW CWD, and doing nothing.
#include "cpu/soft/exec/pick.h"

namespace atl::soft {

namespace {

template <class T>
const Op* mov_reg_reg(Core& core, const Op* op) {
  set_reg<T>(core, op->dst, reg<T>(core, op->src));
  return next(core, op);
}

template <class T>
const Op* mov_reg_imm(Core& core, const Op* op) {
  set_reg<T>(core, op->dst, static_cast<T>(op->imm));
  return next(core, op);
}

template <class T, AddressKind A>
const Op* mov_reg_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T value) {
    set_reg<T>(c, o->dst, value);
    return next(c, o);
  }>(core, op);
}

template <class T, AddressKind A>
const Op* mov_mem_reg(Core& core, const Op* op) {
  return store_and_next<T, A>(core, op, reg<T>(core, op->src));
}

template <class T, AddressKind A>
const Op* mov_mem_imm(Core& core, const Op* op) {
  return store_and_next<T, A>(core, op, static_cast<T>(op->imm));
}

template <class T>
const Op* lea(Core& core, const Op* op) {
  set_reg<T>(core, op->dst, static_cast<T>(effective_address(core, *op)));
  return next(core, op);
}

/// 64-bit address and operand: the common one.
const Op* lea_flat(Core& core, const Op* op) {
  core.gpr[op->dst] = flat_address<AddressKind::Flat64>(core, op);
  return next(core, op);
}

template <class T>
const Op* xchg_reg(Core& core, const Op* op) {
  T a = reg<T>(core, op->dst), b = reg<T>(core, op->src);
  set_reg<T>(core, op->dst, b);
  set_reg<T>(core, op->src, a);
  return next(core, op);
}

template <class T>
inline T swap_bytes(T value) {
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <class T>
const Op* bswap(Core& core, const Op* op) {
  T value = reg<T>(core, op->dst);
  // Undefined for 16 bits: the host decides.
  if constexpr (sizeof(T) == 2) {
    asm(".byte 0x66, 0x0f, 0xc8" : "+a"(value));  // BSWAP AX
  } else {
    value = swap_bytes(value);
  }
  set_reg<T>(core, op->dst, value);
  return next(core, op);
}

template <class T, AddressKind A>
const Op* movbe_load(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T value) {
    set_reg<T>(c, o->dst, swap_bytes(value));
    return next(c, o);
  }>(core, op);
}

template <class T, AddressKind A>
const Op* movbe_store(Core& core, const Op* op) {
  return store_and_next<T, A>(core, op, swap_bytes(reg<T>(core, op->src)));
}

const Op* nop(Core& core, const Op* op) { return next(core, op); }

/// S to T, sign-extended if S is signed.
template <class T, class S>
const Op* extend_reg(Core& core, const Op* op) {
  S value = static_cast<S>(reg<std::make_unsigned_t<S>>(core, op->src));
  set_reg<T>(core, op->dst, static_cast<T>(value));
  return next(core, op);
}

template <class T, class S, AddressKind A>
const Op* extend_mem(Core& core, const Op* op) {
  using U = std::make_unsigned_t<S>;
  return load_then<U, A, [](Core& c, const Op* o, U value) {
    set_reg<T>(c, o->dst, static_cast<T>(static_cast<S>(value)));
    return next(c, o);
  }>(core, op);
}

template <class T, class S>
Handler pick_extend_from(const Pick& pick) {
  if (pick.shape == Shape::RegReg) return extend_reg<T, S>;
  return with_address(pick.address, []<AddressKind A>() -> Handler { return extend_mem<T, S, A>; });
}

template <u8 C, class T>
const Op* cmov_reg(Core& core, const Op* op) {
  // A 32-bit CMOV clears the upper half either way.
  T value = reg<T>(core, op->dst), other = reg<T>(core, op->src);
  set_reg<T>(core, op->dst, condition<C>(core.cc) ? other : value);
  return next(core, op);
}

template <u8 C, class T>
inline const Op* cmov_loaded(Core& core, const Op* op, T other) {
  T value = reg<T>(core, op->dst);
  set_reg<T>(core, op->dst, condition<C>(core.cc) ? other : value);
  return next(core, op);
}

/// The operand is read, and may fault, whatever the condition.
template <u8 C, class T, AddressKind A>
const Op* cmov_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T other) { return cmov_loaded<C, T>(c, o, other); }>(core, op);
}

template <u8 C>
const Op* setcc_reg(Core& core, const Op* op) {
  set_reg<u8>(core, op->dst, condition<C>(core.cc));
  return next(core, op);
}

template <u8 C>
const Op* setcc_mem(Core& core, const Op* op) {
  return store_and_next<u8, AddressKind::General>(core, op, condition<C>(core.cc));
}

template <class T, class S>
const Op* widen(Core& core, const Op* op) {
  set_reg<T>(core, kRax, static_cast<T>(static_cast<S>(core.gpr[kRax])));
  return next(core, op);
}

template <class T>
const Op* sign_fill(Core& core, const Op* op) {
  using Signed = std::make_signed_t<T>;
  set_reg<T>(core, kRdx, static_cast<Signed>(core.gpr[kRax]) < 0 ? static_cast<T>(~T{}) : T{});
  return next(core, op);
}

}  // namespace

Handler pick_mov(const Pick& pick) {
  return with_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::RegReg) return mov_reg_reg<T>;
    if (pick.shape == Shape::RegImm) return mov_reg_imm<T>;
    return with_address(pick.address, [&]<AddressKind A>() -> Handler {
      if (pick.shape == Shape::RegMem) return mov_reg_mem<T, A>;
      if (pick.shape == Shape::MemReg) return mov_mem_reg<T, A>;
      return mov_mem_imm<T, A>;
    });
  });
}

Handler pick_lea(const Pick& pick) {
  if (pick.shape != Shape::RegMem) return nullptr;
  if (pick.size == 8 && pick.address == AddressKind::Flat64) return lea_flat;
  return with_word_size(pick.size, []<class T>() -> Handler { return lea<T>; });
}

Handler pick_xchg(const Pick& pick) {
  return with_size(pick.size, []<class T>() -> Handler { return xchg_reg<T>; });
}

Handler pick_bswap(const Pick& pick) {
  return with_word_size(pick.size, []<class T>() -> Handler { return bswap<T>; });
}

Handler pick_movbe(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    return with_address(pick.address, [&]<AddressKind A>() -> Handler {
      if (pick.shape == Shape::RegMem) return movbe_load<T, A>;
      return movbe_store<T, A>;
    });
  });
}

Handler pick_nop(const Pick&) { return nop; }

Handler pick_extend(const Pick& pick, u8 source_size, bool is_signed) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    if (source_size == 1) return is_signed ? pick_extend_from<T, i8>(pick) : pick_extend_from<T, u8>(pick);
    if (source_size == 2) return is_signed ? pick_extend_from<T, i16>(pick) : pick_extend_from<T, u16>(pick);
    return pick_extend_from<T, i32>(pick);
  });
}

Handler pick_cmov(const Pick& pick, u8 condition_code) {
  return with_condition(condition_code, [&]<u8 C>() -> Handler {
    return with_word_size(pick.size, [&]<class T>() -> Handler {
      if (pick.shape == Shape::RegReg) return cmov_reg<C, T>;
      return pick.address == AddressKind::Flat64 ? cmov_mem<C, T, AddressKind::Flat64>
                                                 : cmov_mem<C, T, AddressKind::General>;
    });
  });
}

Handler pick_setcc(const Pick& pick, u8 condition_code) {
  return with_condition(condition_code, [&]<u8 C>() -> Handler {
    return pick.shape == Shape::Reg ? setcc_reg<C> : setcc_mem<C>;
  });
}

Handler pick_widen(const Pick& pick) {
  if (pick.size == 2) return widen<u16, i8>;
  return pick.size == 4 ? widen<u32, i16> : widen<u64, i32>;
}

Handler pick_sign_fill(const Pick& pick) {
  return with_word_size(pick.size, []<class T>() -> Handler { return sign_fill<T>; });
}

}  // namespace atl::soft
