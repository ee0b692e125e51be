#include "cpu/soft/exec/misc.h"

#include "cpu/soft/exec/chain.h"
#include "cpu/soft/exec/flag_ops.h"
#include "cpu/soft/exec/operand.h"

namespace atl::soft {

bool run_xlat(Core& core, const Op& op) {
  u64 offset = (core.gpr[kRbx] + (core.gpr[kRax] & 0xff)) & address_mask(op.addrsize);
  u64 linear = 0;
  if (!segment_linear(core, op.seg, offset, 1, false, linear)) return false;
  Loaded value = load_slow(core, linear, op.seg, 1);
  if (value.ok) set_reg<u8>(core, 0, static_cast<u8>(value.value));
  return value.ok;
}

// dst = signed index, memory: lower and upper bound.
bool run_bound(Core& core, const Op& op) {
  Loaded lower = read_rm(core, op, kNoReg, op.opsize);
  if (!lower.ok) return false;
  Loaded address = general_linear(core, &op, op.opsize, false, op.opsize);
  if (!address.ok) return false;
  Loaded upper = load_slow(core, address.value, op.seg, op.opsize);
  if (!upper.ok) return false;
  auto extend = [&](u64 v) { return op.opsize == 2 ? i64{static_cast<i16>(v)} : i64{static_cast<i32>(v)}; };
  i64 index = extend(core.gpr[op.dst]);
  return (index >= extend(lower.value) && index <= extend(upper.value)) || core.raise(kBR);
}

namespace {

template <class T>
u32 crc32_host(u32 crc, T value) {
  asm("crc32 %1, %0" : "+r"(crc) : "r"(value));
  return crc;
}

u32 crc32_host(u32 crc, u64 value) {
  u64 wide = crc;
  asm("crc32q %1, %0" : "+r"(wide) : "r"(value));
  return static_cast<u32>(wide);
}

}  // namespace

bool run_crc32(Core& core, const Op& op) {
  bool byte_register = op.extra && op.opsize == 1;
  Loaded source = byte_register ? Loaded{reg<u8>(core, op.src), true}
                                : read_rm(core, op, op.extra ? op.src : kNoReg, op.opsize);
  if (!source.ok) return false;
  auto crc = static_cast<u32>(core.gpr[op.dst]);
  switch (op.opsize) {
    case 1: crc = crc32_host(crc, static_cast<u8>(source.value)); break;
    case 2: crc = crc32_host(crc, static_cast<u16>(source.value)); break;
    case 4: crc = crc32_host(crc, static_cast<u32>(source.value)); break;
    default: crc = crc32_host(crc, source.value);
  }
  core.gpr[op.dst] = crc;
  return true;
}

namespace {

/// RDRAND and RDSEED: CF tells success; the other arithmetic flags are cleared. The destination is a register.
template <class T, bool kSeed>
bool random_host(u64& value) {
  T v = 0;
  bool ok;
  if constexpr (kSeed) {
    asm volatile("rdseed %0" : "=r"(v), "=@ccc"(ok) : : "cc");
  } else {
    asm volatile("rdrand %0" : "=r"(v), "=@ccc"(ok) : : "cc");
  }
  value = v;
  return ok;
}

template <bool kSeed>
bool run_random(Core& core, const Op& op) {
  u64 value = 0;
  bool ok = op.opsize == 2   ? random_host<u16, kSeed>(value)
            : op.opsize == 4 ? random_host<u32, kSeed>(value)
                             : random_host<u64, kSeed>(value);
  set_reg_sized(core, op.dst, value, op.opsize);
  core.cc = ok ? u16{0x200} | kCcCf : 0x200;
  return true;
}

}  // namespace

bool run_rdrand(Core& core, const Op& op) { return run_random<false>(core, op); }
bool run_rdseed(Core& core, const Op& op) { return run_random<true>(core, op); }

bool run_salc(Core& core, const Op&) {
  set_reg<u8>(core, 0, core.cc & kCcCf ? 0xff : 0);
  return true;
}

bool run_loop(Core& core, const Op& op) {
  constexpr u8 kLoopne = 0, kLoope = 1, kJcxz = 3;
  u64 mask = address_mask(op.addrsize);
  u64 count = core.gpr[kRcx] & mask;
  if (op.cond != kJcxz) count = (count - 1) & mask;
  bool zero_flag = core.cc & kCcZf;
  bool taken = op.cond == kJcxz ? count == 0 : count != 0;
  if (op.cond == kLoope) taken = taken && zero_flag;
  if (op.cond == kLoopne) taken = taken && !zero_flag;
  if (taken) {
    u64 target = core.block_rip + op.imm;
    if (op.opsize < 8) target &= address_mask(op.opsize);
    bool allowed = op.opsize == 8 ? is_canonical(target) : target <= core.seg[kCs].limit;
    if (!allowed) return core.raise(kGP, 0);
    core.next_rip = target;
  }
  if (op.cond != kJcxz) core.gpr[kRcx] = op.addrsize == 4 ? count : (core.gpr[kRcx] & ~mask) | count;
  return true;
}

bool run_clflush(Core& core, const Op& op) {
  u64 linear = 0;
  return operand_linear(core, op, 1, false, linear) && probe_read(core, linear, 1);
}

bool run_fence(Core&, const Op&) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return true;
}

}  // namespace atl::soft
