// LOCKed instructions, XCHG, XADD, CMPXCHG: the same LOCKed host instruction on the guest's memory. Where the host cannot
// reach it in one piece (MMIO, a page crossing, a page with code), one vCPU at a time reads, computes and writes.
#include <mutex>

#include "cpu/soft/exec/flag_ops.h"
#include "cpu/soft/exec/misc.h"
#include "cpu/soft/exec/operand.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

namespace {

/// Register of the operand's size; byte operands are places in the register file.
template <class T>
T source(const Core& core, const Op& op, bool immediate) {
  return immediate ? static_cast<T>(op.imm) : reg<T>(core, op.src);
}

/// *memory = Direct on host memory, or Change(value) under the lock. Both get the flags to change.
template <class T, class Direct, class Change>
bool atomically(Core& core, const Op& op, u64 displace, Direct direct, Change change) {
  Loaded address = general_linear(core, &op, sizeof(T), true, displace);
  if (!address.ok) return false;
  u16 cc = core.cc;
  if (u8* host = host_for_atomic(core, address.value, sizeof(T))) {
    direct(reinterpret_cast<T*>(host), cc);
    core.cc = cc;
    return true;
  }
  if (core.fault_pending) return false;
  std::lock_guard guard(core.vm->atomic_fallback);
  Loaded old = load_for_write_slow(core, address.value, op.seg, sizeof(T));
  if (!old.ok) return false;
  T value = change(static_cast<T>(old.value), cc);
  if (!store_slow(core, address.value, op.seg, sizeof(T), value)) return false;
  core.cc = cc;
  return true;
}

template <Alu K, class T>
void locked_alu_host(T* p, T b, u16& cc) {
  u16 f = cc;
  if constexpr (K == Alu::Add) asm volatile("lock add %2, %1\n\tlahf\n\tseto %%al" : "=&a"(f), "+m"(*p) : "r"(b) : "cc", "memory");
  if constexpr (K == Alu::Or) asm volatile("lock or %2, %1\n\tlahf\n\tseto %%al" : "=&a"(f), "+m"(*p) : "r"(b) : "cc", "memory");
  if constexpr (K == Alu::And) asm volatile("lock and %2, %1\n\tlahf\n\tseto %%al" : "=&a"(f), "+m"(*p) : "r"(b) : "cc", "memory");
  if constexpr (K == Alu::Sub) asm volatile("lock sub %2, %1\n\tlahf\n\tseto %%al" : "=&a"(f), "+m"(*p) : "r"(b) : "cc", "memory");
  if constexpr (K == Alu::Xor) asm volatile("lock xor %2, %1\n\tlahf\n\tseto %%al" : "=&a"(f), "+m"(*p) : "r"(b) : "cc", "memory");
  if constexpr (K == Alu::Adc) asm volatile("btw $8, %w0\n\tlock adc %2, %1\n\tlahf\n\tseto %%al" : "+&a"(f), "+m"(*p) : "r"(b) : "cc", "memory");
  if constexpr (K == Alu::Sbb) asm volatile("btw $8, %w0\n\tlock sbb %2, %1\n\tlahf\n\tseto %%al" : "+&a"(f), "+m"(*p) : "r"(b) : "cc", "memory");
  cc = f;
}

template <Alu K, class T, bool kImmediate>
bool run_locked_alu(Core& core, const Op& op) {
  T b = source<T>(core, op, kImmediate);
  return atomically<T>(
      core, op, 0, [b](T* p, u16& cc) { locked_alu_host<K>(p, b, cc); }, [b](T a, u16& cc) { return alu<K>(a, b, cc); });
}

// A lone memory operand does not tell the size, and the compilers have no common way to add the suffix.
#define ATL_LOCKED_UNARY(name)                                                                                            \
  do {                                                                                                                    \
    if constexpr (sizeof(T) == 1) asm volatile(ATL_FLAGS_IN "lock " name "b %1" ATL_FLAGS_OUT : "+&a"(f), "+m"(*p) : : "cc", "memory"); \
    if constexpr (sizeof(T) == 2) asm volatile(ATL_FLAGS_IN "lock " name "w %1" ATL_FLAGS_OUT : "+&a"(f), "+m"(*p) : : "cc", "memory"); \
    if constexpr (sizeof(T) == 4) asm volatile(ATL_FLAGS_IN "lock " name "l %1" ATL_FLAGS_OUT : "+&a"(f), "+m"(*p) : : "cc", "memory"); \
    if constexpr (sizeof(T) == 8) asm volatile(ATL_FLAGS_IN "lock " name "q %1" ATL_FLAGS_OUT : "+&a"(f), "+m"(*p) : : "cc", "memory"); \
  } while (0)

template <Unary K, class T>
void locked_unary_host(T* p, u16& cc) {
  u16 f = cc;
  if constexpr (K == Unary::Inc) ATL_LOCKED_UNARY("inc");
  if constexpr (K == Unary::Dec) ATL_LOCKED_UNARY("dec");
  if constexpr (K == Unary::Neg) ATL_LOCKED_UNARY("neg");
  if constexpr (K == Unary::Not) __atomic_xor_fetch(p, static_cast<T>(~T{0}), __ATOMIC_SEQ_CST);  // no flags
  cc = f;
}
#undef ATL_LOCKED_UNARY

template <Unary K, class T>
bool run_locked_unary(Core& core, const Op& op) {
  return atomically<T>(
      core, op, 0, [](T* p, u16& cc) { locked_unary_host<K>(p, cc); }, [](T a, u16& cc) { return unary<K>(a, cc); });
}

template <BitTest K, class T>
void locked_bit_host(T* p, T bit, u16& cc) {
  u16 f = cc;
  if constexpr (K == BitTest::Set) asm volatile(ATL_FLAGS_IN "lock bts %2, %1" ATL_FLAGS_OUT : "+&a"(f), "+m"(*p) : "r"(bit) : "cc", "memory");
  if constexpr (K == BitTest::Reset) asm volatile(ATL_FLAGS_IN "lock btr %2, %1" ATL_FLAGS_OUT : "+&a"(f), "+m"(*p) : "r"(bit) : "cc", "memory");
  if constexpr (K == BitTest::Complement) asm volatile(ATL_FLAGS_IN "lock btc %2, %1" ATL_FLAGS_OUT : "+&a"(f), "+m"(*p) : "r"(bit) : "cc", "memory");
  cc = f;
}

/// A register's bit number moves the address; what remains is a bit of the operand.
template <BitTest K, class T, bool kImmediate>
bool run_locked_bit(Core& core, const Op& op) {
  constexpr int kBits = sizeof(T) * 8;
  T number = source<T>(core, op, kImmediate);
  i64 element = kImmediate ? 0 : i64{static_cast<std::make_signed_t<T>>(number)} / kBits -
                                     (static_cast<std::make_signed_t<T>>(number) % kBits < 0 ? 1 : 0);
  T bit = number & (kBits - 1);
  return atomically<T>(
      core, op, static_cast<u64>(element) * sizeof(T), [bit](T* p, u16& cc) { locked_bit_host<K>(p, bit, cc); },
      [bit](T a, u16& cc) { return bit_test<K>(a, bit, cc); });
}

template <class T>
bool xchg_memory(Core& core, const Op& op) {
  T value = reg<T>(core, op.src), old = 0;
  bool ok = atomically<T>(
      core, op, 0, [&](T* p, u16&) { old = __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST); },
      [&](T a, u16&) {
        old = a;
        return value;
      });
  if (ok) set_reg<T>(core, op.src, old);
  return ok;
}

