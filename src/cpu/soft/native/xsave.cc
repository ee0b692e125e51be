#include "cpu/soft/native/xsave.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "cpu/soft/exec/address.h"
#include "cpu/soft/native/block_access.h"
#include "cpu/soft/native/gate.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {
namespace {

constexpr u64 kX87 = 1, kSse = 2, kAvx = 4, kOpmask = 0x20, kZmmHigh = 0x40, kZmm16 = 0x80, kWide = kOpmask | kZmmHigh | kZmm16;
constexpr u64 kAll = kX87 | kSse | kAvx | kWide, kCompacted = u64{1} << 63;
constexpr unsigned kHeaderBytes = 64, kFxsaveAlignment = 16, kXsaveAlignment = 64;

/// A component behind the header, where the standard format and the image have it.
struct Component {
  u64 bit;
  unsigned at, size;
  unsigned narrow_size;   // what of it registers hold that exist outside 64-bit mode
};
constexpr Component kComponents[] = {{kAvx, image::kYmmHigh, 256, 128},
                                     {kOpmask, image::kOpmask, 64, 64},
                                     {kZmmHigh, image::kZmmHigh, 512, 256},
                                     {kZmm16, image::kZmm16, 1024, 0}};

constexpr u64 kEach[] = {kX87, kSse, kAvx, kOpmask, kZmmHigh, kZmm16};

unsigned size_now(const Core& core, const Component& c) { return core.code_size == CodeSize::k64 ? c.size : c.narrow_size; }

bool all_zero(const u8* bytes, unsigned size) { return load_le<u64>(bytes) == 0 && std::memcmp(bytes, bytes + 8, size - 8) == 0; }

unsigned xmm_count(const Core& core) { return core.code_size == CodeSize::k64 ? 16 : 8; }

/// Bytes 0 to 23 with the pointers in the form asked for: 64-bit offsets, or 32-bit ones beside selectors that are not kept.
void copy_x87_head(const Core& core, bool wide, u8* out) {
  std::copy_n(image::bytes(core), image::kMxcsr, out);
  if (wide) return;
  store_le<u32>(out + image::kFip + 4, 0);
  store_le<u32>(out + image::kFdp + 4, 0);
}

void load_x87(Core& core, bool wide, const u8* in) {
  u8* at = image::bytes(core);
  std::copy_n(in, image::kMxcsr, at);
  std::copy_n(in + image::kSt, 128, at + image::kSt);
  if (!wide) {
    store_le<u32>(at + image::kFip + 4, 0);
    store_le<u32>(at + image::kFdp + 4, 0);
  }
  image::set_fcw(core, (image::fcw(core) & 0x1f3f) | 0x40);
  at[image::kFtw + 1] = 0;
  image::update_error_summary(core);
}

/// Of those in `which`: the ones that are not all zero.
u64 components_in_use(const Core& core, u64 which) {
  u64 found = 0;
  for (const Component& c : kComponents)
    if ((which & c.bit) && !all_zero(image::bytes(core) + c.at, c.size)) found |= c.bit;
  return found;
}

void init_component(Core& core, u64 component) {
  if (component == kX87) {
    image::init_x87(core);
    std::fill_n(image::st(core, 0), 128, 0);
  }
  if (component == kSse) std::fill_n(image::xmm(core, 0), 16 * xmm_count(core), 0);
  for (const Component& c : kComponents)
    if (component == c.bit) std::fill_n(image::bytes(core) + c.at, size_now(core, c), 0);
}

void load_component(Core& core, u64 component, bool wide, const u8* in) {
  unsigned bytes = 16 * xmm_count(core);
  if (component == kX87) load_x87(core, wide, in);
  if (component == kSse) std::copy_n(in + image::kXmm, bytes, image::xmm(core, 0));
  for (const Component& c : kComponents)
    if (component == c.bit) std::copy_n(in + c.at, size_now(core, c), image::bytes(core) + c.at);
}

/// After components were loaded.
void note_wide(Core& core) { core.wide_vectors = (components_in_use(core, kWide) & kWide) != 0; }

// -- XSAVE -------------------------------------------------------------------------------------------------------------

bool enter_xsave(Core& core) {
  if (!(core.cr4 & kCr4OSXSAVE)) return core.raise(kUD);
  if (core.cr0 & kCr0TS) return core.raise(kNM);
  return true;
}

u64 requested(const Core& core) {
  u64 mask = (core.gpr[kRdx] << 32) | static_cast<u32>(core.gpr[kRax]);
  return mask & core.xcr0 & kAll;
}

bool xsave_operand(Core& core, const Op& op, unsigned size, bool write, u64& linear) {
  if (!operand_linear(core, op, size, write, linear)) return false;
  return linear & (kXsaveAlignment - 1) ? core.raise(kGP, 0) : true;
}

/// How the variants differ. `skip_initial`: components in their initial state are not written.
struct SaveForm {
  bool skip_initial = false;
  bool compacted = false;
};

/// Where a component is in an area whose compacted form has `compacted`; 0 there: standard format, where CPUID says it. (That of a
/// vCPU of KVM's is the host's.)
unsigned place_of(const Core& core, const Component& wanted, u64 compacted) {
  constexpr unsigned kLargest = sizeof(XsaveArea::bytes);
  if (!compacted) {
    const CpuidEntry entry = core.cpuid->query(0xd, static_cast<u32>(std::countr_zero(wanted.bit)));
    return entry.eax == wanted.size && entry.ebx >= image::kYmmHigh && entry.ebx <= kLargest - wanted.size ? entry.ebx : wanted.at;
  }
  unsigned at = image::kYmmHigh;
  for (const Component& c : kComponents) {
    if (c.bit == wanted.bit) break;
    if (compacted & c.bit) at += c.size;
  }
  return at;
}

unsigned area_size(const Core& core, u64 components, u64 compacted) {
  unsigned size = image::kYmmHigh;
  for (const Component& c : kComponents)
    if (components & c.bit) size = std::max(size, place_of(core, c, compacted) + c.size);
  return size;
}

/// Writes the legacy parts of `area` that belong to `components` and leaves the rest of guest memory alone.
bool write_legacy(Core& core, u64 linear, const u8* area, u64 components, u64 mxcsr_with) {
  struct Part {
    unsigned at, size;
    bool wanted;
  } parts[] = {
      {0, image::kMxcsr, (components & kX87) != 0},
      {image::kMxcsr, 8, mxcsr_with != 0},
      {image::kSt, 128, (components & kX87) != 0},
      {image::kXmm, 16 * xmm_count(core), (components & kSse) != 0},
  };
  for (const Part& part : parts)
    if (part.wanted && !write_block(core, linear + part.at, area + part.at, part.size)) return false;
  return true;
}

bool write_components(Core& core, u64 linear, u64 components, u64 compacted) {
  for (const Component& c : kComponents) {
    if (!(components & c.bit)) continue;
    if (!write_block(core, linear + place_of(core, c, compacted), image::bytes(core) + c.at, size_now(core, c))) return false;
  }
  return true;
}

bool save(Core& core, const Op& op, SaveForm form) {
  u64 linear = 0, wanted = requested(core), in_use = xstate_in_use(core);
  u64 compacted = form.compacted ? kCompacted | wanted : 0;
  unsigned size = area_size(core, wanted, compacted);
  if (!enter_xsave(core) || !xsave_operand(core, op, size, true, linear)) return false;
  alignas(64) u8 area[image::kLegacyEnd];
  u8 header[16];
  if (!probe_write_block(core, linear, size)) return false;
  if (!read_block(core, linear + image::kHeader, header, sizeof header)) return false;
  std::copy_n(image::bytes(core), image::kLegacyEnd, area);
  copy_x87_head(core, op.stub->wide, area);
  store_le<u32>(area + image::kMxcsrMask, image::kMxcsrValid);
  u64 written = form.skip_initial ? wanted & in_use : wanted;
  u64 kept = form.compacted ? 0 : load_le<u64>(header) & ~wanted;
  store_le<u64>(header, kept | (wanted & in_use));
  if (form.compacted) store_le<u64>(header + 8, compacted);
  return write_legacy(core, linear, area, written, wanted & (form.compacted ? kSse : kSse | kAvx)) &&
         write_components(core, linear, written, compacted) &&
         write_block(core, linear + image::kHeader, header, form.compacted ? 16 : 8);
}

// -- XRSTOR ------------------------------------------------------------------------------------------------------------

/// SDM vol. 1, 13.8.1 and 13.8.2: what makes the header unacceptable.
bool header_is_valid(const Core& core, const u8* header) {
  u64 present = load_le<u64>(header), form = load_le<u64>(header + 8);
  bool compacted = form & kCompacted;
  u64 named = compacted ? form & ~kCompacted : 0;
  if (present & ~core.xcr0 || named & ~core.xcr0) return false;
  if (compacted ? present & ~named : form != 0) return false;
  auto reserved = std::span(header, kHeaderBytes).subspan(16);
  return std::ranges::all_of(compacted ? reserved : reserved.first(8), [](u8 byte) { return byte == 0; });
}

/// To where the standard format has them.
bool read_components(Core& core, const Op& op, u64 components, u64 compacted, u8* area) {
  for (const Component& c : kComponents) {
    u64 linear = 0;
    if (!(components & c.bit)) continue;
    if (!operand_linear(core, op, c.size, false, linear, place_of(core, c, compacted)) || !read_block(core, linear, area + c.at, c.size)) return false;
  }
  return true;
}

}  // namespace

