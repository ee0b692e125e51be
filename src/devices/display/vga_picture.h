// From VGA registers and memory to pixels: text with cursor and blinking, planar and linear modes of 4 to 32 bits.
// IBM VGA Technical Reference, chapter 2 (CRT controller, attribute controller); Bochs VBE for the direct colour modes.
#pragma once

#include <array>
#include <span>
#include <string>

#include "devices/display/vga_registers.h"
#include "display/surface.h"

namespace atl::devices {

class VgaPicture {
 public:
  VgaPicture(const VgaRegisters& registers, std::span<const u8> memory) : registers_(registers), memory_(memory) {}

  /// Draws what a monitor would show into `surface`, resizing it to the mode. `blink_on`: the phase of cursor and blinking
  /// text.
  void draw(display::Surface& surface, bool blink_on);
  /// The characters of a text mode, a line each; "" in graphics modes.
  std::string text() const;

 private:
  struct Geometry {
    u32 width, height;       // pixels
    u32 start;               // first byte (word in planar modes) shown
    u32 line_bytes;
    u32 repeat;              // scan lines a row is shown
    u32 line_compare;        // scan line from which memory starts at 0
  };
  struct TextGeometry {
    u32 columns, rows, start, pitch;
    u32 cell_width, cell_height;
  };

  Geometry geometry() const;
  TextGeometry text_geometry() const;
  u32 crtc_height() const;
  void look_up_colours();
  u32 colour(u8 attribute_value) const { return attribute_colours_[attribute_value & 15]; }
  u8 byte(u64 at) const { return memory_[at & (memory_.size() - 1)]; }
  u32 word(u64 at) const;

  void draw_text(display::Surface& surface, bool blink_on) const;
  void draw_cell(display::Surface& surface, const TextGeometry& g, u32 column, u32 row, bool blink_on) const;
  void draw_cursor(display::Surface& surface, const TextGeometry& g) const;
  void draw_graphics(display::Surface& surface) const;
  void draw_linear(display::Surface& surface) const;
  void draw_planar_row(std::span<u32> out, u32 start) const;
  void draw_cga_row(std::span<u32> out, u32 start, u32 scan) const;
  void draw_indexed_row(std::span<u32> out, u32 start) const;
  void draw_direct_row(std::span<u32> out, u64 start, unsigned bits) const;

  const VgaRegisters& registers_;
  std::span<const u8> memory_;
  std::array<u32, 256> dac_{};
  std::array<u32, 16> attribute_colours_{};
};

}  // namespace atl::devices
