#include "cpu/soft/differential/generator.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "cpu/cpuid.h"
#include "cpu/soft/differential/exclusions.h"
#include "cpu/soft/differential/values.h"
#include "cpu/soft/native/image.h"
#include "cpu/soft/native/reencode.h"

namespace atl::soft::differential {
namespace {

constexpr size_t kMaxBytes = 15;
constexpr u64 kRepeats = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;
constexpr u32 kAuth = 0x68747541;  // of "AuthenticAMD", whose branches have 16-bit forms in 64-bit mode

// -- bytes -------------------------------------------------------------------------------------------------------------

void add_prefixes(Random& random, std::vector<u8>& out) {
  constexpr u8 kSegments[] = {0x26, 0x2e, 0x36, 0x3e, 0x65};
  if (random.percent(4)) out.push_back(0xf0);
  if (random.percent(8)) out.push_back(kSegments[random.below(std::size(kSegments))]);
  if (random.percent(5)) out.push_back(0x67);
  if (random.percent(22)) out.push_back(0x66);
  if (random.percent(30)) out.push_back(random.percent(50) ? 0xf2 : 0xf3);
}

void add_legacy(Random& random, Mode mode, std::vector<u8>& out) {
  add_prefixes(random, out);
  if (mode == Mode::Long && random.percent(60)) out.push_back(static_cast<u8>(0x40 | random.below(16)));
  u64 map = random.below(100);
  if (map >= 35) out.push_back(0x0f);
  if (map >= 75) out.push_back(map < 88 ? 0x38 : 0x3a);
  out.push_back(map < 10 ? static_cast<u8>(0xd8 | random.below(8)) : random.byte());
}

void add_vex(Random& random, Mode mode, std::vector<u8>& out) {
  if (random.percent(5)) out.push_back(0x65);
  u8 rxb = mode == Mode::Long ? static_cast<u8>(random.next() & 0xe0) : static_cast<u8>(0xc0 | (random.next() & 0x20));
  u8 vvvv = random.percent(40) ? 0x78 : static_cast<u8>(random.next() & 0x78);
  u8 low = static_cast<u8>(vvvv | random.below(8));
  if (random.percent(25)) {
    out.insert(out.end(), {0xc5, static_cast<u8>((mode == Mode::Long ? rxb & 0x80 : 0x80) | low | (mode == Mode::Long ? 0 : 0x40))});
  } else {
    out.insert(out.end(), {0xc4, static_cast<u8>(rxb | (1 + random.below(3))), static_cast<u8>(low | (random.below(2) << 7))});
  }
  out.push_back(random.byte());
}

std::vector<u8> random_bytes(Random& random, Mode mode) {
  std::vector<u8> out;
  if (random.percent(30)) add_vex(random, mode, out);
  else add_legacy(random, mode, out);
  u8 modrm = random.byte();
  out.push_back(random.percent(45) ? modrm | 0xc0 : modrm & 0xbf);
  while (out.size() < kMaxBytes) out.push_back(random.byte());
  return out;
}

// -- where memory operands point ----------------------------------------------------------------------------------------------

u64 random_target(Random& random, unsigned size, Mode mode) {
  constexpr u64 kMiddle = kWindow + kPage, kEnd = kWindow + kWindowBytes, kReadOnly = kWindow + kWritableBytes;
  u64 kind = random.below(100);
  u64 inside = kWindow + 256 + random.below(kWritableBytes - 1024);
  if (kind < 45) return inside & ~u64{31};
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
  auto number = static_cast<unsigned>(ZydisRegisterGetId(index)) & 15;
  for (unsigned half : {image::kXmm, image::kYmmHigh})
    for (unsigned i = 0; i < 4; ++i) {
      auto value = static_cast<u32>(static_cast<i32>(p.random.below(64)) - 32);
      store_le(&p.c.before.xsave[half + 16 * number + 4 * i], p.random.percent(60) ? value : 0);
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
  if (p.in.attributes & kRepeats && p.random.percent(95))
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

bool writes_segment(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  return std::any_of(operands, operands + in.operand_count, [](const ZydisDecodedOperand& o) {
    return o.type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(o.reg.value) == ZYDIS_REGCLASS_SEGMENT &&
           (o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
  });
}

}  // namespace

Generator::Generator(u64 seed, std::string_view only) : seed_(seed), only_(only) {
  ZydisDecoderInit(&long_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  ZydisDecoderInit(&compatibility_, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
  bool amd = cpu::host_cpuid().query(0, 0).ebx == kAuth;
  for (ZydisDecoder* decoder : {&long_, &compatibility_}) ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, amd);
  ZydisFormatterInit(&formatter_, ZYDIS_FORMATTER_STYLE_INTEL);
  Random random(seed);
  fill_random(random, pattern_);
}

std::optional<Generator::Decoded> Generator::decode(Mode mode, std::span<const u8> bytes) const {
  Decoded d;
  const ZydisDecoder& decoder = mode == Mode::Long ? long_ : compatibility_;
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes.data(), bytes.size(), &d.in, d.operands))) return std::nullopt;
  return d;
}

bool Generator::accepts(const Decoded& d) const {
  if (!is_included(d.in) || writes_segment(d.in, d.operands)) return false;
  bool memory = std::any_of(d.operands, d.operands + d.in.operand_count,
                            [](const ZydisDecodedOperand& o) { return o.type == ZYDIS_OPERAND_TYPE_MEMORY; });
  if (memory && d.in.address_width == 16) return false;  // cannot reach the window
  bool null_segment = d.in.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 && (d.in.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS);
  if (null_segment) return false;
  return only_.empty() || only_ == ZydisMnemonicGetString(d.in.mnemonic);
}

Case Generator::make(u64 index, std::array<u8, kWindowBytes>& memory) {
  Random random(seed_, index);
  for (;;) {
    Case c{.mode = random.percent(80) ? Mode::Long : Mode::Compatibility};
    c.bytes = random_bytes(random, c.mode);
    std::optional<Decoded> d = decode(c.mode, c.bytes);
    if (!d || !accepts(*d)) continue;
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
    d = decode(c.mode, c.bytes);  // patched
    if (!d || !accepts(*d)) continue;
    char text[160];
    ZydisFormatterFormatInstruction(&formatter_, &d->in, d->operands, d->in.operand_count_visible, text, sizeof text, c.before.rip,
                                    nullptr);
    c.text = text;
    c.mnemonic = d->in.mnemonic;
    c.repeats = d->in.attributes & kRepeats;
    return c;
  }
}

}  // namespace atl::soft::differential