u64 xstate_in_use(const Core& core) {
  return kX87 | kSse | components_in_use(core, core.wide_vectors ? kAll : kAvx);
}

void export_xsave(const Core& core, XsaveArea& area) {
  u64 others = load_le<u64>(&area.bytes[image::kHeader]) & ~kAll;
  std::copy_n(image::bytes(core), image::kLegacyEnd, area.bytes.data());
  store_le<u32>(&area.bytes[image::kMxcsrMask], image::kMxcsrValid);
  store_le<u64>(&area.bytes[image::kHeader], others | xstate_in_use(core));
  for (const Component& c : kComponents) std::copy_n(image::bytes(core) + c.at, c.size, &area.bytes[place_of(core, c, 0)]);
}

Status check_xsave(const XsaveArea& area) {
  u32 mxcsr = load_le<u32>(&area.bytes[image::kMxcsr]);
  u64 form = load_le<u64>(&area.bytes[image::kHeader + 8]);
  auto invalid = [](std::string_view what, u64 value) {
    return Error(ErrorKind::Invalid, fmt::format("saved vCPU state: {} is {:#x}", what, value));
  };
  if (mxcsr & ~image::kMxcsrValid) return invalid("MXCSR", mxcsr);
  if (form) return invalid("XCOMP_BV", form);
  return {};
}

