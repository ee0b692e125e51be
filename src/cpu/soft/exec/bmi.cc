// BMI1, BMI2 and ADX, computed by the host's instructions where flags are undefined, else in C++ (SDM vol. 2).
#include "cpu/soft/exec/flag_ops.h"
#include "cpu/soft/exec/misc.h"
#include "cpu/soft/exec/operand.h"

namespace atl::soft {

namespace {

// The instructions below by name, so that one template can run each on 32 and 64 bits.
enum class Bmi : u8 { Andn, Bextr, Blsi, Blsr, Blsmsk, Bzhi };

/// Three-operand instructions with flags; a is the first source in Intel's order, b the second.
template <Bmi K, class T>
T bmi_host(T a, T b, u16& cc) {
  T result = 0;
  u16 f = cc;
  if constexpr (K == Bmi::Andn) asm(ATL_FLAGS_IN "andn %3, %2, %0" ATL_FLAGS_OUT : "=&r"(result), "+a"(f) : "r"(a), "r"(b) : "cc");
  if constexpr (K == Bmi::Bextr) asm(ATL_FLAGS_IN "bextr %3, %2, %0" ATL_FLAGS_OUT : "=&r"(result), "+a"(f) : "r"(a), "r"(b) : "cc");
  if constexpr (K == Bmi::Bzhi) asm(ATL_FLAGS_IN "bzhi %3, %2, %0" ATL_FLAGS_OUT : "=&r"(result), "+a"(f) : "r"(a), "r"(b) : "cc");
  if constexpr (K == Bmi::Blsi) asm(ATL_FLAGS_IN "blsi %2, %0" ATL_FLAGS_OUT : "=&r"(result), "+a"(f) : "r"(a) : "cc");
  if constexpr (K == Bmi::Blsr) asm(ATL_FLAGS_IN "blsr %2, %0" ATL_FLAGS_OUT : "=&r"(result), "+a"(f) : "r"(a) : "cc");
  if constexpr (K == Bmi::Blsmsk) asm(ATL_FLAGS_IN "blsmsk %2, %0" ATL_FLAGS_OUT : "=&r"(result), "+a"(f) : "r"(a) : "cc");
  cc = f;
  return result;
}

template <Bmi K>
void store_bmi(Core& core, const Op& op, u64 a, u64 b) {
  u16 cc = core.cc;
  if (op.opsize == 8) {
    core.gpr[op.dst] = bmi_host<K, u64>(a, b, cc);
  } else {
    core.gpr[op.dst] = bmi_host<K, u32>(static_cast<u32>(a), static_cast<u32>(b), cc);
  }
  core.cc = cc;
}

/// The r/m operand is src2.
template <Bmi K>
bool bmi_gve(Core& core, const Op& op) {
  Loaded b = read_rm(core, op, op.src2, op.opsize);
  if (b.ok) store_bmi<K>(core, op, core.gpr[op.src], b.value);
  return b.ok;
}

/// The r/m operand is src; src2 is a register.
template <Bmi K>
bool bmi_gev(Core& core, const Op& op) {
  Loaded a = read_rm(core, op, op.src, op.opsize);
  if (a.ok) store_bmi<K>(core, op, a.value, register_file(core)[op.src2]);
  return a.ok;
}

/// Writes without flags: the result in the operand's size.
bool set_result(Core& core, const Op& op, u64 value) {
  core.gpr[op.dst] = op.opsize == 8 ? value : static_cast<u32>(value);
  return true;
}

u64 pdep(u64 source, u64 mask) {
  u64 result = 0;
  asm("pdep %2, %1, %0" : "=r"(result) : "r"(source), "r"(mask));
  return result;
}

u64 pext(u64 source, u64 mask) {
  u64 result = 0;
  asm("pext %2, %1, %0" : "=r"(result) : "r"(source), "r"(mask));
  return result;
}

u64 cut(u64 value, unsigned size) { return size == 8 ? value : static_cast<u32>(value); }

/// ADCX (through CF) and ADOX (through OF): addition with carry that touches one flag.
template <u16 kFlag>
bool add_with(Core& core, const Op& op) {
  Loaded source = read_rm(core, op, op.src, op.opsize);
  if (!source.ok) return false;
  u128 sum = static_cast<u128>(cut(core.gpr[op.dst], op.opsize)) + cut(source.value, op.opsize) + (core.cc & kFlag ? 1 : 0);
  bool carry = sum >> (op.opsize * 8) & 1;
  core.cc = static_cast<u16>(carry ? core.cc | kFlag : core.cc & ~kFlag);
  return set_result(core, op, static_cast<u64>(sum));
}

}  // namespace

bool run_andn(Core& core, const Op& op) { return bmi_gve<Bmi::Andn>(core, op); }
bool run_bextr(Core& core, const Op& op) { return bmi_gev<Bmi::Bextr>(core, op); }
bool run_bzhi(Core& core, const Op& op) { return bmi_gev<Bmi::Bzhi>(core, op); }
bool run_blsi(Core& core, const Op& op) { return bmi_gev<Bmi::Blsi>(core, op); }
bool run_blsr(Core& core, const Op& op) { return bmi_gev<Bmi::Blsr>(core, op); }
bool run_blsmsk(Core& core, const Op& op) { return bmi_gev<Bmi::Blsmsk>(core, op); }

bool run_pdep(Core& core, const Op& op) {
  Loaded mask = read_rm(core, op, op.src2, op.opsize);
  return mask.ok && set_result(core, op, pdep(core.gpr[op.src], cut(mask.value, op.opsize)));
}

bool run_pext(Core& core, const Op& op) {
  Loaded mask = read_rm(core, op, op.src2, op.opsize);
  return mask.ok && set_result(core, op, pext(core.gpr[op.src], cut(mask.value, op.opsize)));
}

namespace {

unsigned shift_count(const Core& core, const Op& op) { return core.gpr[op.src2] & (op.opsize * 8 - 1); }

}  // namespace

bool run_sarx(Core& core, const Op& op) {
  Loaded a = read_rm(core, op, op.src, op.opsize);
  if (!a.ok) return false;
  i64 value = op.opsize == 8 ? static_cast<i64>(a.value) : i64{static_cast<i32>(a.value)};
  return set_result(core, op, static_cast<u64>(value >> shift_count(core, op)));
}

bool run_shlx(Core& core, const Op& op) {
  Loaded a = read_rm(core, op, op.src, op.opsize);
  return a.ok && set_result(core, op, a.value << shift_count(core, op));
}

bool run_shrx(Core& core, const Op& op) {
  Loaded a = read_rm(core, op, op.src, op.opsize);
  return a.ok && set_result(core, op, cut(a.value, op.opsize) >> shift_count(core, op));
}

bool run_rorx(Core& core, const Op& op) {
  Loaded a = read_rm(core, op, op.src, op.opsize);
  if (!a.ok) return false;
  unsigned bits = op.opsize * 8, count = op.imm & (bits - 1);
  u64 value = cut(a.value, op.opsize);
  return set_result(core, op, count ? value >> count | value << (bits - count) : value);
}

/// dst gets the high half last, so that it wins where both destinations are one register.
bool run_mulx(Core& core, const Op& op) {
  Loaded b = read_rm(core, op, op.src2, op.opsize);
  if (!b.ok) return false;
  u128 product = static_cast<u128>(cut(core.gpr[kRdx], op.opsize)) * cut(b.value, op.opsize);
  core.gpr[op.src] = cut(static_cast<u64>(product), op.opsize);
  return set_result(core, op, static_cast<u64>(product >> op.opsize * 8));
}

bool run_adcx(Core& core, const Op& op) { return add_with<kCcCf>(core, op); }
bool run_adox(Core& core, const Op& op) { return add_with<kCcOf>(core, op); }

}  // namespace atl::soft
