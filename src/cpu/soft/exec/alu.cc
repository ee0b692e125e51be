// ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT.
#include "cpu/soft/exec/pick.h"

namespace atl::soft {

namespace {

constexpr bool writes(Alu k) { return k != Alu::Cmp && k != Alu::Test; }

template <Alu K, class T>
[[gnu::always_inline]] inline void apply_to_reg(Core& core, u8 dst, T b) {
  u16 cc = core.cc;
  T result = alu<K>(reg<T>(core, dst), b, cc);
  core.cc = cc;
  if constexpr (writes(K)) set_reg<T>(core, dst, result);
}

template <Alu K, class T>
const Op* alu_reg_reg(Core& core, const Op* op) {
  apply_to_reg<K, T>(core, op->dst, reg<T>(core, op->src));
  return next(core, op);
}

template <Alu K, class T>
const Op* alu_reg_imm(Core& core, const Op* op) {
  apply_to_reg<K, T>(core, op->dst, static_cast<T>(op->imm));
  return next(core, op);
}

template <Alu K, class T, AddressKind A>
const Op* alu_reg_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T b) {
    apply_to_reg<K, T>(c, o->dst, b);
    return next(c, o);
  }>(core, op);
}

/// CMP or TEST m, b with b from `Source`.
template <Alu K, class T, AddressKind A, auto Source>
const Op* compare_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T a) {
    u16 cc = c.cc;
    alu<K>(a, Source(c, o), cc);
    c.cc = cc;
    return next(c, o);
  }>(core, op);
}

/// The memory operand comes first: op m, b with b from `Source`.
template <Alu K, class T, AddressKind A, auto Source>
[[gnu::always_inline]] inline const Op* apply_to_mem(Core& core, const Op* op) {
  if constexpr (writes(K)) {
    return modify_and_next<T, A, [](const Op*, T a, T b, u16& cc) { return alu<K>(a, b, cc); }>(core, op, Source(core, op));
  } else {
    return compare_mem<K, T, A, Source>(core, op);
  }
}

template <Alu K, class T, AddressKind A>
const Op* alu_mem_reg(Core& core, const Op* op) {
  return apply_to_mem<K, T, A, [](const Core& c, const Op* o) { return reg<T>(c, o->src); }>(core, op);
}

template <Alu K, class T, AddressKind A>
const Op* alu_mem_imm(Core& core, const Op* op) {
  return apply_to_mem<K, T, A, [](const Core&, const Op* o) { return static_cast<T>(o->imm); }>(core, op);
}

template <Unary K, class T>
const Op* unary_reg(Core& core, const Op* op) {
  u16 cc = core.cc;
  set_reg<T>(core, op->dst, unary<K>(reg<T>(core, op->dst), cc));
  core.cc = cc;
  return next(core, op);
}

template <Unary K, class T, AddressKind A>
const Op* unary_mem(Core& core, const Op* op) {
  return modify_and_next<T, A, [](const Op*, T a, T, u16& cc) { return unary<K>(a, cc); }>(core, op, T{});
}

}  // namespace

template <Alu K>
Handler pick_alu(const Pick& pick) {
  return with_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::RegReg) return alu_reg_reg<K, T>;
    if (pick.shape == Shape::RegImm) return alu_reg_imm<K, T>;
    return with_address(pick.address, [&]<AddressKind A>() -> Handler {
      if (pick.shape == Shape::RegMem) return alu_reg_mem<K, T, A>;
      if (pick.shape == Shape::MemReg) return alu_mem_reg<K, T, A>;
      return alu_mem_imm<K, T, A>;
    });
  });
}

template Handler pick_alu<Alu::Add>(const Pick&);
template Handler pick_alu<Alu::Or>(const Pick&);
template Handler pick_alu<Alu::Adc>(const Pick&);
template Handler pick_alu<Alu::Sbb>(const Pick&);
template Handler pick_alu<Alu::And>(const Pick&);
template Handler pick_alu<Alu::Sub>(const Pick&);
template Handler pick_alu<Alu::Xor>(const Pick&);
template Handler pick_alu<Alu::Cmp>(const Pick&);
template Handler pick_alu<Alu::Test>(const Pick&);

template <Unary K>
Handler pick_unary(const Pick& pick) {
  return with_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::Reg) return unary_reg<K, T>;
    return with_address(pick.address, []<AddressKind A>() -> Handler { return unary_mem<K, T, A>; });
  });
}

template Handler pick_unary<Unary::Inc>(const Pick&);
template Handler pick_unary<Unary::Dec>(const Pick&);
template Handler pick_unary<Unary::Neg>(const Pick&);
template Handler pick_unary<Unary::Not>(const Pick&);

}  // namespace atl::soft