template <class T>
bool xadd_memory(Core& core, const Op& op) {
  T addend = reg<T>(core, op.src), old = 0;
  auto direct = [&](T* p, u16& cc) {
    u16 f = cc;
    old = addend;
    asm volatile("lock xadd %1, %2\n\tlahf\n\tseto %%al" : "=&a"(f), "+r"(old), "+m"(*p) : : "cc", "memory");
    cc = f;
  };
  auto change = [&](T a, u16& cc) {
    old = a;
    return alu<Alu::Add>(a, addend, cc);
  };
  if (!atomically<T>(core, op, 0, direct, change)) return false;
  set_reg<T>(core, op.src, old);
  return true;
}

template <class T>
bool xadd_register(Core& core, const Op& op) {
  T a = reg<T>(core, op.dst), b = reg<T>(core, op.src);
  u16 cc = core.cc;
  T sum = alu<Alu::Add>(a, b, cc);
  core.cc = cc;
  set_reg<T>(core, op.src, a);  // first, so that the sum wins in XADD of a register with itself
  set_reg<T>(core, op.dst, sum);
  return true;
}

/// SDM vol. 2, CMPXCHG: the accumulator is written only if the comparison fails.
template <class T>
bool cmpxchg_memory(Core& core, const Op& op) {
  T expected = reg<T>(core, kRax), desired = reg<T>(core, op.src), found = expected;
  bool ok = atomically<T>(
      core, op, 0,
      [&](T* p, u16&) { __atomic_compare_exchange_n(p, &found, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); },
      [&](T a, u16&) {
        found = a;
        return a == expected ? desired : a;
      });
  if (!ok) return false;
  u16 cc = core.cc;
  alu<Alu::Cmp>(expected, found, cc);
  core.cc = cc;
  if (found != expected) set_reg<T>(core, kRax, found);
  return true;
}

