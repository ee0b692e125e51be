#include "cpu/soft/native/xsave.h"

#include <fmt/format.h>

#include "cpu/soft/exec/address.h"
#include "cpu/soft/native/block_access.h"
#include "cpu/soft/native/gate.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {
namespace {

constexpr u64 kX87 = 1, kSse = 2, kAvx = 4, kAll = 7, kCompacted = u64{1} << 63;
constexpr unsigned kHeaderBytes = 64, kFxsaveAlignment = 16, kXsaveAlignment = 64;

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

void init_component(Core& core, u64 component) {
  if (component == kX87) {
    image::init_x87(core);
    std::fill_n(image::st(core, 0), 128, 0);
  }
  if (component == kSse) std::fill_n(image::xmm(core, 0), 16 * xmm_count(core), 0);
  if (component == kAvx) std::fill_n(image::ymm_high(core, 0), 16 * xmm_count(core), 0);
}

void load_component(Core& core, u64 component, bool wide, const u8* in) {
  unsigned bytes = 16 * xmm_count(core);
  if (component == kX87) load_x87(core, wide, in);
  if (component == kSse) std::copy_n(in + image::kXmm, bytes, image::xmm(core, 0));
  if (component == kAvx) std::copy_n(in + image::kYmmHigh, bytes, image::ymm_high(core, 0));
}

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

unsigned area_size(u64 components) { return components & kAvx ? image::kEnd : image::kYmmHigh; }

/// Writes the parts of `area` that belong to `components` and leaves the rest of guest memory alone.
bool write_components(Core& core, u64 linear, const u8* area, u64 components, u64 mxcsr_with) {
  struct Part {
    unsigned at, size;
    bool wanted;
  } parts[] = {
      {0, image::kMxcsr, (components & kX87) != 0},
      {image::kMxcsr, 8, mxcsr_with != 0},
      {image::kSt, 128, (components & kX87) != 0},
      {image::kXmm, 16 * xmm_count(core), (components & kSse) != 0},
      {image::kYmmHigh, 16 * xmm_count(core), (components & kAvx) != 0},
  };
  for (const Part& part : parts)
    if (part.wanted && !write_block(core, linear + part.at, area + part.at, part.size)) return false;
  return true;
}

bool save(Core& core, const Op& op, SaveForm form) {
  u64 linear = 0, wanted = requested(core), in_use = xstate_in_use(core);
  unsigned size = area_size(wanted);
  if (!enter_xsave(core) || !xsave_operand(core, op, size, true, linear)) return false;
  alignas(64) u8 area[image::kEnd];
  u8 header[16];
  if (!probe_write_block(core, linear, size)) return false;
  if (!read_block(core, linear + image::kHeader, header, sizeof header)) return false;
  std::copy_n(image::bytes(core), image::kEnd, area);
  copy_x87_head(core, op.stub->wide, area);
  store_le<u32>(area + image::kMxcsrMask, image::kMxcsrValid);
  u64 written = form.skip_initial ? wanted & in_use : wanted;
  u64 kept = form.compacted ? 0 : load_le<u64>(header) & ~wanted;
  store_le<u64>(header, kept | (wanted & in_use));
  if (form.compacted) store_le<u64>(header + 8, kCompacted | wanted);
  return write_components(core, linear, area, written, wanted & (form.compacted ? kSse : kSse | kAvx)) &&
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

}  // namespace

u64 xstate_in_use(const Core& core) {
  const u8* upper = image::bytes(core) + image::kYmmHigh;
  bool avx = std::any_of(upper, upper + 256, [](u8 byte) { return byte != 0; });
  return kX87 | kSse | (avx ? kAvx : 0);
}

void export_xsave(const Core& core, XsaveArea& area) {
  u64 others = load_le<u64>(&area.bytes[image::kHeader]) & ~kAll;
  std::copy_n(image::bytes(core), image::kLegacyEnd, area.bytes.data());
  store_le<u32>(&area.bytes[image::kMxcsrMask], image::kMxcsrValid);
  store_le<u64>(&area.bytes[image::kHeader], others | xstate_in_use(core));
  std::copy_n(image::bytes(core) + image::kYmmHigh, 256, &area.bytes[image::kYmmHigh]);
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
  for (u64 component : {kX87, kSse, kAvx}) {
    if (present & component) load_component(core, component, true, area.bytes.data());
    else init_component(core, component);
  }
  core.code_size = size;
}

bool run_xsave(Core& core, const Op& op) { return save(core, op, {}); }
bool run_xsaveopt(Core& core, const Op& op) { return save(core, op, {.skip_initial = true}); }
bool run_xsavec(Core& core, const Op& op) { return save(core, op, {.skip_initial = true, .compacted = true}); }

bool run_xrstor(Core& core, const Op& op) {
  u64 linear = 0, wanted = requested(core);
  alignas(64) u8 area[image::kEnd];
  if (!enter_xsave(core) || !xsave_operand(core, op, area_size(wanted), false, linear)) return false;
  if (!read_block(core, linear, area, area_size(wanted))) return false;
  const u8* header = area + image::kHeader;
  if (!header_is_valid(core, header)) return core.raise(kGP, 0);
  bool compacted = load_le<u64>(header + 8) & kCompacted;
  u64 present = load_le<u64>(header);
  u32 mxcsr = load_le<u32>(area + image::kMxcsr);
  bool from_memory = compacted ? wanted & present & kSse : wanted & (kSse | kAvx);
  if (from_memory && (mxcsr & ~image::kMxcsrValid)) return core.raise(kGP, 0);
  if (from_memory) image::set_mxcsr(core, mxcsr);
  else if (wanted & kSse) image::set_mxcsr(core, image::kMxcsrDefault);
  for (u64 component : {kX87, kSse, kAvx}) {
    if (!(wanted & component)) continue;
    if (present & component) load_component(core, component, op.stub->wide, area);
    else init_component(core, component);
  }
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
