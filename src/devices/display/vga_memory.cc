#include "devices/display/vga_memory.h"

#include <bit>

namespace atl::devices {
namespace {

/// Each bit of a plane mask as a byte of ones.
constexpr u32 spread(u8 planes) {
  u32 word = 0;
  for (unsigned p = 0; p < 4; ++p)
    if (planes >> p & 1) word |= 0xffu << 8 * p;
  return word;
}

constexpr u32 repeat(u8 byte) { return byte * 0x01010101u; }

constexpr u32 kBank = 65536;

}  // namespace

bool VgaMemory::window_offset(u32& offset) const {
  struct Window {
    u32 start, size;
  };
  constexpr Window kWindows[] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
  const Window& window = kWindows[registers_.graphics(6) >> 2 & 3];
  if (offset - window.start >= window.size) return false;
  offset -= window.start;
  return true;
}

u8 VgaMemory::read(u32 offset) {
  if (!window_offset(offset)) return 0xff;
  if (registers_.vbe_on() && registers_.vbe(VgaRegisters::kVbeBpp) != 4)
    return byte(registers_.vbe(VgaRegisters::kVbeBank) * kBank + offset);
  if (registers_.chain4()) return byte(offset);
  if (registers_.graphics(5) & 0x10) {  // odd/even: the low address bit chooses of a pair of planes
    const u32 plane = (registers_.graphics(4) & 2) | (offset & 1);
    return static_cast<u8>(word(offset >> 1) >> 8 * plane);
  }
  return read_planes(offset);
}

u8 VgaMemory::read_planes(u32 address) {
  latch_ = word(address);
  if (!(registers_.graphics(5) & 8)) return static_cast<u8>(latch_ >> 8 * (registers_.graphics(4) & 3));
  // Read mode 1: a one where the pixel has the colour to compare with, in the planes that count.
  u32 differs = (latch_ ^ spread(registers_.graphics(2))) & spread(registers_.graphics(7));
  differs |= differs >> 16;
  differs |= differs >> 8;
  return static_cast<u8>(~differs);
}

void VgaMemory::write(u32 offset, u8 value) {
  if (!window_offset(offset)) return;
  if (registers_.vbe_on() && registers_.vbe(VgaRegisters::kVbeBpp) != 4) {
    byte(registers_.vbe(VgaRegisters::kVbeBank) * kBank + offset) = value;
    return;
  }
  const u8 planes = registers_.sequencer(2);
  if (registers_.chain4()) {
    if (planes >> (offset & 3) & 1) byte(offset) = value;
    return;
  }
  if (registers_.graphics(5) & 0x10) {
    const u32 plane = (registers_.graphics(4) & 2) | (offset & 1);
    if (!(planes >> plane & 1)) return;
    u32& target = word(offset >> 1);
    target = (target & ~(0xffu << 8 * plane)) | u32{value} << 8 * plane;
    return;
  }
  write_planes(offset, value, planes);
}

void VgaMemory::write_planes(u32 address, u8 value, u8 plane_mask) {
  u8 bit_mask = registers_.graphics(8);
  u32 data = 0;
  switch (registers_.graphics(5) & 3) {
    case 0:
      data = repeat(std::rotr(value, registers_.graphics(3) & 7));
      data = (data & ~spread(registers_.graphics(1))) | (spread(registers_.graphics(0)) & spread(registers_.graphics(1)));
      break;
    case 1: {  // the latches as they are
      u32& target = word(address);
      target = (target & ~spread(plane_mask)) | (latch_ & spread(plane_mask));
      return;
    }
    case 2: data = spread(value & 15); break;
    default:
      bit_mask &= std::rotr(value, registers_.graphics(3) & 7);
      data = spread(registers_.graphics(0));
      break;
  }
  switch (registers_.graphics(3) >> 3 & 3) {
    case 1: data &= latch_; break;
    case 2: data |= latch_; break;
    case 3: data ^= latch_; break;
    default: break;
  }
  data = (data & repeat(bit_mask)) | (latch_ & ~repeat(bit_mask));
  u32& target = word(address);
  target = (target & ~spread(plane_mask)) | (data & spread(plane_mask));
}

}  // namespace atl::devices
