// MUL IMUL DIV IDIV. The host's own instructions compute; what would make them trap is found first.
#include "cpu/soft/exec/pick.h"

namespace atl::soft {

namespace {

template <class T>
[[gnu::always_inline]] inline T imul_low(T a, T b, u16& cc) {
  u16 f = cc;
  // OF and CF are written; the rest is undefined and goes in, as hosts differ in what they do to it.
  asm("sahf\n\timul %2, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "r"(b) : "cc");
  cc = f;
  return a;
}

template <class T>
[[gnu::always_inline]] inline const Op* imul_into(Core& core, const Op* op, T a, T b) {
  u16 cc = core.cc;
  set_reg<T>(core, op->dst, imul_low<T>(a, b, cc));
  core.cc = cc;
  return next(core, op);
}

template <class T>
const Op* imul_reg_reg(Core& core, const Op* op) {
  return imul_into<T>(core, op, reg<T>(core, op->dst), reg<T>(core, op->src));
}

template <class T>
const Op* imul_reg_reg_imm(Core& core, const Op* op) {
  return imul_into<T>(core, op, reg<T>(core, op->src), static_cast<T>(op->imm));
}

template <class T, AddressKind A>
const Op* imul_reg_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T b) { return imul_into<T>(c, o, reg<T>(c, o->dst), b); }>(core, op);
}

template <class T, AddressKind A>
const Op* imul_reg_mem_imm(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T a) { return imul_into<T>(c, o, a, static_cast<T>(o->imm)); }>(core, op);
}

/// The pair rDX:rAX, or AX for bytes, as low and high half.
template <class T>
struct Wide {
  T low, high;
};

template <class T>
inline Wide<T> get_wide(const Core& core) {
  if constexpr (sizeof(T) == 1) return {static_cast<u8>(core.gpr[kRax]), static_cast<u8>(core.gpr[kRax] >> 8)};
  return {static_cast<T>(core.gpr[kRax]), static_cast<T>(core.gpr[kRdx])};
}

template <class T>
inline void set_wide(Core& core, T low, T high) {
  if constexpr (sizeof(T) == 1) {
    set_reg<u16>(core, kRax, static_cast<u16>(low | high << 8));
  } else {
    set_reg<T>(core, kRax, low);
    set_reg<T>(core, kRdx, high);
  }
}

// The host's flags travel in another register than AX here, by PUSHF, because AX is an operand.
#define ATL_WIDE_FLAGS_IN "push %q[f]\n\tpopfq\n\t"
#define ATL_WIDE_FLAGS_OUT "\n\tpushfq\n\tpop %q[f]"

/// Steps over the red zone, where the compiler may keep locals.
#define ATL_SKIP_RED_ZONE "lea -128(%%rsp), %%rsp\n\t"
#define ATL_UNSKIP_RED_ZONE "\n\tlea 128(%%rsp), %%rsp"

inline u64 host_flags(u16 cc) { return (cc >> 8 & 0xd5) | 2 | (cc & 1 ? 0x800 : 0); }
inline u16 from_host_flags(u64 flags) {
  return static_cast<u16>((flags & 0xd5) << 8 | 0x200 | (flags >> 11 & 1));
}

template <bool kSigned, class T>
[[gnu::always_inline]] inline void multiply_host(T& low, T& high, T operand, u64& f) {
  if constexpr (sizeof(T) == 1) {
    u16 ax = low;
    if constexpr (kSigned) {
      asm(ATL_SKIP_RED_ZONE ATL_WIDE_FLAGS_IN "imul %b[b]" ATL_WIDE_FLAGS_OUT ATL_UNSKIP_RED_ZONE
          : "+a"(ax), [f] "+r"(f) : [b] "q"(operand) : "cc", "memory");
    } else {
      asm(ATL_SKIP_RED_ZONE ATL_WIDE_FLAGS_IN "mul %b[b]" ATL_WIDE_FLAGS_OUT ATL_UNSKIP_RED_ZONE
          : "+a"(ax), [f] "+r"(f) : [b] "q"(operand) : "cc", "memory");
    }
    low = static_cast<u8>(ax);
    high = static_cast<u8>(ax >> 8);
  } else if constexpr (kSigned) {
    asm(ATL_SKIP_RED_ZONE ATL_WIDE_FLAGS_IN "imul %[b]" ATL_WIDE_FLAGS_OUT ATL_UNSKIP_RED_ZONE
        : "+a"(low), "=d"(high), [f] "+r"(f) : [b] "r"(operand) : "cc", "memory");
  } else {
    asm(ATL_SKIP_RED_ZONE ATL_WIDE_FLAGS_IN "mul %[b]" ATL_WIDE_FLAGS_OUT ATL_UNSKIP_RED_ZONE
        : "+a"(low), "=d"(high), [f] "+r"(f) : [b] "r"(operand) : "cc", "memory");
  }
}

