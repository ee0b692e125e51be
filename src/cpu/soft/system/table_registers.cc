// GDTR, IDTR, LDTR and TR (SDM vol. 2, LGDT to STR).
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/operand.h"
#include "cpu/soft/system/segments.h"

namespace atl::soft {
namespace {

bool load_table(Core& core, const Op& op, DescriptorTable& table) {
  if (!require_cpl0(core)) return false;
  const unsigned width = code64(core) ? 8 : 4;
  u64 limit_linear = 0, base_linear = 0, base = 0;
  u16 limit = 0;
  if (!operand_linear(core, op, 2, false, limit_linear) || !operand_linear(core, op, width, false, base_linear, 2)) return false;
  if (!read_mem(core, limit_linear, limit) || !read_slow(core, base_linear, &base, width)) return false;
  if (width == 8 && !is_canonical(base)) return core.raise(kGP, 0);
  if (width == 4 && op.opsize == 2) base &= 0xffffff;
  table = {base, limit};
  return true;
}

bool umip_blocks(const Core& core) { return core.cpl != 0 && (core.cr4 & kCr4UMIP); }

bool store_table(Core& core, const Op& op, const DescriptorTable& table) {
  if (umip_blocks(core)) return core.raise(kGP, 0);
  const unsigned width = code64(core) ? 8 : 4;
  u64 limit_linear = 0, base_linear = 0;
  if (!operand_linear(core, op, 2, true, limit_linear) || !operand_linear(core, op, width, true, base_linear, 2)) return false;
  if (!probe_write(core, limit_linear, 2)) return false;
  return write_slow(core, base_linear, &table.base, width) && write_mem(core, limit_linear, table.limit);
}

bool store_selector(Core& core, const Op& op, u16 selector) {
  if (!selector_mode(core)) return core.raise(kUD);
  if (umip_blocks(core)) return core.raise(kGP, 0);
  return write_operand(core, op, op.dst, op.dst == kNoReg ? 2 : op.opsize, selector);
}

bool read_selector(Core& core, const Op& op, u16& selector) {
  if (!selector_mode(core)) return core.raise(kUD);
  if (!require_cpl0(core)) return false;
  u64 value = 0;
  if (!read_operand(core, op, op.dst, 2, value)) return false;
  selector = static_cast<u16>(value);
  return true;
}

}  // namespace

bool sys_lgdt(Core& core, const Op& op) { return load_table(core, op, core.gdtr); }
bool sys_lidt(Core& core, const Op& op) { return load_table(core, op, core.idtr); }
bool sys_sgdt(Core& core, const Op& op) { return store_table(core, op, core.gdtr); }
bool sys_sidt(Core& core, const Op& op) { return store_table(core, op, core.idtr); }
bool sys_sldt(Core& core, const Op& op) { return store_selector(core, op, core.ldtr.selector); }
bool sys_str(Core& core, const Op& op) { return store_selector(core, op, core.tr.selector); }

bool sys_lldt(Core& core, const Op& op) {
  u16 selector = 0;
  return read_selector(core, op, selector) && load_ldtr(core, selector, kGP);
}

bool sys_ltr(Core& core, const Op& op) {
  u16 selector = 0;
  if (!read_selector(core, op, selector)) return false;
  if (null_selector(selector)) return core.raise(kGP, 0);
  Descriptor descriptor;
  if (selector & 4) return core.raise(kGP, selector_error(selector));
  if (!read_descriptor(core, selector, kGP, descriptor)) return false;
  bool available = descriptor.type() == kTss32 || (descriptor.type() == kTss16 && !core.long_mode);
  if (descriptor.s() || !available) return core.raise(kGP, selector_error(selector));
  if (!descriptor.present()) return core.raise(kNP, selector_error(selector));
  if (!read_upper_half(core, selector, kGP, descriptor) || !set_busy(core, descriptor, true)) return false;
  core.tr = make_segment(selector, descriptor);
  core.tr.attributes |= 2;
  return true;
}

}  // namespace atl::soft
