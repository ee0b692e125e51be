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

/// Host memory for up to `wanted` elements from `offset` upwards: in one page, inside the segment, not past the address
/// size's wrap. No elements: go one by one.
template <class T>
HostRun element_run(Core& core, u8 seg, u64 offset, Access access, u8 addrsize, u64 wanted) {
  u64 linear = 0;
  if (core.code_size == CodeSize::k64) {
    linear = offset + (seg == kFs || seg == kGs ? core.seg[seg].base : 0);
  } else {
    if (!core.flat_data || (seg != kDs && seg != kEs && seg != kSs)) return {};
    linear = offset;
  }
  HostRun run = host_run(core, linear, access);
  u64 to_wrap = address_mask(addrsize) - offset;
  run.bytes = std::min({run.bytes, to_wrap, wanted * sizeof(T)});
  run.bytes -= run.bytes % sizeof(T);
  return run;
}

/// Elements moved; 0: none could be. Overlapping runs keep the order of single moves.
template <class T>
u64 movs_run(Core& core, const Op& op, Pointers& at, u64 wanted) {
  HostRun from = element_run<T>(core, op.seg, at.offset(kRsi), Access::Read, op.addrsize, wanted);
  HostRun to = element_run<T>(core, kEs, at.offset(kRdi), Access::Write, op.addrsize, wanted);
  u64 bytes = std::min(from.bytes, to.bytes);
  if (!from.host || !to.host || bytes == 0) return 0;
  bool apart = to.host + bytes <= from.host || from.host + bytes <= to.host;
  if (apart) {
    std::memcpy(to.host, from.host, bytes);
  } else {
    for (u64 i = 0; i < bytes; i += sizeof(T)) {
      T value;
      std::memcpy(&value, from.host + i, sizeof(T));
      std::memcpy(to.host + i, &value, sizeof(T));
    }
  }
  return bytes / sizeof(T);
}

template <class T>
u64 stos_run(Core& core, const Op& op, Pointers& at, u64 wanted) {
  HostRun to = element_run<T>(core, kEs, at.offset(kRdi), Access::Write, op.addrsize, wanted);
  if (!to.host || to.bytes == 0) return 0;
  auto value = static_cast<T>(core.gpr[kRax]);
  if constexpr (sizeof(T) == 1) {
    std::memset(to.host, value, to.bytes);
  } else {
    for (u64 i = 0; i < to.bytes; i += sizeof(T)) std::memcpy(to.host + i, &value, sizeof(T));
  }
  return to.bytes / sizeof(T);
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
  if constexpr (K == String::Movs || K == String::Stos) {
    if (at.backward()) return false;
    u64 done = K == String::Movs ? movs_run<T>(core, op, at, at.count()) : stos_run<T>(core, op, at, at.count());
    if (done == 0) return false;
    if (K == String::Movs) at.step(kRsi, sizeof(T), done);
    at.step(kRdi, sizeof(T), done);
    at.add(kRcx, u64{0} - done);
    return true;
  } else {
    return false;
  }
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
      if (compared_enough<K>(core, op)) return true;
    }
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
