#include "cpu/soft/system/segments.h"

#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/mode.h"

namespace atl::soft {
namespace {

constexpr u64 kAccessedBit = u64{1} << 40, kBusyBit = u64{2} << 40;

/// Base and limit of the table that `selector` points into; false if it is an absent LDT.
bool table_of(const Core& core, u16 selector, u64& base, u32& limit) {
  if (!(selector & 4)) {
    base = core.gdtr.base;
    limit = core.gdtr.limit;
    return true;
  }
  base = core.ldtr.base;
  limit = core.ldtr.limit;
  return !core.ldtr.unusable;
}

/// Descriptor tables lie at 32-bit addresses outside IA-32e mode.
u64 table_linear(const Core& core, u64 base, u64 offset) {
  return core.long_mode ? base + offset : static_cast<u32>(base + offset);
}

bool raise_selector(Core& core, u8 vector, u16 selector) { return core.raise(vector, selector_error(selector)); }

/// Reads a table's byte 5 and writes it back changed; the processor locks the bus meanwhile.
bool change_type_byte(Core& core, const Descriptor& descriptor, u8 set, u8 clear) {
  std::lock_guard lock(core.vm->atomic_fallback);
  u64 at = descriptor.linear + 5;
  u8 byte = 0;
  if (!system_read(core, at, &byte, 1)) return false;
  byte = static_cast<u8>((byte | set) & ~clear);
  return system_write(core, at, &byte, 1);
}

}  // namespace

bool selector_in_table(const Core& core, u16 selector, unsigned bytes) {
  u64 base = 0;
  u32 limit = 0;
  return table_of(core, selector, base, limit) && (selector & ~7u) + bytes - 1 <= limit;
}

bool read_descriptor(Core& core, u16 selector, u8 vector, Descriptor& out) {
  if (!selector_in_table(core, selector, 8)) return raise_selector(core, vector, selector);
  u64 base = 0;
  u32 limit = 0;
  table_of(core, selector, base, limit);
  out = {.linear = table_linear(core, base, selector & ~7u)};
  return system_read(core, out.linear, &out.raw, sizeof out.raw);
}

bool read_upper_half(Core& core, u16 selector, u8 vector, Descriptor& inout) {
  if (!core.long_mode) return true;
  if (!selector_in_table(core, selector, 16)) return raise_selector(core, vector, selector);
  if (!system_read(core, inout.linear + 8, &inout.high, sizeof inout.high)) return false;
  // The type field of the upper half must be zero, lest the half be taken for a descriptor.
  if (inout.high >> 40 & 0x1f) return raise_selector(core, vector, selector);
  inout.high &= 0xffffffff;
  return true;
}

Segment make_segment(u16 selector, const Descriptor& descriptor) {
  const u64 raw = descriptor.raw;
  u32 limit = static_cast<u32>((raw & 0xffff) | (raw >> 32 & 0xf0000));
  if (raw >> 55 & 1) limit = limit << 12 | 0xfff;
  u64 base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000) | descriptor.high << 32;
  return {.selector = selector, .attributes = static_cast<u16>(raw >> 40 & 0xf0ff), .limit = limit, .base = base};
}

Segment real_mode_segment(const Core& core, u16 selector, const Segment& old) {
  Segment segment = old;
  segment.selector = selector;
  segment.base = u64{selector} << 4;
  if (v86_mode(core) || old.unusable) {
    segment.limit = 0xffff;
    segment.attributes = v86_mode(core) ? 0xf3 : 0x93;
    segment.unusable = false;
  }
  return segment;
}

Segment null_segment(u16 selector, u8 dpl) {
  return {.selector = selector, .attributes = static_cast<u16>(dpl << 5), .unusable = true};
}

bool set_accessed(Core& core, Descriptor& inout) {
  if (inout.raw & kAccessedBit) return true;
  inout.raw |= kAccessedBit;
  return change_type_byte(core, inout, kAccessedBit >> 40, 0);
}

bool set_busy(Core& core, const Descriptor& descriptor, bool busy) {
  u8 bit = kBusyBit >> 40;
  return change_type_byte(core, descriptor, busy ? bit : 0, busy ? 0 : bit);
}

bool check_stack_descriptor(Core& core, u16 selector, const Descriptor& descriptor, u8 cpl, u8 vector) {
  if (!descriptor.writable() || (selector & 3) != cpl || descriptor.dpl() != cpl) return raise_selector(core, vector, selector);
  return descriptor.present() || raise_selector(core, kSSFault, selector);
}

bool prepare_segment(Core& core, SegReg reg, u16 selector, u8 cpl, u8 vector, Segment& out) {
  if (null_selector(selector)) {
    bool allowed = reg != kSs || (code64(core) && cpl != 3 && (selector & 3) == cpl);
    out = null_segment(selector, reg == kSs ? cpl : 0);
    return allowed || core.raise(vector, 0);
  }
  Descriptor descriptor;
  if (!read_descriptor(core, selector, vector, descriptor)) return false;
  if (reg == kSs) {
    if (!check_stack_descriptor(core, selector, descriptor, cpl, vector)) return false;
  } else {
    u8 needed = std::max<u8>(selector & 3, cpl);
    bool reachable = descriptor.conforming() || needed <= descriptor.dpl();
    if (!descriptor.s() || !descriptor.readable() || !reachable) return raise_selector(core, vector, selector);
    if (!descriptor.present()) return raise_selector(core, kNP, selector);
  }
  if (!set_accessed(core, descriptor)) return false;
  out = make_segment(selector, descriptor);
  return true;
}

bool load_segment(Core& core, SegReg reg, u16 selector) {
  Segment segment;
  if (!selector_mode(core)) segment = real_mode_segment(core, selector, core.seg[reg]);
  else if (!prepare_segment(core, reg, selector, core.cpl, kGP, segment)) return false;
  core.seg[reg] = segment;
  update_mode(core);
  return true;
}

bool load_ldtr(Core& core, u16 selector, u8 vector) {
  if (null_selector(selector)) {
    core.ldtr = null_segment(selector);
    return true;
  }
  if (selector & 4) return raise_selector(core, vector, selector);
  Descriptor descriptor;
  if (!read_descriptor(core, selector, vector, descriptor)) return false;
  if (descriptor.s() || descriptor.type() != kLdt) return raise_selector(core, vector, selector);
  if (!descriptor.present()) return raise_selector(core, vector == kTS ? kTS : kNP, selector);
  if (!read_upper_half(core, selector, vector, descriptor)) return false;
  core.ldtr = make_segment(selector, descriptor);
  return true;
}

bool segment_holds(const Segment& segment, u64 offset, unsigned size) {
  if (segment.unusable) return false;
  u64 last = offset + size - 1;
  bool expand_down = !(segment.type() & 8) && (segment.type() & 4);
  if (!expand_down) return last <= segment.limit;
  return offset > segment.limit && last <= (segment.db() ? 0xffffffff : 0xffff);
}

}  // namespace atl::soft
