#include "cpu/soft/system/io_permission.h"

#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/mode.h"
#include "cpu/soft/system/segments.h"

namespace atl::soft {
namespace {

constexpr unsigned kBitmapPointer = 0x66;

/// The two bytes of the bitmap that hold the port's bits: the processor always reads two. False: beyond the TSS, or a fault.
bool read_bitmap(Core& core, u16 port, u16& bits) {
  const Segment& tss = core.tr;
  const bool tss32 = (tss.type() & ~2) == kTss32;
  u16 base = 0;
  if (tss.unusable || !tss32 || tss.limit < kBitmapPointer + 1) return core.raise(kGP, 0);
  if (!system_read(core, tss.base + kBitmapPointer, &base, 2)) return false;
  const u32 offset = base + port / 8u;
  if (offset + 1 > tss.limit) return core.raise(kGP, 0);
  return system_read(core, tss.base + offset, &bits, 2);
}

}  // namespace

bool check_io_permission(Core& core, u16 port, unsigned width) {
  if (real_mode(core) || (!v86_mode(core) && core.cpl <= iopl(core))) return true;
  u16 bits = 0;
  if (!read_bitmap(core, port, bits)) return false;
  const unsigned mask = (1u << width) - 1;
  return !(bits >> (port & 7) & mask) || core.raise(kGP, 0);
}

}  // namespace atl::soft
