// Screen memory as the CPU sees it through the window at 0xa0000: four planes with latches, set/reset, rotation, bit masks
// and compare (IBM VGA Technical Reference, chapter 2, "Graphics controller"), chain-4, odd/even, and VBE banks.
//
// Layout: byte p of each 32-bit word is plane p, as the linear modes' chain-4 wants it.
// Thread: the owner's lock guards it.
#pragma once

#include <span>

#include "base/archive.h"
#include "devices/display/vga_registers.h"

namespace atl::devices {

class VgaMemory {
 public:
  /// `bytes` (a power of two) outlive this.
  VgaMemory(const VgaRegisters& registers, std::span<u8> bytes) : registers_(registers), bytes_(bytes) {}

  /// `offset` from 0xa0000, below 0x20000.
  u8 read(u32 offset);
  void write(u32 offset, u8 value);
  std::span<const u8> bytes() const { return bytes_; }
  std::span<u8> bytes() { return bytes_; }
  void reset() { latch_ = 0; }
  void visit(Archive& archive) { archive.field(1, "latch", latch_); }

 private:
  /// Offset inside the part of the window that the memory map selects; false: not ours.
  bool window_offset(u32& offset) const;
  u8 read_planes(u32 address);
  void write_planes(u32 address, u8 value, u8 plane_mask);
  u32& word(u32 address) { return reinterpret_cast<u32*>(bytes_.data())[address & (bytes_.size() / 4 - 1)]; }
  u8& byte(u32 address) { return bytes_[address & (bytes_.size() - 1)]; }

  const VgaRegisters& registers_;
  std::span<u8> bytes_;
  u32 latch_ = 0;
};

}  // namespace atl::devices
