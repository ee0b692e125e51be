// BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT.
#include "cpu/soft/exec/pick.h"

namespace atl::soft {

namespace {

constexpr bool writes(BitTest k) { return k != BitTest::Test; }

template <BitTest K, class T>
[[gnu::always_inline]] inline const Op* test_reg(Core& core, const Op* op, T bit) {
  u16 cc = core.cc;
  T result = bit_test<K>(reg<T>(core, op->dst), bit, cc);
  core.cc = cc;
  if constexpr (writes(K)) set_reg<T>(core, op->dst, result);
  return next(core, op);
}

template <BitTest K, class T>
const Op* test_reg_reg(Core& core, const Op* op) {
  return test_reg<K, T>(core, op, reg<T>(core, op->src));
}

template <BitTest K, class T>
const Op* test_reg_imm(Core& core, const Op* op) {
  return test_reg<K, T>(core, op, static_cast<T>(op->imm));
}

template <BitTest K, class T, AddressKind A>
const Op* test_mem_imm(Core& core, const Op* op) {
  if constexpr (writes(K)) {
    return modify_and_next<T, A, [](const Op* o, T a, T, u16& cc) {
      return bit_test<K>(a, static_cast<T>(o->imm), cc);
    }>(core, op, T{});
  } else {
    return load_then<T, A, [](Core& c, const Op* o, T a) {
      u16 cc = c.cc;
      bit_test<K>(a, static_cast<T>(o->imm), cc);
      c.cc = cc;
      return next(c, o);
    }>(core, op);
  }
}

/// Bit strings: a register's bit number may lie outside the operand and moves the address (SDM vol. 2, BT).
template <BitTest K, class T>
const Op* test_mem_reg(Core& core, const Op* op) {
  T bit = reg<T>(core, op->src);
  i64 element = static_cast<i64>(static_cast<std::make_signed_t<T>>(bit)) >> (sizeof(T) == 8 ? 6 : sizeof(T) == 4 ? 5 : 4);
  Loaded address = general_linear(core, op, sizeof(T), writes(K), static_cast<u64>(element) * sizeof(T));
  if (!address.ok) return leave_faulted(core, op);
  Loaded old = writes(K) ? load_for_write_slow(core, address.value, op->seg, sizeof(T))
                         : load_slow(core, address.value, op->seg, sizeof(T));
  if (!old.ok) return leave_faulted(core, op);
  u16 cc = core.cc;
  T value = bit_test<K>(static_cast<T>(old.value), bit, cc);
  if (writes(K) && !store_slow(core, address.value, op->seg, sizeof(T), value)) return leave_faulted(core, op);
  core.cc = cc;
  return next_unless_left(core, op);
}

template <BitScan K, class T>
[[gnu::always_inline]] inline const Op* scan(Core& core, const Op* op, T value) {
  u16 cc = core.cc;
  core.gpr[op->dst] = bit_scan<K, T>(value, core.gpr[op->dst], cc);
  core.cc = cc;
  return next(core, op);
}

template <BitScan K, class T>
const Op* scan_reg(Core& core, const Op* op) {
  return scan<K, T>(core, op, reg<T>(core, op->src));
}

template <BitScan K, class T, AddressKind A>
const Op* scan_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T value) { return scan<K, T>(c, o, value); }>(core, op);
}

}  // namespace

template <BitTest K>
Handler pick_bit_test(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::RegReg) return test_reg_reg<K, T>;
    if (pick.shape == Shape::RegImm) return test_reg_imm<K, T>;
    if (pick.shape == Shape::MemReg) return test_mem_reg<K, T>;
    return with_address(pick.address, []<AddressKind A>() -> Handler { return test_mem_imm<K, T, A>; });
  });
}

template Handler pick_bit_test<BitTest::Test>(const Pick&);
template Handler pick_bit_test<BitTest::Set>(const Pick&);
template Handler pick_bit_test<BitTest::Reset>(const Pick&);
template Handler pick_bit_test<BitTest::Complement>(const Pick&);

template <BitScan K>
Handler pick_bit_scan(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::RegReg) return scan_reg<K, T>;
    return with_address(pick.address, []<AddressKind A>() -> Handler { return scan_mem<K, T, A>; });
  });
}

template Handler pick_bit_scan<BitScan::Bsf>(const Pick&);
template Handler pick_bit_scan<BitScan::Bsr>(const Pick&);
template Handler pick_bit_scan<BitScan::Tzcnt>(const Pick&);
template Handler pick_bit_scan<BitScan::Lzcnt>(const Pick&);
template Handler pick_bit_scan<BitScan::Popcnt>(const Pick&);

}  // namespace atl::soft
