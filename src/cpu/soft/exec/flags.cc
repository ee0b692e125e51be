// CLC STC CMC CLD STD LAHF SAHF.
#include "cpu/soft/exec/pick.h"

namespace atl::soft {

namespace {

template <u16 kClear, u16 kFlip>
const Op* change_carry(Core& core, const Op* op) {
  core.cc = static_cast<u16>((core.cc & ~kClear) ^ kFlip);
  return next(core, op);
}

template <bool kSet>
const Op* change_direction(Core& core, const Op* op) {
  core.other_flags = (core.other_flags & ~u64{kDF}) | (kSet ? u64{kDF} : 0);
  return next(core, op);
}

constexpr u8 kAh = kRax * 8 + 1;

const Op* lahf(Core& core, const Op* op) {
  set_reg<u8>(core, kAh, static_cast<u8>(core.cc >> 8));
  return next(core, op);
}

const Op* sahf(Core& core, const Op* op) {
  core.cc = static_cast<u16>((reg<u8>(core, kAh) & 0xd5) << 8 | 0x200 | (core.cc & kCcOf));
  return next(core, op);
}

}  // namespace

Handler pick_flag(u8 opcode) {
  switch (opcode) {
    case 0xf5: return change_carry<0, kCcCf>;
    case 0xf8: return change_carry<kCcCf, 0>;
    case 0xf9: return change_carry<kCcCf, kCcCf>;
    case 0xfc: return change_direction<false>;
    case 0xfd: return change_direction<true>;
    case 0x9e: return sahf;
    case 0x9f: return lahf;
    default: return nullptr;
  }
}

}  // namespace atl::soft