template <class T>
bool cmpxchg_register(Core& core, const Op& op) {
  T expected = reg<T>(core, kRax), found = reg<T>(core, op.dst);
  u16 cc = core.cc;
  alu<Alu::Cmp>(expected, found, cc);
  core.cc = cc;
  if (found == expected) {
    set_reg<T>(core, op.dst, reg<T>(core, op.src));
  } else {
    set_reg<T>(core, kRax, found);  // the destination stays, its upper half too
  }
  return true;
}

/// Calls f<T>() by operand size.
template <class F>
auto by_size(u8 size, F f) {
  switch (size) {
    case 1: return f.template operator()<u8>();
    case 2: return f.template operator()<u16>();
    case 4: return f.template operator()<u32>();
    default: return f.template operator()<u64>();
  }
}

void set_zero_flag(Core& core, bool set) {
  core.cc = static_cast<u16>(set ? core.cc | kCcZf : core.cc & ~kCcZf);
}

}  // namespace

SystemFunction locked_alu(u8 number, u8 size, bool immediate) {
  return by_size(size, [&]<class T>() -> SystemFunction {
    switch (number) {
      case 0: return immediate ? run_locked_alu<Alu::Add, T, true> : run_locked_alu<Alu::Add, T, false>;
      case 1: return immediate ? run_locked_alu<Alu::Or, T, true> : run_locked_alu<Alu::Or, T, false>;
      case 2: return immediate ? run_locked_alu<Alu::Adc, T, true> : run_locked_alu<Alu::Adc, T, false>;
      case 3: return immediate ? run_locked_alu<Alu::Sbb, T, true> : run_locked_alu<Alu::Sbb, T, false>;
      case 4: return immediate ? run_locked_alu<Alu::And, T, true> : run_locked_alu<Alu::And, T, false>;
      case 5: return immediate ? run_locked_alu<Alu::Sub, T, true> : run_locked_alu<Alu::Sub, T, false>;
      default: return immediate ? run_locked_alu<Alu::Xor, T, true> : run_locked_alu<Alu::Xor, T, false>;
    }
  });
}

SystemFunction locked_unary(u8 number, u8 size) {
  return by_size(size, [&]<class T>() -> SystemFunction {
    switch (static_cast<Unary>(number)) {
      case Unary::Inc: return run_locked_unary<Unary::Inc, T>;
      case Unary::Dec: return run_locked_unary<Unary::Dec, T>;
      case Unary::Neg: return run_locked_unary<Unary::Neg, T>;
      default: return run_locked_unary<Unary::Not, T>;
    }
  });
}

