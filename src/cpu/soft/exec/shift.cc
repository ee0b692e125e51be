// ROL ROR RCL RCR SHL SHR SAR, SHLD SHRD.
#include "cpu/soft/exec/pick.h"

namespace atl::soft {

namespace {

enum class Count : u8 { Imm, Cl };

template <Count N>
inline u8 count_of(const Core& core, const Op* op) {
  if constexpr (N == Count::Imm) return static_cast<u8>(op->imm);
  return static_cast<u8>(core.gpr[kRcx]);
}

template <Shift K, class T, Count N>
const Op* shift_reg(Core& core, const Op* op) {
  u16 cc = core.cc;
  set_reg<T>(core, op->dst, shift<K>(reg<T>(core, op->dst), count_of<N>(core, op), cc));
  core.cc = cc;
  return next(core, op);
}

/// By an immediate that is not 0.
template <Shift K, class T>
const Op* shift_reg_nonzero(Core& core, const Op* op) {
  u16 cc = core.cc;
  set_reg<T>(core, op->dst, shift_nonzero<K>(reg<T>(core, op->dst), static_cast<u8>(op->imm), cc));
  core.cc = cc;
  return next(core, op);
}

template <Shift K, class T, AddressKind A, Count N>
const Op* shift_mem(Core& core, const Op* op) {
  return modify_and_next<T, A, [](const Op*, T a, T count, u16& cc) {
    return shift<K>(a, static_cast<u8>(count), cc);
  }>(core, op, static_cast<T>(count_of<N>(core, op)));
}

template <bool kLeft, class T, Count N>
const Op* double_reg(Core& core, const Op* op) {
  u16 cc = core.cc;
  T result = double_shift<kLeft>(reg<T>(core, op->dst), reg<T>(core, op->src), count_of<N>(core, op), cc);
  set_reg<T>(core, op->dst, result);
  core.cc = cc;
  return next(core, op);
}

template <bool kLeft, class T, AddressKind A>
const Op* double_mem_imm(Core& core, const Op* op) {
  return modify_and_next<T, A, [](const Op* o, T a, T b, u16& cc) {
    return double_shift<kLeft>(a, b, static_cast<u8>(o->imm), cc);
  }>(core, op, reg<T>(core, op->src));
}

template <bool kLeft, class T>
bool double_mem_cl(Core& core, const Op& op) {
  Loaded address = general_linear(core, &op, sizeof(T), true);
  if (!address.ok) return false;
  Loaded old = load_for_write_slow(core, address.value, op.seg, sizeof(T));
  if (!old.ok) return false;
  u16 cc = core.cc;
  T b = reg<T>(core, op.src);
  T value = double_shift<kLeft>(static_cast<T>(old.value), b, static_cast<u8>(core.gpr[kRcx]), cc);
  if (!store_slow(core, address.value, op.seg, sizeof(T), value)) return false;
  core.cc = cc;
  return true;
}

template <bool kLeft, class T>
const Op* run_double_mem_cl(Core& core, const Op* op) {
  core.rip = op_rip(core, op);
  if (!double_mem_cl<kLeft, T>(core, *op)) return nullptr;
  return next_unless_left(core, op);
}

}  // namespace

template <Shift K>
Handler pick_shift(const Pick& pick) {
  return with_size(pick.size, [&]<class T>() -> Handler {
    if constexpr (K == Shift::Shl || K == Shift::Shr || K == Shift::Sar) {
      if (pick.shape == Shape::RegImm && pick.nonzero_count) return shift_reg_nonzero<K, T>;
    }
    if (pick.shape == Shape::RegImm) return shift_reg<K, T, Count::Imm>;
    if (pick.shape == Shape::Reg) return shift_reg<K, T, Count::Cl>;
    return with_address(pick.address, [&]<AddressKind A>() -> Handler {
      if (pick.shape == Shape::MemImm) return shift_mem<K, T, A, Count::Imm>;
      return shift_mem<K, T, A, Count::Cl>;
    });
  });
}

template Handler pick_shift<Shift::Rol>(const Pick&);
template Handler pick_shift<Shift::Ror>(const Pick&);
template Handler pick_shift<Shift::Rcl>(const Pick&);
template Handler pick_shift<Shift::Rcr>(const Pick&);
template Handler pick_shift<Shift::Shl>(const Pick&);
template Handler pick_shift<Shift::Shr>(const Pick&);
template Handler pick_shift<Shift::Sar>(const Pick&);

template <bool kLeft>
Handler pick_double_shift(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::RegImm) return double_reg<kLeft, T, Count::Imm>;
    if (pick.shape == Shape::Reg) return double_reg<kLeft, T, Count::Cl>;
    if (pick.shape == Shape::Mem) return run_double_mem_cl<kLeft, T>;
    return with_address(pick.address, []<AddressKind A>() -> Handler { return double_mem_imm<kLeft, T, A>; });
  });
}

template Handler pick_double_shift<true>(const Pick&);
template Handler pick_double_shift<false>(const Pick&);

}  // namespace atl::soft
