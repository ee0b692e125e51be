#include "devices/display/vga_registers.h"

#include <algorithm>

namespace atl::devices {
namespace {

constexpr u16 kVbeFirstId = 0xb0c0, kVbeLastId = 0xb0c5;
constexpr u16 kMaxX = 5120, kMaxY = 2880, kMaxBpp = 32;

// Which bits of a register exist.
constexpr std::array<u8, 8> kSequencerMask = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0};
constexpr std::array<u8, 9> kGraphicsMask = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
constexpr u8 kCrtcProtect = 0x80;          // of CRTC register 0x11: registers 0 to 7 cannot be written
constexpr u8 kLineCompareBit8 = 0x10;      // of register 7, writable all the same

bool is_depth(u16 bits) { return bits == 4 || bits == 8 || bits == 15 || bits == 16 || bits == 24 || bits == 32; }

}  // namespace

void VgaRegisters::reset() {
  misc_ = feature_ = status1_ = 0;
  sequencer_index_ = graphics_index_ = crtc_index_ = attribute_index_ = 0;
  attribute_wants_data_ = false;
  sequencer_ = {};
  graphics_ = {};
  crtc_ = {};
  attribute_ = {};
  palette_ = {};
  dac_mask_ = 0xff;
  dac_read_ = dac_write_ = dac_component_ = dac_state_ = 0;
  vbe_ = {};
  vbe_[kVbeId] = kVbeLastId;
  vbe_[kVbeMemory64k] = static_cast<u16>(memory_bytes_ >> 16);
  vbe_index_ = 0;
}

void VgaRegisters::visit(Archive& archive) {
  archive.field(1, "misc", misc_);
  archive.field(2, "feature", feature_);
  archive.field(3, "status1", status1_);
  archive.field(4, "sequencer_index", sequencer_index_);
  archive.field(5, "graphics_index", graphics_index_);
  archive.field(6, "crtc_index", crtc_index_);
  archive.field(7, "attribute_index", attribute_index_);
  archive.field(8, "attribute_wants_data", attribute_wants_data_);
  archive.bytes(9, "sequencer", sequencer_);
  archive.bytes(10, "graphics", graphics_);
  archive.bytes(11, "crtc", crtc_);
  archive.bytes(12, "attribute", attribute_);
  archive.bytes(13, "palette", palette_);
  archive.field(14, "dac_mask", dac_mask_);
  archive.field(15, "dac_read", dac_read_);
  archive.field(16, "dac_write", dac_write_);
  archive.field(17, "dac_component", dac_component_);
  archive.field(18, "dac_state", dac_state_);
  archive.bytes(19, "dac_latch", dac_latch_);
  archive.field(20, "vbe_index", vbe_index_);
  for (u32 i = 0; i < kVbeCount; ++i) archive.field(32 + i, "vbe", vbe_[i]);
  if (!archive.loading()) return;
  sequencer_index_ &= 7;
  graphics_index_ &= 15;
  dac_component_ = static_cast<u8>(dac_component_ % 3);
  if (vbe_on() && !is_depth(vbe_[kVbeBpp])) vbe_[kVbeEnable] = 0;
  clamp_virtual_screen();
}

u8 VgaRegisters::read_port(u16 port) {
  const bool monochrome_side = port >= 0x3b0 && port <= 0x3bf;
  if (monochrome_side || port >= 0x3d0) return monochrome_side == is_colour() ? 0xff : read_crtc_side(port & 15);
  switch (port) {
    case 0x3c0: return attribute_wants_data_ ? 0 : attribute_index_;
    case 0x3c1: return attribute_[attribute_index_ & 31];
    case 0x3c2: return 0;
    case 0x3c4: return sequencer_index_;
    case 0x3c5: return sequencer_[sequencer_index_];
    case 0x3c6: return dac_mask_;
    case 0x3c7: return dac_state_;
    case 0x3c8: return dac_write_;
    case 0x3c9: return read_dac();
    case 0x3ca: return feature_;
    case 0x3cc: return misc_;
    case 0x3ce: return graphics_index_;
    case 0x3cf: return graphics_[graphics_index_];
    default: return 0;
  }
}

void VgaRegisters::write_port(u16 port, u8 value) {
  const bool monochrome_side = port >= 0x3b0 && port <= 0x3bf;
  if (monochrome_side || port >= 0x3d0) {
    if (monochrome_side != is_colour()) write_crtc_side(port & 15, value);
    return;
  }
  switch (port) {
    case 0x3c0: write_attribute(value); break;
    case 0x3c2: misc_ = value & 0xef; break;
    case 0x3c4: sequencer_index_ = value & 7; break;
    case 0x3c5: sequencer_[sequencer_index_] = value & kSequencerMask[sequencer_index_]; break;
    case 0x3c6: dac_mask_ = value; break;
    case 0x3c7:
      dac_read_ = value;
      dac_component_ = 0;
      dac_state_ = 3;
      break;
    case 0x3c8:
      dac_write_ = value;
      dac_component_ = 0;
      dac_state_ = 0;
      break;
    case 0x3c9: write_dac(value); break;
    case 0x3ce: graphics_index_ = value & 15; break;
    case 0x3cf: graphics_[graphics_index_] = graphics_index_ < kGraphicsMask.size() ? value & kGraphicsMask[graphics_index_] : u8{0}; break;
    default: return;
  }
}

/// Index 4 and 5: the CRT controller; 10: input status 1, which also resets the attribute flip-flop.
u8 VgaRegisters::read_crtc_side(u16 offset) {
  if (offset == 4) return crtc_index_;
  if (offset == 5) return crtc_[crtc_index_];
  if (offset != 10) return 0xff;
  attribute_wants_data_ = false;
  status1_ ^= 0x09;  // display disabled, vertical retrace: whoever waits for either sees it come and go
  return status1_;
}

