// Arithmetic on the host's own instructions, flags in and out in the form of Core::cc. Undefined flags come out as the host
// has them. Each function names its instruction in the Intel SDM's spelling.
#pragma once

#include "base/types.h"

namespace atl::soft {

enum class Alu : u8 { Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test };

inline constexpr u16 kCcCf = 0x100, kCcPf = 0x400, kCcAf = 0x1000, kCcZf = 0x4000, kCcSf = 0x8000, kCcOf = 1;

/// `a` = a op b; CMP and TEST leave the result in no register, so the caller ignores it.
template <Alu K, class T>
[[gnu::always_inline]] inline T alu(T a, T b, u16& cc) {
  u16 f = cc;
  if constexpr (K == Alu::Add) asm("add %2, %0\n\tlahf\n\tseto %%al" : "+r"(a), "=a"(f) : "r"(b) : "cc");
  if constexpr (K == Alu::Or) asm("or %2, %0\n\tlahf\n\tseto %%al" : "+r"(a), "=a"(f) : "r"(b) : "cc");
  if constexpr (K == Alu::And) asm("and %2, %0\n\tlahf\n\tseto %%al" : "+r"(a), "=a"(f) : "r"(b) : "cc");
  if constexpr (K == Alu::Sub) asm("sub %2, %0\n\tlahf\n\tseto %%al" : "+r"(a), "=a"(f) : "r"(b) : "cc");
  if constexpr (K == Alu::Xor) asm("xor %2, %0\n\tlahf\n\tseto %%al" : "+r"(a), "=a"(f) : "r"(b) : "cc");
  if constexpr (K == Alu::Cmp) asm("cmp %2, %1\n\tlahf\n\tseto %%al" : "=a"(f) : "r"(a), "r"(b) : "cc");
  if constexpr (K == Alu::Test) asm("test %2, %1\n\tlahf\n\tseto %%al" : "=a"(f) : "r"(a), "r"(b) : "cc");
  if constexpr (K == Alu::Adc) asm("btw $8, %w1\n\tadc %2, %0\n\tlahf\n\tseto %%al" : "+r"(a), "+a"(f) : "r"(b) : "cc");
  if constexpr (K == Alu::Sbb) asm("btw $8, %w1\n\tsbb %2, %0\n\tlahf\n\tseto %%al" : "+r"(a), "+a"(f) : "r"(b) : "cc");
  cc = f;
  return a;
}

enum class Unary : u8 { Inc, Dec, Neg, Not };

template <Unary K, class T>
[[gnu::always_inline]] inline T unary(T a, u16& cc) {
  u16 f = cc;
  // BT puts CF back, which INC and DEC keep.
  if constexpr (K == Unary::Inc) asm("btw $8, %w1\n\tinc %0\n\tlahf\n\tseto %%al" : "+r"(a), "+a"(f) : : "cc");
  if constexpr (K == Unary::Dec) asm("btw $8, %w1\n\tdec %0\n\tlahf\n\tseto %%al" : "+r"(a), "+a"(f) : : "cc");
  if constexpr (K == Unary::Neg) asm("neg %0\n\tlahf\n\tseto %%al" : "+r"(a), "=a"(f) : : "cc");
  if constexpr (K == Unary::Not) a = static_cast<T>(~a);
  cc = f;
  return a;
}

enum class Shift : u8 { Rol, Ror, Rcl, Rcr, Shl, Shr, Sar };

// AL + 7f overflows exactly if AL, the saved OF, is 1: with SAHF, all six flags are back as they were, which matters where
// the count is 0 or a flag stays as it was.
#define ATL_FLAGS_IN "add $0x7f, %%al\n\tsahf\n\t"
#define ATL_FLAGS_OUT "\n\tlahf\n\tseto %%al"

template <Shift K, class T>
[[gnu::always_inline]] inline T shift(T a, u8 count, u16& cc) {
  u16 f = cc;
  if constexpr (K == Shift::Rol) asm(ATL_FLAGS_IN "rol %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "c"(count) : "cc");
  if constexpr (K == Shift::Ror) asm(ATL_FLAGS_IN "ror %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "c"(count) : "cc");
  if constexpr (K == Shift::Rcl) asm(ATL_FLAGS_IN "rcl %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "c"(count) : "cc");
  if constexpr (K == Shift::Rcr) asm(ATL_FLAGS_IN "rcr %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "c"(count) : "cc");
  if constexpr (K == Shift::Shl) asm(ATL_FLAGS_IN "shl %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "c"(count) : "cc");
  if constexpr (K == Shift::Shr) asm(ATL_FLAGS_IN "shr %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "c"(count) : "cc");
  if constexpr (K == Shift::Sar) asm(ATL_FLAGS_IN "sar %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "c"(count) : "cc");
  cc = f;
  return a;
}

/// SHL, SHR or SAR by a count that is not 0 after masking: every flag is written.
template <Shift K, class T>
[[gnu::always_inline]] inline T shift_nonzero(T a, u8 count, u16& cc) {
  if constexpr (K == Shift::Shl) asm("shl %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "=a"(cc) : "c"(count) : "cc");
  if constexpr (K == Shift::Shr) asm("shr %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "=a"(cc) : "c"(count) : "cc");
  if constexpr (K == Shift::Sar) asm("sar %%cl, %0" ATL_FLAGS_OUT : "+r"(a), "=a"(cc) : "c"(count) : "cc");
  return a;
}

/// SHLD (left) and SHRD; T is not a byte.
template <bool kLeft, class T>
[[gnu::always_inline]] inline T double_shift(T a, T b, u8 count, u16& cc) {
  u16 f = cc;
  if constexpr (kLeft) {
    asm(ATL_FLAGS_IN "shld %%cl, %2, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "r"(b), "c"(count) : "cc");
  } else {
    asm(ATL_FLAGS_IN "shrd %%cl, %2, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "r"(b), "c"(count) : "cc");
  }
  cc = f;
  return a;
}

enum class BitTest : u8 { Test, Set, Reset, Complement };

/// BT, BTS, BTR, BTC on a register; the bit number is taken modulo the size. T is not a byte.
template <BitTest K, class T>
[[gnu::always_inline]] inline T bit_test(T a, T bit, u16& cc) {
  u16 f = cc;
  if constexpr (K == BitTest::Test) asm(ATL_FLAGS_IN "bt %2, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "r"(bit) : "cc");
  if constexpr (K == BitTest::Set) asm(ATL_FLAGS_IN "bts %2, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "r"(bit) : "cc");
  if constexpr (K == BitTest::Reset) asm(ATL_FLAGS_IN "btr %2, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "r"(bit) : "cc");
  if constexpr (K == BitTest::Complement) asm(ATL_FLAGS_IN "btc %2, %0" ATL_FLAGS_OUT : "+r"(a), "+a"(f) : "r"(bit) : "cc");
  cc = f;
  return a;
}

enum class BitScan : u8 { Bsf, Bsr, Tzcnt, Lzcnt, Popcnt };

/// `old` is the destination's value, all 64 bits of it: BSF and BSR of zero leave it as the host does. T is not a byte. The
/// host has ABM and BMI1 if the guest was offered them.
template <BitScan K, class T>
[[gnu::always_inline]] inline u64 bit_scan(T a, u64 old, u16& cc) {
  u16 f = cc;
  if constexpr (sizeof(T) == 2) {
    if constexpr (K == BitScan::Bsf) asm(ATL_FLAGS_IN "bsf %w2, %w0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Bsr) asm(ATL_FLAGS_IN "bsr %w2, %w0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Tzcnt) asm(ATL_FLAGS_IN "tzcnt %w2, %w0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Lzcnt) asm(ATL_FLAGS_IN "lzcnt %w2, %w0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Popcnt) asm(ATL_FLAGS_IN "popcnt %w2, %w0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
  } else if constexpr (sizeof(T) == 4) {
    if constexpr (K == BitScan::Bsf) asm(ATL_FLAGS_IN "bsf %k2, %k0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Bsr) asm(ATL_FLAGS_IN "bsr %k2, %k0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Tzcnt) asm(ATL_FLAGS_IN "tzcnt %k2, %k0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Lzcnt) asm(ATL_FLAGS_IN "lzcnt %k2, %k0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Popcnt) asm(ATL_FLAGS_IN "popcnt %k2, %k0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
  } else {
    if constexpr (K == BitScan::Bsf) asm(ATL_FLAGS_IN "bsf %2, %0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Bsr) asm(ATL_FLAGS_IN "bsr %2, %0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Tzcnt) asm(ATL_FLAGS_IN "tzcnt %2, %0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Lzcnt) asm(ATL_FLAGS_IN "lzcnt %2, %0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
    if constexpr (K == BitScan::Popcnt) asm(ATL_FLAGS_IN "popcnt %2, %0" ATL_FLAGS_OUT : "+r"(old), "+a"(f) : "r"(a) : "cc");
  }
  cc = f;
  return old;
}

/// Whether condition C (the low four bits of Jcc's opcode) holds.
template <u8 C>
[[gnu::always_inline]] inline bool condition(u16 cc) {
  constexpr u8 kind = C >> 1;
  bool holds;
  if constexpr (kind == 0) holds = cc & kCcOf;
  if constexpr (kind == 1) holds = cc & kCcCf;
  if constexpr (kind == 2) holds = cc & kCcZf;
  if constexpr (kind == 3) holds = cc & (kCcCf | kCcZf);
  if constexpr (kind == 4) holds = cc & kCcSf;
  if constexpr (kind == 5) holds = cc & kCcPf;
  if constexpr (kind == 6) holds = (cc >> 15 ^ cc) & 1;
  if constexpr (kind == 7) holds = (cc & kCcZf) || ((cc >> 15 ^ cc) & 1);
  return holds != (C & 1);
}

/// Calls f.template operator()<C>() for the condition code `code`.
template <class F>
auto with_condition(u8 code, F f) {
  switch (code & 15) {
    case 0: return f.template operator()<0>();
    case 1: return f.template operator()<1>();
    case 2: return f.template operator()<2>();
    case 3: return f.template operator()<3>();
    case 4: return f.template operator()<4>();
    case 5: return f.template operator()<5>();
    case 6: return f.template operator()<6>();
    case 7: return f.template operator()<7>();
    case 8: return f.template operator()<8>();
    case 9: return f.template operator()<9>();
    case 10: return f.template operator()<10>();
    case 11: return f.template operator()<11>();
    case 12: return f.template operator()<12>();
    case 13: return f.template operator()<13>();
    case 14: return f.template operator()<14>();
    default: return f.template operator()<15>();
  }
}

}  // namespace atl::soft
