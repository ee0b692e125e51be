// DAA DAS AAA AAS AAM AAD (SDM vol. 2). Flags that the manual leaves undefined: SF, ZF and PF follow the result, OF is
// cleared, as on the processors that differential tests could reach in 32-bit mode.
#include <bit>

#include "cpu/soft/exec/flag_ops.h"
#include "cpu/soft/exec/handler.h"
#include "cpu/soft/exec/misc.h"

namespace atl::soft {

namespace {

constexpr u8 kAl = 0, kAh = 1;  // places in the register file

void set_flags(Core& core, u8 result, bool carry, bool adjust) {
  u16 cc = 0x200;
  if (result & 0x80) cc |= kCcSf;
  if (result == 0) cc |= kCcZf;
  if (std::popcount(result) % 2 == 0) cc |= kCcPf;
  if (adjust) cc |= kCcAf;
  if (carry) cc |= kCcCf;
  core.cc = cc;
}

bool decimal_adjust(Core& core, int sign) {
  u8 old = reg<u8>(core, kAl), al = old;
  bool old_carry = core.cc & kCcCf, carry = false, adjust = false;
  if ((al & 15) > 9 || (core.cc & kCcAf)) {
    adjust = true;
    carry = old_carry || (sign > 0 ? al > 0xf9 : al < 6);
    al = static_cast<u8>(al + sign * 6);
  }
  if (old > 0x99 || old_carry) {
    al = static_cast<u8>(al + sign * 0x60);
    carry = true;
  }
  set_reg<u8>(core, kAl, al);
  set_flags(core, al, carry, adjust);
  return true;
}

bool ascii_adjust(Core& core, int sign) {
  bool adjust = (core.gpr[kRax] & 15) > 9 || (core.cc & kCcAf);
  u16 ax = static_cast<u16>(core.gpr[kRax]);
  if (adjust) ax = static_cast<u16>(ax + sign * 0x106);
  ax &= 0xff0f;
  set_reg<u16>(core, kRax, ax);
  set_flags(core, static_cast<u8>(ax), adjust, adjust);
  return true;
}

}  // namespace

bool run_daa(Core& core, const Op&) { return decimal_adjust(core, 1); }
bool run_das(Core& core, const Op&) { return decimal_adjust(core, -1); }
bool run_aaa(Core& core, const Op&) { return ascii_adjust(core, 1); }
bool run_aas(Core& core, const Op&) { return ascii_adjust(core, -1); }

bool run_aam(Core& core, const Op& op) {
  auto base = static_cast<u8>(op.imm);
  if (base == 0) return core.raise(kDE);
  u8 al = reg<u8>(core, kAl);
  set_reg<u8>(core, kAh, al / base);
  set_reg<u8>(core, kAl, al % base);
  set_flags(core, al % base, false, false);
  return true;
}

bool run_aad(Core& core, const Op& op) {
  auto al = static_cast<u8>(reg<u8>(core, kAl) + reg<u8>(core, kAh) * op.imm);
  set_reg<u16>(core, kRax, al);
  set_flags(core, al, false, false);
  return true;
}

}  // namespace atl::soft
