// MOVS CMPS STOS LODS SCAS, with and without REP (SDM vol. 2).
//
// Registers are exact after every element, so that a fault in the middle leaves them as the processor does. Runs that lie in
// one page of RAM on each side go at once. A repeated instruction looks for attention between such runs; it then stops with
// RIP on itself.
#include <algorithm>

#include "cpu/soft/exec/flag_ops.h"
#include "cpu/soft/exec/misc.h"
#include "cpu/soft/exec/operand.h"

namespace atl::soft {

namespace {

/// Registers of a string instruction by its address size.
class Pointers {
 public:
  Pointers(Core& core, const Op& op) : core_(core), op_(op), mask_(address_mask(op.addrsize)) {}

  u64 count() const { return core_.gpr[kRcx] & mask_; }
  u64 offset(u8 reg) const { return core_.gpr[reg] & mask_; }
  bool backward() const { return core_.other_flags & kDF; }
  void add(u8 reg, u64 delta) { put(reg, core_.gpr[reg] + delta); }
  void step(u8 reg, unsigned size, u64 elements = 1) { add(reg, backward() ? u64{0} - size * elements : size * elements); }

 private:
  /// 32-bit results clear the upper half, 16-bit ones leave the rest.
  void put(u8 reg, u64 value) {
    core_.gpr[reg] = op_.addrsize == 2 ? (core_.gpr[reg] & ~mask_) | (value & mask_) : value & mask_;
  }

