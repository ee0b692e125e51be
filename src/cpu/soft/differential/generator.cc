#include "cpu/soft/differential/generator.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "cpu/soft/differential/values.h"
#include "cpu/soft/native/image.h"
#include "cpu/soft/native/reencode.h"

namespace atl::soft::differential {
namespace {

// -- where memory operands point ----------------------------------------------------------------------------------------------

u64 random_target(Random& random, unsigned size, Mode mode) {
  constexpr u64 kMiddle = kWindow + kPage, kEnd = kWindow + kWindowBytes, kReadOnly = kWindow + kWritableBytes;
  u64 kind = random.below(100);
  u64 inside = kWindow + 256 + random.below(kWritableBytes - 1024);
  if (kind < 45) return inside & ~u64{63};
  if (kind < 78) return inside;
  if (kind < 88) return kMiddle - random.below(size + 1);       // across two pages
  if (kind < 91) return kReadOnly - random.below(size + 1);     // into the read-only page
  if (kind < 93) return kReadOnly + random.below(1024);
  if (kind < 95) return kEnd - random.below(size + 1);          // off the end
  if (kind < 96) return kWindow - random.below(size + 1);
  if (kind < 97 && mode == Mode::Long) return 0x0000800000000000 - random.below(size + 1);  // into the non-canonical hole
  if (kind < 98) return random.next();
  return inside;
}

struct Placement {
  Case& c;
  const ZydisDecodedInstruction& in;
  Random& random;
};

void set_register(Placement& p, ZydisRegister reg, u64 value) {
  std::optional<u8> number = gpr_number(reg);
  if (!number) return;
  bool wide = ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_GPR64;
  p.c.before.gpr[*number] = wide ? value : static_cast<u32>(value) | p.random.next() << 32;
}

u64 register_value(const Placement& p, ZydisRegister reg) {
  std::optional<u8> number = gpr_number(reg);
  return number ? p.c.before.gpr[*number] : 0;
}

void patch_displacement(Placement& p, u64 target, bool rip_relative) {
  const auto& disp = p.in.raw.disp;
  if (disp.size < 32) return;
  u64 value = rip_relative ? target - (p.c.before.rip + p.in.length) : target;
  store_le_n(&p.c.bytes[disp.offset], value, disp.size / 8u);
}

/// Small elements, so that most of a gather stays in the window.
void tame_vector_index(Placement& p, ZydisRegister index) {
  auto number = static_cast<unsigned>(ZydisRegisterGetId(index)) & 31;
  bool high = number >= 16;
  for (unsigned i = 0; i < 16; ++i) {
    auto value = static_cast<u32>(static_cast<i32>(p.random.below(64)) - 32);
    unsigned at = high    ? image::kZmm16 + 64 * (number - 16) + 4 * i
                  : i < 4 ? image::kXmm + 16 * number + 4 * i
                  : i < 8 ? image::kYmmHigh + 16 * number + 4 * (i - 4)
                          : image::kZmmHigh + 32 * number + 4 * (i - 8);
    store_le(&p.c.before.xsave[at], p.random.percent(60) ? value : 0);
  }
}

void place_operand(Placement& p, const ZydisDecodedOperand& o) {
  unsigned size = std::max<unsigned>(o.size / 8u, 1);
  u64 target = random_target(p.random, std::min(size, 64u), p.c.mode);
  if (o.mem.segment == ZYDIS_REGISTER_GS) target -= kWindow;
  auto disp = static_cast<u64>(o.mem.disp.value);
  if (o.mem.base == ZYDIS_REGISTER_NONE && o.mem.index == ZYDIS_REGISTER_NONE) return patch_displacement(p, target, false);
  if (o.mem.base == ZYDIS_REGISTER_RIP) return patch_displacement(p, target, true);
  bool vector = o.mem.type == ZYDIS_MEMOP_TYPE_VSIB;
  u64 scale = std::max<u64>(o.mem.scale, 1);
  if (vector && p.random.percent(85)) tame_vector_index(p, o.mem.index);
  if (vector || o.mem.index == ZYDIS_REGISTER_NONE) return set_register(p, o.mem.base, target - disp);
  if (o.mem.base == ZYDIS_REGISTER_NONE) return set_register(p, o.mem.index, (target - disp) / scale);
  if (o.mem.base == o.mem.index) return set_register(p, o.mem.base, (target - disp) / (scale + 1));
  set_register(p, o.mem.base, target - disp - register_value(p, o.mem.index) * scale);
}

// -- other operands ------------------------------------------------------------------------------------------------------------

/// Branches stay on the page of traps, off the instruction itself; some go astray.
void aim_branch(Placement& p) {
  const auto& imm = p.in.raw.imm[0];
  if (!imm.is_relative || p.random.percent(5)) return;
  i64 range = imm.size == 8 ? 100 : 700;
  i64 distance = static_cast<i64>(p.random.below(static_cast<u64>(range)));
  if (p.random.percent(50)) distance = -distance - p.in.length - 1;
  store_le_n(&p.c.bytes[imm.offset], static_cast<u64>(std::max<i64>(distance, imm.size == 8 ? -128 : distance)), imm.size / 8u);
}

bool branch_hits_itself(const Case& c, const ZydisDecodedInstruction& in) {
  const auto& imm = in.raw.imm[0];
  if (!imm.is_relative) return false;
  i64 distance = imm.size == 8 ? static_cast<i8>(c.bytes[imm.offset]) : imm.size == 16 ? static_cast<i16>(load_le<u16>(&c.bytes[imm.offset]))
                                                                                   : static_cast<i32>(load_le<u32>(&c.bytes[imm.offset]));
  return distance < 0 && distance >= -static_cast<i64>(in.length);
}

void tame_implicit(Placement& p) {
  auto& gpr = p.c.before.gpr;
  if (p.in.attributes & kRepeatPrefixes && p.random.percent(95))
    gpr[cpu::kRcx] = p.random.below(48);
  if (p.in.mnemonic == ZYDIS_MNEMONIC_ENTER && p.random.percent(90)) p.c.bytes[p.in.raw.imm[1].offset] &= 7;
  bool divides = p.in.mnemonic == ZYDIS_MNEMONIC_DIV || p.in.mnemonic == ZYDIS_MNEMONIC_IDIV;
  if (divides && p.random.percent(60)) gpr[cpu::kRdx] = gpr[cpu::kRax] >> 63 && p.random.percent(50) ? ~u64{0} : p.random.below(4);
}

/// Bit strings reach far from their address: mostly not that far.
void tame_bit_offset(Placement& p, const ZydisDecodedOperand* operands) {
  bool bits = p.in.mnemonic == ZYDIS_MNEMONIC_BT || p.in.mnemonic == ZYDIS_MNEMONIC_BTS || p.in.mnemonic == ZYDIS_MNEMONIC_BTR ||
              p.in.mnemonic == ZYDIS_MNEMONIC_BTC;
  if (!bits || operands[0].type != ZYDIS_OPERAND_TYPE_MEMORY || operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER) return;
  if (p.random.percent(85)) set_register(p, operands[1].reg.value, static_cast<u64>(static_cast<i64>(p.random.below(2048)) - 1024));
}

void place_operands(Placement& p, const ZydisDecodedOperand* operands) {
  auto& gpr = p.c.before.gpr;
  gpr[cpu::kRsp] = kWindow + 1024 + (p.random.below(4096) & ~(p.random.percent(90) ? u64{7} : 0));
  tame_implicit(p);
  tame_bit_offset(p, operands);
  for (unsigned i = 0; i < p.in.operand_count; ++i)
    if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY && operands[i].mem.type != ZYDIS_MEMOP_TYPE_AGEN) place_operand(p, operands[i]);
  aim_branch(p);
}

/// Comparisons with memory succeed now and then.
void plant_equal(Placement& p, const ZydisDecodedOperand* operands, std::array<u8, kWindowBytes>& memory) {
  if (operands[0].type != ZYDIS_OPERAND_TYPE_MEMORY || !p.random.percent(40)) return;
  const auto& m = operands[0].mem;
  u64 at = register_value(p, m.base) + register_value(p, m.index) * m.scale + static_cast<u64>(m.disp.value) - kWindow;
  if (at > kWindowBytes - 16) return;
  bool pair = operands[0].size == 64 && p.in.mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B;
  u64 low = p.c.before.gpr[cpu::kRax], high = p.c.before.gpr[cpu::kRdx];
  store_le(&memory[at], pair ? static_cast<u32>(low) | high << 32 : low);
  if (!pair) store_le(&memory[at + 8], high);
}

}  // namespace