template <bool kSigned, class T>
[[gnu::always_inline]] inline void divide_host(T& low, T& high, T operand, u64& f) {
  if constexpr (sizeof(T) == 1) {
    u16 ax = static_cast<u16>(low | high << 8);
    if constexpr (kSigned) {
      asm(ATL_SKIP_RED_ZONE ATL_WIDE_FLAGS_IN "idiv %b[b]" ATL_WIDE_FLAGS_OUT ATL_UNSKIP_RED_ZONE
          : "+a"(ax), [f] "+r"(f) : [b] "q"(operand) : "cc", "memory");
    } else {
      asm(ATL_SKIP_RED_ZONE ATL_WIDE_FLAGS_IN "div %b[b]" ATL_WIDE_FLAGS_OUT ATL_UNSKIP_RED_ZONE
          : "+a"(ax), [f] "+r"(f) : [b] "q"(operand) : "cc", "memory");
    }
    low = static_cast<u8>(ax);
    high = static_cast<u8>(ax >> 8);
  } else if constexpr (kSigned) {
    asm(ATL_SKIP_RED_ZONE ATL_WIDE_FLAGS_IN "idiv %[b]" ATL_WIDE_FLAGS_OUT ATL_UNSKIP_RED_ZONE
        : "+a"(low), "+d"(high), [f] "+r"(f) : [b] "r"(operand) : "cc", "memory");
  } else {
    asm(ATL_SKIP_RED_ZONE ATL_WIDE_FLAGS_IN "div %[b]" ATL_WIDE_FLAGS_OUT ATL_UNSKIP_RED_ZONE
        : "+a"(low), "+d"(high), [f] "+r"(f) : [b] "r"(operand) : "cc", "memory");
  }
}

/// Whether the quotient of high:low by `operand` does not fit: the processor's #DE.
template <bool kSigned, class T>
bool divide_error(T low, T high, T operand) {
  if (operand == 0) return true;
  if constexpr (!kSigned) return high >= operand;
  constexpr unsigned kBits = sizeof(T) * 8;
  using Signed = std::make_signed_t<T>;
  bool negative = static_cast<Signed>(high) < 0, operand_negative = static_cast<Signed>(operand) < 0;
  // 16 bytes hold any dividend and its absolute value.
  u128 magnitude = static_cast<u128>(high) << kBits | low;
  if (negative) magnitude = (kBits == 64 ? u128{0} : static_cast<u128>(1) << 2 * kBits % 128) - magnitude;
  T divisor = operand_negative ? static_cast<T>(-operand) : operand;
  u128 limit = (static_cast<u128>(1) << (kBits - 1)) + (negative != operand_negative ? 1 : 0);
  return magnitude >= limit * divisor;
}

/// One-operand forms are long-running anyway: one function each, with the operand in a register or General memory.
template <bool kSigned, class T>
[[gnu::noinline]] void multiply_wide(Core& core, T operand) {
  Wide<T> wide = get_wide<T>(core);
  u64 flags = host_flags(core.cc);
  multiply_host<kSigned, T>(wide.low, wide.high, operand, flags);
  set_wide<T>(core, wide.low, wide.high);
  core.cc = from_host_flags(flags);
}

template <bool kSigned, class T>
[[gnu::noinline]] bool divide_wide(Core& core, T operand) {
  Wide<T> wide = get_wide<T>(core);
  if (divide_error<kSigned, T>(wide.low, wide.high, operand)) return core.raise(kDE);
  u64 flags = host_flags(core.cc);
  divide_host<kSigned, T>(wide.low, wide.high, operand, flags);
  set_wide<T>(core, wide.low, wide.high);
  core.cc = from_host_flags(flags);
  return true;
}

template <bool kSigned, class T>
const Op* multiply_with(Core& core, const Op* op, T operand) {
  multiply_wide<kSigned, T>(core, operand);
  return next(core, op);
}

template <bool kSigned, class T>
const Op* divide_with(Core& core, const Op* op, T operand) {
  if (!divide_wide<kSigned, T>(core, operand)) return leave_faulted(core, op);
  return next(core, op);
}

/// Runs Body with the operand of shape Reg or Mem.
template <class T, auto Body>
const Op* with_reg(Core& core, const Op* op) {
  return Body(core, op, reg<T>(core, op->dst));
}

template <class T, AddressKind A, auto Body>
const Op* with_mem(Core& core, const Op* op) {
  return load_then<T, A, [](Core& c, const Op* o, T value) { return Body(c, o, value); }>(core, op);
}

template <class T, auto Body>
Handler pick_operand(const Pick& pick) {
  if (pick.shape == Shape::Reg) return with_reg<T, Body>;
  return with_address(pick.address, []<AddressKind A>() -> Handler { return with_mem<T, A, Body>; });
}

}  // namespace

Handler pick_imul_two(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::RegReg) return imul_reg_reg<T>;
    return with_address(pick.address, []<AddressKind A>() -> Handler { return imul_reg_mem<T, A>; });
  });
}

Handler pick_imul_three(const Pick& pick) {
  return with_word_size(pick.size, [&]<class T>() -> Handler {
    if (pick.shape == Shape::RegReg) return imul_reg_reg_imm<T>;
    return with_address(pick.address, []<AddressKind A>() -> Handler { return imul_reg_mem_imm<T, A>; });
  });
}

template <bool kSigned>
Handler pick_multiply(const Pick& pick) {
  return with_size(pick.size, [&]<class T>() -> Handler { return pick_operand<T, multiply_with<kSigned, T>>(pick); });
}

template Handler pick_multiply<true>(const Pick&);
template Handler pick_multiply<false>(const Pick&);

template <bool kSigned>
Handler pick_divide(const Pick& pick) {
  return with_size(pick.size, [&]<class T>() -> Handler { return pick_operand<T, divide_with<kSigned, T>>(pick); });
}

template Handler pick_divide<true>(const Pick&);
template Handler pick_divide<false>(const Pick&);

}  // namespace atl::soft