void VgaRegisters::write_crtc_side(u16 offset, u8 value) {
  if (offset == 4) crtc_index_ = value;
  if (offset == 5) write_crtc(value);
  if (offset == 10) feature_ = value & 0x10;
}

void VgaRegisters::write_crtc(u8 value) {
  if (crtc_index_ <= 7 && (crtc_[0x11] & kCrtcProtect)) {
    if (crtc_index_ == 7) crtc_[7] = static_cast<u8>((crtc_[7] & ~kLineCompareBit8) | (value & kLineCompareBit8));
  } else {
    crtc_[crtc_index_] = value;
  }
}

void VgaRegisters::write_attribute(u8 value) {
  if (!attribute_wants_data_) {
    attribute_index_ = value & 0x3f;
  } else {
    const u8 index = attribute_index_ & 31;
    if (index < 16) attribute_[index] = value & 0x3f;
    else if (index <= 0x14) attribute_[index] = index == 0x10 ? value & 0xef : index == 0x12 ? value & 0x3f : index < 0x13 ? value : value & 0x0f;
  }
  attribute_wants_data_ = !attribute_wants_data_;
}

u8 VgaRegisters::read_dac() {
  const u8 value = palette_[dac_read_ * 3u + dac_component_];
  if (++dac_component_ == 3) {
    dac_component_ = 0;
    ++dac_read_;
  }
  return value;
}

/// The three parts take effect together.
void VgaRegisters::write_dac(u8 value) {
  dac_latch_[dac_component_] = value;
  if (++dac_component_ < 3) return;
  dac_component_ = 0;
  std::copy(dac_latch_.begin(), dac_latch_.end(), palette_.begin() + dac_write_ * 3);
  ++dac_write_;
}

u32 VgaRegisters::colour(u8 index) const {
  const u8* c = &palette_[index * 3u];
  if (vbe_[kVbeEnable] & kVbeEightBitDac) return u32{c[0]} << 16 | u32{c[1]} << 8 | c[2];
  auto wide = [](u8 six_bits) { return static_cast<u32>((six_bits & 63) << 2 | (six_bits & 63) >> 4); };
  return wide(c[0]) << 16 | wide(c[1]) << 8 | wide(c[2]);
}

u16 VgaRegisters::read_vbe(u16 index) const {
  if (index >= kVbeCount) return 0;
  if (!(vbe_[kVbeEnable] & kVbeGetCaps)) return vbe_[index];
  switch (index) {
    case kVbeXres: return kMaxX;
    case kVbeYres: return kMaxY;
    case kVbeBpp: return kMaxBpp;
    default: return vbe_[index];
  }
}

bool VgaRegisters::write_vbe(u16 index, u16 value) {
  switch (index) {
    case kVbeId:
      if (value >= kVbeFirstId && value <= kVbeLastId) vbe_[kVbeId] = value;
      return false;
    case kVbeXres:
      if (value > 0 && value <= kMaxX && value % 8 == 0) vbe_[index] = value;
      return false;
    case kVbeYres:
      if (value > 0 && value <= kMaxY) vbe_[index] = value;
      return false;
    case kVbeBpp:
      if (is_depth(value == 0 ? 8 : value)) vbe_[index] = value == 0 ? u16{8} : value;
      return false;
    case kVbeEnable: return enable_vbe(value);
    case kVbeBank: vbe_[index] = static_cast<u16>(value % std::max<u32>(memory_bytes_ >> 16, 1)); return false;
    case kVbeVirtWidth:
    case kVbeXoffset:
    case kVbeYoffset:
      vbe_[index] = value;
      clamp_virtual_screen();
      return false;
    default: return false;
  }
}

bool VgaRegisters::enable_vbe(u16 value) {
  const bool was_on = vbe_on();
  vbe_[kVbeEnable] = value;
  if (!vbe_on() || was_on) return false;
  if (!is_depth(vbe_[kVbeBpp]) || !vbe_[kVbeXres] || !vbe_[kVbeYres]) {
    vbe_[kVbeEnable] = 0;
    return false;
  }
  vbe_[kVbeVirtWidth] = vbe_[kVbeXres];
  vbe_[kVbeXoffset] = vbe_[kVbeYoffset] = vbe_[kVbeBank] = 0;
  clamp_virtual_screen();
  return !(value & kVbeKeepMemory);
}

/// Keeps the visible part inside the virtual screen, and that inside the memory.
void VgaRegisters::clamp_virtual_screen() {
  if (!vbe_on()) return;
  u16& width = vbe_[kVbeVirtWidth];
  width = std::max(width, vbe_[kVbeXres]);
  if (u64{vbe_line_bytes()} * vbe_[kVbeYres] > memory_bytes_) width = vbe_[kVbeXres];
  if (u64{vbe_line_bytes()} * vbe_[kVbeYres] > memory_bytes_) vbe_[kVbeYres] = static_cast<u16>(memory_bytes_ / std::max(vbe_line_bytes(), 1u));
  vbe_[kVbeVirtHeight] = static_cast<u16>(std::min<u32>(memory_bytes_ / std::max(vbe_line_bytes(), 1u), 0xffff));
  vbe_[kVbeXoffset] = std::min<u16>(vbe_[kVbeXoffset], static_cast<u16>(width - vbe_[kVbeXres]));
  vbe_[kVbeYoffset] = std::min<u16>(vbe_[kVbeYoffset], static_cast<u16>(vbe_[kVbeVirtHeight] - vbe_[kVbeYres]));
}

}  // namespace atl::devices
