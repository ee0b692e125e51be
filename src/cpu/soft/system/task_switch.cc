#include "cpu/soft/system/task_switch.h"

#include <cstring>

#include "cpu/soft/mmu/access.h"
#include "cpu/soft/mmu/walk.h"
#include "cpu/soft/system/mode.h"

namespace atl::soft {
namespace {

constexpr u64 kDr6Bt = 1 << 15;

/// The dynamic fields of both TSS formats, widened.
struct TaskImage {
  u32 cr3 = 0, eip = 0, eflags = 0;
  std::array<u32, 8> gpr{};
  std::array<u16, kSegCount> seg{};  // FS and GS: 32-bit format only
  u16 ldt = 0;
  bool trap = false;
};

/// Offsets that differ between the formats (SDM vol. 3, figures 9-2 and 9-10).
struct Layout {
  unsigned width, cr3, eip, gpr, seg, segments, ldt, size;
};
constexpr Layout kLayout32 = {4, 0x1c, 0x20, 0x28, 0x48, 6, 0x60, 0x68};
constexpr Layout kLayout16 = {2, 0, 0x0e, 0x12, 0x22, 4, 0x2a, 0x2c};
constexpr unsigned kTrapOffset = 0x64;

bool is_tss32(u8 type) { return type & 8; }
const Layout& layout_of(u8 type) { return is_tss32(type) ? kLayout32 : kLayout16; }

using Bytes = std::array<u8, 0x68>;

u32 get(const Bytes& bytes, unsigned offset, unsigned width) {
  u32 value = 0;
  std::memcpy(&value, bytes.data() + offset, width);
  return value;
}

void put(Bytes& bytes, unsigned offset, unsigned width, u32 value) { std::memcpy(bytes.data() + offset, &value, width); }

TaskImage parse(const Bytes& bytes, const Layout& layout) {
  TaskImage image;
  if (layout.cr3) image.cr3 = get(bytes, layout.cr3, 4);
  image.eip = get(bytes, layout.eip, layout.width);
  image.eflags = get(bytes, layout.eip + layout.width, layout.width);
  for (unsigned i = 0; i < 8; ++i) {
    image.gpr[i] = get(bytes, layout.gpr + i * layout.width, layout.width);
    if (layout.width == 2) image.gpr[i] |= 0xffff0000;
  }
  for (unsigned i = 0; i < layout.segments; ++i)
    image.seg[i] = static_cast<u16>(get(bytes, layout.seg + i * layout.width, 2));
  image.ldt = static_cast<u16>(get(bytes, layout.ldt, 2));
  image.trap = layout.width == 4 && (get(bytes, kTrapOffset, 2) & 1);
  return image;
}

/// Saves EIP to the last segment register of the outgoing task.
bool save_task(Core& core, u64 return_rip, u64 flags) {
  const Layout& layout = layout_of(core.tr.type());
  const unsigned first = layout.eip, end = layout.seg + layout.segments * layout.width;
  Bytes bytes{};
  put(bytes, layout.eip, layout.width, static_cast<u32>(return_rip));
  put(bytes, layout.eip + layout.width, layout.width, static_cast<u32>(flags));
  for (unsigned i = 0; i < 8; ++i) put(bytes, layout.gpr + i * layout.width, layout.width, static_cast<u32>(core.gpr[i]));
  for (unsigned i = 0; i < layout.segments; ++i) put(bytes, layout.seg + i * layout.width, 2, core.seg[i].selector);
  return system_write(core, core.tr.base + first, bytes.data() + first, end - first);
}

/// The new TSS's descriptor, checked for the way it is entered.
bool read_tss_descriptor(Core& core, u16 selector, TaskSwitch how, Descriptor& out) {
  const u8 vector = how == TaskSwitch::Return ? u8{kTS} : u8{kGP};
  if (selector & 4) return core.raise(vector, selector_error(selector));
  if (!read_descriptor(core, selector, vector, out)) return false;
  const u8 wanted = how == TaskSwitch::Return ? kTss16Busy : kTss16;
  if (out.s() || (out.type() & ~8) != wanted) return core.raise(vector, selector_error(selector));
  if (!out.present()) return core.raise(kNP, selector_error(selector));
  if (make_segment(selector, out).limit < layout_of(out.type()).size - 1) return core.raise(kTS, selector_error(selector));
  return true;
}

/// CS of the incoming task: RPL is the new CPL.
bool prepare_code(Core& core, u16 selector, Segment& out) {
  if (null_selector(selector)) return core.raise(kTS, 0);
  Descriptor descriptor;
  if (!read_descriptor(core, selector, kTS, descriptor)) return false;
  const u8 rpl = selector & 3;
  bool fits = descriptor.conforming() ? descriptor.dpl() <= rpl : descriptor.dpl() == rpl;
  if (!descriptor.code() || !fits) return core.raise(kTS, selector_error(selector));
  if (!descriptor.present()) return core.raise(kNP, selector_error(selector));
  if (!set_accessed(core, descriptor)) return false;
  out = make_segment(selector, descriptor);
  return true;
}

/// Loads the segment registers of the incoming task; those after a failing one stay unusable.
bool load_segments(Core& core, const TaskImage& image) {
  if (!load_ldtr(core, image.ldt, kTS)) return false;
  const u8 cpl = image.seg[kCs] & 3;
  Segment cs, ss;
  if (!prepare_code(core, image.seg[kCs], cs)) return false;
  if (!prepare_segment(core, kSs, image.seg[kSs], cpl, kTS, ss)) return false;
  core.seg[kCs] = cs;
  core.seg[kSs] = ss;
  for (SegReg reg : {kEs, kDs, kFs, kGs})
    if (!prepare_segment(core, reg, image.seg[reg], cpl, kTS, core.seg[reg])) return false;
  return true;
}

void load_v86_segments(Core& core, const TaskImage& image) {
  for (unsigned i = 0; i < kSegCount; ++i) core.seg[i] = real_mode_segment(core, image.seg[i], {});
}

bool load_cr3(Core& core, u32 cr3) {
  if (!core.paging) return true;
  if ((core.cr4 & kCr4PAE) && !load_pdptes(core, cr3)) return core.raise(kTS, selector_error(core.tr.selector));
  core.cr3 = cr3;
  flush_tlb(core, true);
  return true;
}

/// Registers, then segments. From here on faults are the new task's.
bool load_task(Core& core, const TaskImage& image, bool tss32, bool nested) {
  core.rip = core.next_rip = image.eip;
  for (unsigned i = 0; i < 8; ++i) core.gpr[i] = image.gpr[i];
  for (unsigned i = 0; i < kSegCount; ++i) core.seg[i] = null_segment(image.seg[i], i == kSs ? image.seg[kCs] & 3 : 0);
  core.ldtr = null_segment(image.ldt);
  u64 flags = (image.eflags & 0x3f7fd5) | 2 | (nested ? u64{kNT} : 0);
  if (!tss32) flags &= ~u64{kVM};
  set_flags(core, flags);
  core.cr0 |= kCr0TS;
  update_mode(core);
  if (tss32 && !load_cr3(core, image.cr3)) return false;
  bool loaded = true;
  if (flags & kVM) loaded = load_ldtr(core, image.ldt, kTS), load_v86_segments(core, image);
  else loaded = load_segments(core, image);
  update_mode(core);
  if (loaded && image.trap) {
    core.debug_hits |= kDr6Bt;
    core.leave_block = true;
  }
  if (loaded && core.rip > core.seg[kCs].limit) return core.raise(kGP, 0);
  return loaded;
}

}  // namespace

bool switch_task(Core& core, u16 selector, TaskSwitch how, u64 return_rip) {
  Descriptor descriptor;
  if (!read_tss_descriptor(core, selector, how, descriptor)) return false;
  const Layout& layout = layout_of(descriptor.type());
  Segment incoming = make_segment(selector, descriptor);
  Bytes bytes{};
  if (!system_read(core, incoming.base, bytes.data(), layout.size)) return false;
  const u16 old_selector = core.tr.selector;
  const bool nests = how == TaskSwitch::Call;
  if (nests && !probe_write_as(core, false, incoming.base, 2)) return false;
  u64 flags = core.rflags();
  if (how == TaskSwitch::Return) flags &= ~u64{kNT};
  if (!save_task(core, return_rip, flags)) return false;
  if (nests) system_write(core, incoming.base, &old_selector, 2);
  if (!nests) {
    Descriptor outgoing;
    if (!read_descriptor(core, old_selector, kTS, outgoing) || !set_busy(core, outgoing, false)) return false;
  }
  if (how != TaskSwitch::Return && !set_busy(core, descriptor, true)) return false;
  core.tr = incoming;
  core.tr.attributes |= 2;
  return load_task(core, parse(bytes, layout), is_tss32(descriptor.type()), nests);
}

bool tss_stack(Core& core, u8 level, u16& ss, u64& sp) {
  const bool wide = is_tss32(core.tr.type());
  const unsigned width = wide ? 4 : 2;
  const unsigned offset = wide ? 4 + level * 8u : 2 + level * 4u;
  if (offset + width + 1 > core.tr.limit) return core.raise(kTS, selector_error(core.tr.selector));
  sp = 0;
  return system_read(core, core.tr.base + offset, &sp, width) && system_read(core, core.tr.base + offset + width, &ss, 2);
}

bool tss64_stack(Core& core, unsigned slot, u64& sp) {
  const unsigned offset = 4 + slot * 8;
  if (offset + 7 > core.tr.limit) return core.raise(kTS, selector_error(core.tr.selector));
  return system_read(core, core.tr.base + offset, &sp, 8);
}

}  // namespace atl::soft
