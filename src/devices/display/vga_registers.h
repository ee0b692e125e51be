// The registers of a VGA with the Bochs VBE extensions ("DISPI"), without memory and without a picture.
// IBM VGA Technical Reference (XGA/VGA, 1992), chapters 2 and 3; Bochs VBE: vbe_display_api.txt, versions b0c0 to b0c5.
//
// Supported: sequencer, CRT controller with its write protection, graphics and attribute controllers, DAC with both index
// modes and 6 or 8 bits, input status (retrace is made up: it toggles by reads), colour and monochrome port places, VBE mode
// setting up to 5120x2880 and virtual screens. Missing: light pen, feature control's meaning.
// Thread: the owner's lock guards it.
#pragma once

#include <array>

#include "base/archive.h"
#include "base/types.h"

namespace atl::devices {

class VgaRegisters {
 public:
  enum Vbe : u8 { kVbeId, kVbeXres, kVbeYres, kVbeBpp, kVbeEnable, kVbeBank, kVbeVirtWidth, kVbeVirtHeight, kVbeXoffset,
                  kVbeYoffset, kVbeMemory64k, kVbeCount };
  enum VbeEnable : u16 { kVbeEnabled = 0x01, kVbeGetCaps = 0x02, kVbeEightBitDac = 0x20, kVbeLinear = 0x40, kVbeKeepMemory = 0x80 };

  explicit VgaRegisters(u32 memory_bytes) : memory_bytes_(memory_bytes) { reset(); }
  void reset();
  void visit(Archive& archive);

  /// Ports 0x3b0 to 0x3df by number.
  u8 read_port(u16 port);
  void write_port(u16 port, u8 value);
  /// The VBE registers, by index port 0x1ce and data port 0x1cf, or by number.
  u16 vbe_index() const { return vbe_index_; }
  void set_vbe_index(u16 index) { vbe_index_ = index; }
  u16 read_vbe(u16 index) const;
  /// True if the screen memory must be cleared: a mode was set without "keep memory".
  bool write_vbe(u16 index, u16 value);

  // What memory and picture depend on.
  bool vbe_on() const { return vbe_[kVbeEnable] & kVbeEnabled; }
  bool vbe_linear() const { return vbe_on() && (vbe_[kVbeEnable] & kVbeLinear); }
  u16 vbe(Vbe index) const { return vbe_[index]; }
  u32 vbe_line_bytes() const { return vbe_[kVbeVirtWidth] * ((vbe_[kVbeBpp] + 7u) / 8); }
  u8 sequencer(unsigned index) const { return sequencer_[index]; }
  u8 graphics(unsigned index) const { return graphics_[index]; }
  u8 crtc(unsigned index) const { return crtc_[index]; }
  u8 attribute(unsigned index) const { return attribute_[index]; }
  bool screen_on() const { return (attribute_index_ & 0x20) && !(sequencer_[1] & 0x20); }
  bool graphics_mode() const { return graphics_[6] & 1; }
  bool chain4() const { return sequencer_[4] & 8; }
  /// A palette entry as 0x00rrggbb.
  u32 colour(u8 index) const;
  u8 pixel_mask() const { return dac_mask_; }

 private:
  bool is_colour() const { return misc_ & 1; }
  u8 read_crtc_side(u16 offset);
  void write_crtc_side(u16 offset, u8 value);
  u8 read_dac();
  void write_dac(u8 value);
  void write_attribute(u8 value);
  void write_crtc(u8 value);
  bool enable_vbe(u16 value);
  void clamp_virtual_screen();

  const u32 memory_bytes_;
  u8 misc_ = 0, feature_ = 0, status1_ = 0;
  u8 sequencer_index_ = 0, graphics_index_ = 0, crtc_index_ = 0, attribute_index_ = 0;
  bool attribute_wants_data_ = false;
  std::array<u8, 8> sequencer_{};
  std::array<u8, 16> graphics_{};
  std::array<u8, 256> crtc_{};
  std::array<u8, 32> attribute_{};
  std::array<u8, 768> palette_{};
  u8 dac_mask_ = 0xff, dac_read_ = 0, dac_write_ = 0, dac_component_ = 0, dac_state_ = 0;
  std::array<u8, 3> dac_latch_{};
  std::array<u16, kVbeCount> vbe_{};
  u16 vbe_index_ = 0;
};

}  // namespace atl::devices
