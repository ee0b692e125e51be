// IN OUT INS OUTS (SDM vol. 1, chapter 19; permission: system/io_permission.h).
#include "cpu/soft/exec/misc.h"
#include "cpu/soft/exec/operand.h"
#include "cpu/soft/system/io_permission.h"

namespace atl::soft {

namespace {

u16 port_of(const Core& core, const Op& op) { return static_cast<u16>(op.extra ? op.imm : core.gpr[kRdx]); }

void set_accumulator(Core& core, u64 value, unsigned size) {
  if (size == 1) {
    set_reg<u8>(core, 0, static_cast<u8>(value));
  } else {
    set_reg_sized(core, kRax, value, size);
  }
}

void move_pointer(Core& core, const Op& op, u8 number, i64 delta) {
  u64 mask = address_mask(op.addrsize);
  u64 value = core.gpr[number] + static_cast<u64>(delta);
  core.gpr[number] = op.addrsize == 2 ? (core.gpr[number] & ~mask) | (value & mask) : value & mask;
}

i64 direction(const Core& core, const Op& op) { return core.other_flags & kDF ? -i64{op.opsize} : i64{op.opsize}; }

/// A fault must come before the device sees the access: the destination is probed first.
bool ins_one(Core& core, const Op& op) {
  u64 linear = 0;
  u64 offset = core.gpr[kRdi] & address_mask(op.addrsize);
  if (!segment_linear(core, kEs, offset, op.opsize, true, linear) || !probe_write(core, linear, op.opsize)) return false;
  ++core.stats.pio;
  u64 value = core.port_bus->read(static_cast<u16>(core.gpr[kRdx]), op.opsize);
  if (!store_slow(core, linear, kEs, op.opsize, value)) return false;
  move_pointer(core, op, kRdi, direction(core, op));
  return true;
}

bool outs_one(Core& core, const Op& op) {
  u64 linear = 0;
  u64 offset = core.gpr[kRsi] & address_mask(op.addrsize);
  if (!segment_linear(core, op.seg, offset, op.opsize, false, linear)) return false;
  Loaded value = load_slow(core, linear, op.seg, op.opsize);
  if (!value.ok) return false;
  ++core.stats.pio;
  core.port_bus->write(static_cast<u16>(core.gpr[kRdx]), value.value, op.opsize);
  sync_memory_map(core);
  move_pointer(core, op, kRsi, direction(core, op));
  return true;
}

template <bool (*One)(Core&, const Op&)>
bool run_repeated(Core& core, const Op& op) {
  if (!check_io_permission(core, static_cast<u16>(core.gpr[kRdx]), op.opsize)) return false;
  if (!op.rep) return One(core, op);
  u64 mask = address_mask(op.addrsize);
  for (unsigned turn = 1; core.gpr[kRcx] & mask; ++turn) {
    if (!One(core, op)) return false;
    move_pointer(core, op, kRcx, -1);
    if ((core.gpr[kRcx] & mask) && (must_pause(core) || turn == kMostTurns)) {
      core.next_rip = core.rip;
      return true;
    }
  }
  return true;
}

}  // namespace

bool run_in(Core& core, const Op& op) {
  u16 port = port_of(core, op);
  if (!check_io_permission(core, port, op.opsize)) return false;
  ++core.stats.pio;
  set_accumulator(core, core.port_bus->read(port, op.opsize), op.opsize);
  leave_if_wanted(core);
  return true;
}

bool run_out(Core& core, const Op& op) {
  u16 port = port_of(core, op);
  if (!check_io_permission(core, port, op.opsize)) return false;
  ++core.stats.pio;
  u64 value = core.gpr[kRax] & address_mask(op.opsize == 1 ? 4 : op.opsize);
  if (op.opsize == 1) value &= 0xff;
  core.port_bus->write(port, value, op.opsize);
  sync_memory_map(core);
  leave_if_wanted(core);
  return true;
}

bool run_ins(Core& core, const Op& op) { return run_repeated<ins_one>(core, op); }
bool run_outs(Core& core, const Op& op) { return run_repeated<outs_one>(core, op); }

}  // namespace atl::soft