  Core& core_;
  const Op& op_;
  u64 mask_;
};

template <class T>
Loaded load_source(Core& core, const Op& op, u64 offset) {
  u64 linear = 0;
  if (!segment_linear(core, op.seg, offset, sizeof(T), false, linear)) return {0, false};
  if (u8* host = fast_host(core, linear, sizeof(T), Access::Read)) {
    T value;
    std::memcpy(&value, host, sizeof(T));
    return {value, true};
  }
  return load_slow(core, linear, op.seg, sizeof(T));
}

template <class T>
Loaded load_destination(Core& core, u64 offset) {
  u64 linear = 0;
  if (!segment_linear(core, kEs, offset, sizeof(T), false, linear)) return {0, false};
  if (u8* host = fast_host(core, linear, sizeof(T), Access::Read)) {
    T value;
    std::memcpy(&value, host, sizeof(T));
    return {value, true};
  }
  return load_slow(core, linear, kEs, sizeof(T));
}

template <class T>
bool store_destination(Core& core, u64 offset, T value) {
  u64 linear = 0;
  if (!segment_linear(core, kEs, offset, sizeof(T), true, linear)) return false;
  if (u8* host = fast_host(core, linear, sizeof(T), Access::Write)) {
    std::memcpy(host, &value, sizeof(T));
    return true;
  }
  return store_slow(core, linear, kEs, sizeof(T), value);
}

template <class T>
bool movs_one(Core& core, const Op& op, Pointers& at) {
  Loaded value = load_source<T>(core, op, at.offset(kRsi));
  if (!value.ok || !store_destination<T>(core, at.offset(kRdi), static_cast<T>(value.value))) return false;
  at.step(kRsi, sizeof(T));
  at.step(kRdi, sizeof(T));
  return true;
}

template <class T>
bool stos_one(Core& core, const Op&, Pointers& at) {
  if (!store_destination<T>(core, at.offset(kRdi), static_cast<T>(core.gpr[kRax]))) return false;
  at.step(kRdi, sizeof(T));
  return true;
}

template <class T>
bool lods_one(Core& core, const Op& op, Pointers& at) {
  Loaded value = load_source<T>(core, op, at.offset(kRsi));
  if (!value.ok) return false;
  set_reg<T>(core, 0, static_cast<T>(value.value));  // AL's place and RAX's number are both 0
  at.step(kRsi, sizeof(T));
  return true;
}

template <class T>
void compare(Core& core, T a, T b) {
  u16 cc = core.cc;
  alu<Alu::Cmp>(a, b, cc);
  core.cc = cc;
}

template <class T>
bool cmps_one(Core& core, const Op& op, Pointers& at) {
  Loaded a = load_source<T>(core, op, at.offset(kRsi));
  if (!a.ok) return false;
  Loaded b = load_destination<T>(core, at.offset(kRdi));
  if (!b.ok) return false;
  compare(core, static_cast<T>(a.value), static_cast<T>(b.value));
  at.step(kRsi, sizeof(T));
  at.step(kRdi, sizeof(T));
  return true;
}

template <class T>
bool scas_one(Core& core, const Op&, Pointers& at) {
  Loaded b = load_destination<T>(core, at.offset(kRdi));
  if (!b.ok) return false;
  compare(core, static_cast<T>(core.gpr[kRax]), static_cast<T>(b.value));
  at.step(kRdi, sizeof(T));
  return true;
}

// -- many elements at once ---------------------------------------------------------------------------------------------------

/// Elements that lie in one page of RAM, from the first one on in the direction of DF. Count 0: go one by one.
struct Elements {
  u8* host = nullptr;   // of the one with the lowest address
  u64 count = 0;
};

/// The linear address if it needs no checks but the page's.
bool plain_linear(const Core& core, u8 seg, u64 offset, u64& linear) {
  if (core.code_size == CodeSize::k64) {
    linear = offset + (seg == kFs || seg == kGs ? core.seg[seg].base : 0);
    return true;
  }
  linear = offset;
  return core.flat_data && (seg == kDs || seg == kEs || seg == kSs);
}

/// Up to `wanted` elements from `offset`: in one page, inside the segment, not past the address size's wrap.
template <class T>
Elements elements(Core& core, u8 seg, u64 offset, Access access, u8 addrsize, u64 wanted, bool backward) {
  u64 linear = 0;
  if (!plain_linear(core, seg, offset, linear)) return {};
  HostRun run = host_run(core, linear, access);
  if (!run.host || run.bytes < sizeof(T)) return {};
  if (!backward) return {run.host, std::min({run.bytes, address_mask(addrsize) - offset, wanted * sizeof(T)}) / sizeof(T)};
  const u64 below = std::min(linear & (kPageSize - 1), offset);
  const u64 count = std::min(below / sizeof(T) + 1, wanted);
  return {run.host - (count - 1) * sizeof(T), count};
}

template <class T>
void move_element(u8* to, const u8* from, u64 index) {
  T value;
  std::memcpy(&value, from + index * sizeof(T), sizeof(T));
  std::memcpy(to + index * sizeof(T), &value, sizeof(T));
}

/// The same number of elements of both, in the direction of DF.
template <class T>
void cut(Elements& elements, u64 count, bool backward) {
  if (backward) elements.host += (elements.count - count) * sizeof(T);
  elements.count = count;
}

/// Elements moved; 0: none could be. Overlapping runs keep the order of single moves.
template <class T>
u64 movs_run(Core& core, const Op& op, Pointers& at, u64 wanted) {
  const bool backward = at.backward();
  Elements from = elements<T>(core, op.seg, at.offset(kRsi), Access::Read, op.addrsize, wanted, backward);
  if (from.count == 0) return 0;  // what is not written is not dirty
  Elements to = elements<T>(core, kEs, at.offset(kRdi), Access::Write, op.addrsize, wanted, backward);
  const u64 count = std::min(from.count, to.count), bytes = count * sizeof(T);
  if (count == 0) return 0;
  cut<T>(from, count, backward);
  cut<T>(to, count, backward);
  const bool apart = to.host + bytes <= from.host || from.host + bytes <= to.host;
  if (apart) std::memcpy(to.host, from.host, bytes);
  else if (backward) for (u64 i = count; i-- > 0;) move_element<T>(to.host, from.host, i);
  else for (u64 i = 0; i < count; ++i) move_element<T>(to.host, from.host, i);
  return count;
}

template <class T>
u64 stos_run(Core& core, const Op& op, Pointers& at, u64 wanted) {
  const Elements to = elements<T>(core, kEs, at.offset(kRdi), Access::Write, op.addrsize, wanted, at.backward());
  if (to.count == 0) return 0;
  const auto value = static_cast<T>(core.gpr[kRax]);
  constexpr auto kOnes = static_cast<T>(0x0101010101010101);
  if (value == static_cast<T>((value & 0xff) * kOnes)) std::memset(to.host, value & 0xff, to.count * sizeof(T));
  else for (u64 i = 0; i < to.count; ++i) std::memcpy(to.host + i * sizeof(T), &value, sizeof(T));
  return to.count;
}

template <class T>
T element(const u8* host, u64 index) {
  T value;
  std::memcpy(&value, host + index * sizeof(T), sizeof(T));
  return value;
}

/// Upwards only. Ends behind the first pair whose equality is not what REP asks for, with the flags of that comparison.
template <class T, class Left>
u64 compare_run(Core& core, const Op& op, const u8* right, u64 count, Left left) {
  const bool while_equal = op.rep == 0xf3;
  u64 done = 0;
  while (done < count && (left(done) == element<T>(right, done)) == while_equal) ++done;
  if (done < count) ++done;
  if (done != 0) compare(core, left(done - 1), element<T>(right, done - 1));
  return done;
}

template <class T>
u64 cmps_run(Core& core, const Op& op, Pointers& at, u64 wanted) {
  if (at.backward()) return 0;
  const Elements a = elements<T>(core, op.seg, at.offset(kRsi), Access::Read, op.addrsize, wanted, false);
  const Elements b = elements<T>(core, kEs, at.offset(kRdi), Access::Read, op.addrsize, wanted, false);
  return compare_run<T>(core, op, b.host, std::min(a.count, b.count), [&](u64 i) { return element<T>(a.host, i); });
}

template <class T>
u64 scas_run(Core& core, const Op& op, Pointers& at, u64 wanted) {
  if (at.backward()) return 0;
  const Elements b = elements<T>(core, kEs, at.offset(kRdi), Access::Read, op.addrsize, wanted, false);
  return compare_run<T>(core, op, b.host, b.count, [&](u64) { return static_cast<T>(core.gpr[kRax]); });
}

enum class String : u8 { Movs, Cmps, Stos, Lods, Scas };

/// One element. False after a fault.
template <String K, class T>
bool one(Core& core, const Op& op, Pointers& at) {
  if constexpr (K == String::Movs) return movs_one<T>(core, op, at);
  if constexpr (K == String::Cmps) return cmps_one<T>(core, op, at);
  if constexpr (K == String::Stos) return stos_one<T>(core, op, at);
  if constexpr (K == String::Lods) return lods_one<T>(core, op, at);
  if constexpr (K == String::Scas) return scas_one<T>(core, op, at);
}

/// As many elements as go at once, with the pointers and RCX moved. False: none.
template <String K, class T>
bool many(Core& core, const Op& op, Pointers& at) {
  const u64 wanted = at.count();
  u64 done = 0;
  if constexpr (K == String::Movs) done = movs_run<T>(core, op, at, wanted);
  if constexpr (K == String::Stos) done = stos_run<T>(core, op, at, wanted);
  if constexpr (K == String::Cmps) done = cmps_run<T>(core, op, at, wanted);
  if constexpr (K == String::Scas) done = scas_run<T>(core, op, at, wanted);
  if (done == 0) return false;
  if (K == String::Movs || K == String::Cmps) at.step(kRsi, sizeof(T), done);
  at.step(kRdi, sizeof(T), done);
  at.add(kRcx, u64{0} - done);
  return true;
}

/// REPE goes on while ZF = 1, REPNE while ZF = 0.
template <String K>
bool compared_enough(const Core& core, const Op& op) {
  if constexpr (K != String::Cmps && K != String::Scas) return false;
  bool equal = core.cc & kCcZf;
  return op.rep == 0xf3 ? !equal : equal;
}

template <String K, class T>
bool repeat(Core& core, const Op& op) {
  Pointers at(core, op);
  bool stepping = core.other_flags & kTF;
  for (unsigned turn = 1; at.count() != 0; ++turn) {
    if (stepping || !many<K, T>(core, op, at)) {
      if (!one<K, T>(core, op, at)) return false;
      at.add(kRcx, ~u64{0});
    }
    if (compared_enough<K>(core, op)) return true;
    if (at.count() != 0 && (must_pause(core) || turn == kMostTurns)) {
      core.next_rip = core.rip;
      return true;
    }
  }
  return true;
}

template <String K, class T>
bool run_string(Core& core, const Op& op) {
  if (op.rep) return repeat<K, T>(core, op);
  Pointers at(core, op);
  return one<K, T>(core, op, at);
}

template <String K>
SystemFunction by_size(u8 size) {
  switch (size) {
    case 1: return run_string<K, u8>;
    case 2: return run_string<K, u16>;
    case 4: return run_string<K, u32>;
    default: return run_string<K, u64>;
  }
}

}  // namespace

SystemFunction string_function(u8 opcode, u8 size) {
  switch (opcode) {
    case 0xa4: return by_size<String::Movs>(size);
    case 0xa6: return by_size<String::Cmps>(size);
    case 0xaa: return by_size<String::Stos>(size);
    case 0xac: return by_size<String::Lods>(size);
    default: return by_size<String::Scas>(size);
  }
}

}  // namespace atl::soft
