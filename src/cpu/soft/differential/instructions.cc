#include "cpu/soft/differential/instructions.h"

#include <algorithm>

#include "cpu/cpuid.h"
#include "cpu/soft/differential/exclusions.h"
#include "cpu/soft/native/supported.h"

namespace atl::soft::differential {
namespace {

constexpr size_t kMaxBytes = 15;
constexpr u32 kAuth = 0x68747541;  // of "AuthenticAMD", whose branches have 16-bit forms in 64-bit mode

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

void add_evex(Random& random, Mode mode, std::vector<u8>& out) {
  if (random.percent(5)) out.push_back(0x65);
  bool wide = mode == Mode::Long;
  unsigned rxbr = wide ? static_cast<unsigned>(random.next() & 0xf0) : 0xf0;
  bool no_source = random.percent(40);
  unsigned vvvv = no_source ? 0x78 : static_cast<unsigned>(random.next() & 0x78), v2 = no_source || !wide || random.percent(50) ? 8 : 0;
  if (!wide) vvvv |= 0x40;
  unsigned mask = random.percent(45) ? 0 : static_cast<unsigned>(random.below(8));
  unsigned length = static_cast<unsigned>(random.below(16) == 0 ? 3 : random.below(3));
  unsigned zero = mask && random.percent(40) ? 0x80 : 0, broadcast = random.percent(25) ? 0x10 : 0;
  out.insert(out.end(), {0x62, static_cast<u8>(rxbr | (1 + random.below(3))), static_cast<u8>(random.below(2) << 7 | vvvv | 4 | random.below(4)),
                         static_cast<u8>(zero | length << 5 | broadcast | v2 | mask), random.byte()});
}

bool writes_segment(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  return std::any_of(operands, operands + in.operand_count, [](const ZydisDecodedOperand& o) {
    return o.type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(o.reg.value) == ZYDIS_REGCLASS_SEGMENT &&
           (o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
  });
}

}  // namespace

std::vector<u8> random_bytes(Random& random, Mode mode) {
  std::vector<u8> out;
  if (host_has_avx512() && random.percent(30)) add_evex(random, mode, out);
  else if (random.percent(30)) add_vex(random, mode, out);
  else add_legacy(random, mode, out);
  u8 modrm = random.byte();
  out.push_back(random.percent(45) ? modrm | 0xc0 : modrm & 0xbf);
  while (out.size() < kMaxBytes) out.push_back(random.byte());
  return out;
}

Instructions::Instructions(std::string_view only) : only_(only) {
  ZydisDecoderInit(&long_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  ZydisDecoderInit(&compatibility_, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
  bool amd = cpu::host_cpuid().query(0, 0).ebx == kAuth;
  for (ZydisDecoder* decoder : {&long_, &compatibility_}) ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, amd);
  ZydisFormatterInit(&formatter_, ZYDIS_FORMATTER_STYLE_INTEL);
}

std::optional<Decoded> Instructions::decode(Mode mode, std::span<const u8> bytes) const {
  Decoded d;
  const ZydisDecoder& decoder = mode == Mode::Long ? long_ : compatibility_;
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes.data(), bytes.size(), &d.in, d.operands))) return std::nullopt;
  return d;
}

bool Instructions::accepts(const Decoded& d) const {
  if (!is_included(d.in) || writes_segment(d.in, d.operands)) return false;
  bool memory = std::ranges::any_of(d.all_operands(), [](const ZydisDecodedOperand& o) { return o.type == ZYDIS_OPERAND_TYPE_MEMORY; });
  if (memory && d.in.address_width == 16) return false;  // cannot reach the window
  bool null_segment = d.in.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 && (d.in.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS);
  if (null_segment) return false;
  return only_.empty() || only_ == ZydisMnemonicGetString(d.in.mnemonic);
}

std::string Instructions::text(const Decoded& d, u64 rip) const {
  char text[160];
  ZydisFormatterFormatInstruction(&formatter_, &d.in, d.operands, d.in.operand_count_visible, text, sizeof text, rip, nullptr);
  return text;
}

}  // namespace atl::soft::differential
