#include "cpu/soft/exec/handler.h"

#include "cpu/soft/exec/chain.h"

namespace atl::soft {

namespace {

bool check_canonical(Core& core, u64 linear, u8 seg, unsigned size) {
  if (is_canonical(linear) && is_canonical(linear + size - 1)) return true;
  return core.raise(segment_fault_vector(seg), 0);
}

/// Flat32 addresses come here unchecked: the flat segment ends at 4 GiB.
bool check_flat(Core& core, u64 linear, u8 seg, unsigned size) {
  if (core.code_size == CodeSize::k64) return check_canonical(core, linear, seg, size);
  if (linear + size - 1 <= 0xffffffff) return true;
  return core.raise(segment_fault_vector(seg), 0);
}

}  // namespace

const Op* leave_faulted(Core& core, const Op* op) {
  core.rip = op_rip(core, op);
  return nullptr;
}

const Op* leave_after(Core& core, const Op* op) {
  core.rip = rip_after(core, op);
  return nullptr;
}

const Op* isolated(Core& core, const Op* op) {
  Op* copy = core.blocks->scratch_ops();
  copy[0] = *op;
  copy[1] = {};
  copy[1].run = [](Core& c, const Op* end) {
    c.rip = op_rip(c, end);
    return static_cast<const Op*>(nullptr);
  };
  copy[1].offset = static_cast<u16>(op->offset + op->length);
  return copy;
}

const Op* leave_raising(Core& core, const Op* op, u8 vector, u32 error) {
  core.raise(vector, error);
  return leave_faulted(core, op);
}

const Op* leave_raising(Core& core, const Op* op, u8 vector) {
  core.raise(vector);
  return leave_faulted(core, op);
}

Loaded load_slow(Core& core, u64 linear, u8 seg, unsigned size) {
  u64 value = 0;
  bool ok = check_flat(core, linear, seg, size) && read_slow(core, linear, &value, size);
  return {value, ok};
}

bool store_slow(Core& core, u64 linear, u8 seg, unsigned size, u64 value) {
  return check_flat(core, linear, seg, size) && write_slow(core, linear, &value, size);
}

Loaded load_for_write_slow(Core& core, u64 linear, u8 seg, unsigned size) {
  u64 value = 0;
  bool ok = check_flat(core, linear, seg, size) && probe_write(core, linear, size) &&
            read_slow(core, linear, &value, size);
  return {value, ok};
}

Loaded general_linear(Core& core, const Op* op, unsigned size, bool write, u64 displace) {
  u64 linear = 0;
  bool ok = operand_linear(core, *op, size, write, linear, displace);
  return {linear, ok};
}

const Op* run_system(Core& core, const Op* op) {
  core.rip = op_rip(core, op);
  core.next_rip = rip_after(core, op);
  if (!op->system(core, *op)) [[unlikely]] return nullptr;
  return next_unless_left(core, op);
}

const Op* run_system_then_end(Core& core, const Op* op) {
  core.rip = op_rip(core, op);
  core.next_rip = rip_after(core, op);
  if (!op->system(core, *op)) [[unlikely]] return nullptr;
  if (core.next_rip == rip_after(core, op) && !core.leave_block) [[likely]] return next(core, op);
  core.rip = core.next_rip;
  return nullptr;
}

const Op* run_system_and_leave(Core& core, const Op* op) {
  core.rip = op_rip(core, op);
  core.next_rip = rip_after(core, op);
  if (!op->system(core, *op)) [[unlikely]] return nullptr;
  if (chains_in_long_mode(core)) [[likely]] return jump_indirect(core, core.next_rip);
  core.rip = core.next_rip;
  return nullptr;
}

}  // namespace atl::soft
