#include "cpu/soft/system/operand.h"

#include "cpu/soft/mmu/access.h"

namespace atl::soft {

bool read_operand(Core& core, const Op& op, u8 reg, unsigned size, u64& value) {
  value = 0;
  if (reg != kNoReg) {
    value = core.gpr[reg] & address_mask(static_cast<u8>(size));
    return true;
  }
  u64 linear = 0;
  return operand_linear(core, op, size, false, linear) && read_slow(core, linear, &value, size);
}

bool write_operand(Core& core, const Op& op, u8 reg, unsigned size, u64 value) {
  if (reg != kNoReg) {
    write_register(core, reg, size, value);
    return true;
  }
  u64 linear = 0;
  return operand_linear(core, op, size, true, linear) && write_slow(core, linear, &value, size);
}

void write_register(Core& core, u8 reg, unsigned size, u64 value) {
  u64& target = core.gpr[reg];
  target = size == 2 ? (target & ~u64{0xffff}) | (value & 0xffff) : value & address_mask(static_cast<u8>(size));
}

}  // namespace atl::soft