void import_xsave(Core& core, const XsaveArea& area) {
  u64 present = load_le<u64>(&area.bytes[image::kHeader]);
  CodeSize size = std::exchange(core.code_size, CodeSize::k64);  // all sixteen registers, whatever the mode
  image::set_mxcsr(core, load_le<u32>(&area.bytes[image::kMxcsr]));
  for (u64 component : {kX87, kSse}) {
    if (present & component) load_component(core, component, true, area.bytes.data());
    else init_component(core, component);
  }
  for (const Component& c : kComponents) {
    if (present & c.bit) std::copy_n(&area.bytes[place_of(core, c, 0)], c.size, image::bytes(core) + c.at);
    else init_component(core, c.bit);
  }
  core.code_size = size;
  note_wide(core);
}

bool run_xsave(Core& core, const Op& op) { return save(core, op, {}); }
bool run_xsaveopt(Core& core, const Op& op) { return save(core, op, {.skip_initial = true}); }
bool run_xsavec(Core& core, const Op& op) { return save(core, op, {.skip_initial = true, .compacted = true}); }

bool run_xrstor(Core& core, const Op& op) {
  u64 linear = 0, wanted = requested(core);
  alignas(64) u8 area[image::kEnd];
  if (!enter_xsave(core) || !xsave_operand(core, op, image::kYmmHigh, false, linear)) return false;
  if (!read_block(core, linear, area, image::kYmmHigh)) return false;
  const u8* header = area + image::kHeader;
  if (!header_is_valid(core, header)) return core.raise(kGP, 0);
  u64 present = load_le<u64>(header), form = load_le<u64>(header + 8);
  if (!read_components(core, op, wanted & present, form, area)) return false;
  u32 mxcsr = load_le<u32>(area + image::kMxcsr);
  bool from_memory = form ? wanted & present & kSse : wanted & (kSse | kAvx);
  if (from_memory && (mxcsr & ~image::kMxcsrValid)) return core.raise(kGP, 0);
  if (from_memory) image::set_mxcsr(core, mxcsr);
  else if (wanted & kSse) image::set_mxcsr(core, image::kMxcsrDefault);
  for (u64 component : kEach) {
    if (!(wanted & component)) continue;
    if (present & component) load_component(core, component, op.stub->wide, area);
    else if (!(component & kWide) || core.wide_vectors) init_component(core, component);
  }
  if (core.wide_vectors || (wanted & present & kWide)) note_wide(core);
  return true;
}

// -- FXSAVE ------------------------------------------------------------------------------------------------------------

bool run_fxsave(Core& core, const Op& op) {
  u64 linear = 0;
  if (!enter_x87_no_wait(core) || !operand_linear(core, op, 512, true, linear)) return false;
  if (linear & (kFxsaveAlignment - 1)) return core.raise(kGP, 0);
  u8 area[image::kLegacyEnd];
  std::copy_n(image::bytes(core), image::kLegacyEnd, area);
  copy_x87_head(core, op.stub->wide, area);
  store_le<u32>(area + image::kMxcsrMask, image::kMxcsrValid);
  return write_block(core, linear, area, image::kXmm + 16 * xmm_count(core));
}

bool run_fxrstor(Core& core, const Op& op) {
  u64 linear = 0;
  u8 area[image::kLegacyEnd];
  if (!enter_x87_no_wait(core) || !operand_linear(core, op, 512, false, linear)) return false;
  if (linear & (kFxsaveAlignment - 1)) return core.raise(kGP, 0);
  if (!read_block(core, linear, area, sizeof area)) return false;
  u32 mxcsr = load_le<u32>(area + image::kMxcsr);
  if (mxcsr & ~image::kMxcsrValid) return core.raise(kGP, 0);
  image::set_mxcsr(core, mxcsr);
  load_component(core, kX87, op.stub->wide, area);
  load_component(core, kSse, op.stub->wide, area);
  return true;
}

}  // namespace atl::soft