Generator::Generator(u64 seed, std::string_view only) : seed_(seed), instructions_(only) {
  Random random(seed);
  fill_random(random, pattern_);
}

Case Generator::make(u64 index, std::array<u8, kWindowBytes>& memory) {
  Random random(seed_, index);
  for (;;) {
    Case c{.mode = random.percent(80) ? Mode::Long : Mode::Compatibility};
    c.bytes = random_bytes(random, c.mode);
    std::optional<Decoded> d = instructions_.decode(c.mode, c.bytes);
    if (!d || !instructions_.accepts(*d)) continue;
    c.bytes.resize(d->in.length);
    fill_registers(random, c.before);
    c.before.rip = kCodePage + 0x500 + random.below(0x400);
    memory = pattern_;
    Placement placement{c, d->in, random};
    place_operands(placement, d->operands);
    if (branch_hits_itself(c, d->in)) continue;
    plant_equal(placement, d->operands, memory);
    if (c.mode == Mode::Compatibility)
      for (u64& value : c.before.gpr) value = static_cast<u32>(value);
    d = instructions_.decode(c.mode, c.bytes);  // patched
    if (!d || !instructions_.accepts(*d)) continue;
    c.text = instructions_.text(*d, c.before.rip);
    c.mnemonic = d->in.mnemonic;
    c.repeats = d->in.attributes & kRepeatPrefixes;
    return c;
  }
}

}  // namespace atl::soft::differential