SystemFunction locked_bit(u8 number, u8 size, bool immediate) {
  auto pick = [&]<class T>() -> SystemFunction {
    switch (static_cast<BitTest>(number)) {
      case BitTest::Set: return immediate ? run_locked_bit<BitTest::Set, T, true> : run_locked_bit<BitTest::Set, T, false>;
      case BitTest::Reset: return immediate ? run_locked_bit<BitTest::Reset, T, true> : run_locked_bit<BitTest::Reset, T, false>;
      default: return immediate ? run_locked_bit<BitTest::Complement, T, true> : run_locked_bit<BitTest::Complement, T, false>;
    }
  };
  if (size == 2) return pick.template operator()<u16>();
  return size == 4 ? pick.template operator()<u32>() : pick.template operator()<u64>();
}

bool run_xchg_mem(Core& core, const Op& op) {
  return by_size(op.opsize, [&]<class T>() { return xchg_memory<T>(core, op); });
}

bool run_xadd(Core& core, const Op& op) {
  return by_size(op.opsize, [&]<class T>() { return op.extra ? xadd_register<T>(core, op) : xadd_memory<T>(core, op); });
}

bool run_cmpxchg(Core& core, const Op& op) {
  return by_size(op.opsize,
                 [&]<class T>() { return op.extra ? cmpxchg_register<T>(core, op) : cmpxchg_memory<T>(core, op); });
}

bool run_cmpxchg8b(Core& core, const Op& op) {
  u64 expected = core.gpr[kRdx] << 32 | static_cast<u32>(core.gpr[kRax]), found = expected;
  u64 desired = core.gpr[kRcx] << 32 | static_cast<u32>(core.gpr[kRbx]);
  bool ok = atomically<u64>(
      core, op, 0,
      [&](u64* p, u16&) { __atomic_compare_exchange_n(p, &found, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); },
      [&](u64 a, u16&) {
        found = a;
        return a == expected ? desired : a;
      });
  if (!ok) return false;
  set_zero_flag(core, found == expected);
  if (found != expected) {
    core.gpr[kRax] = static_cast<u32>(found);
    core.gpr[kRdx] = found >> 32;
  }
  return true;
}

namespace {

struct Wide {
  u64 low = 0, high = 0;
  bool operator==(const Wide&) const = default;
};

void cmpxchg16b_host(u8* host, Wide& found, Wide desired) {
  asm volatile("lock cmpxchg16b %0"
               : "+m"(*reinterpret_cast<u128*>(host)), "+a"(found.low), "+d"(found.high)
               : "b"(desired.low), "c"(desired.high)
               : "cc", "memory");
}

bool cmpxchg16b_fallback(Core& core, u64 linear, Wide& found, Wide desired) {
  std::lock_guard guard(core.vm->atomic_fallback);
  Wide expected = found;
  if (!probe_write(core, linear, 16) || !read_slow(core, linear, &found, 16)) return false;
  Wide result = found == expected ? desired : found;
  return write_slow(core, linear, &result, 16);
}

}  // namespace

/// Memory that is not aligned to 16 bytes is #GP(0).
bool run_cmpxchg16b(Core& core, const Op& op) {
  Loaded address = general_linear(core, &op, 16, true);
  if (!address.ok) return false;
  if (address.value & 15) return core.raise(kGP, 0);
  Wide expected{core.gpr[kRax], core.gpr[kRdx]}, found = expected, desired{core.gpr[kRbx], core.gpr[kRcx]};
  if (u8* host = host_for_atomic(core, address.value, 16)) {
    cmpxchg16b_host(host, found, desired);
  } else if (core.fault_pending || !cmpxchg16b_fallback(core, address.value, found, desired)) {
    return false;
  }
  set_zero_flag(core, found == expected);
  if (found != expected) {
    core.gpr[kRax] = found.low;
    core.gpr[kRdx] = found.high;
  }
  return true;
}

}  // namespace atl::soft
