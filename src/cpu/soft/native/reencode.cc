#include "cpu/soft/native/reencode.h"

namespace atl::soft {
namespace {

constexpr u8 kRexR = 4, kRexX = 2, kRexB = 1;

bool is_explicit_gpr(const ZydisDecodedOperand& o) {
  return o.type == ZYDIS_OPERAND_TYPE_REGISTER && o.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT && gpr_number(o.reg.value);
}

/// What the ModR/M fields are to hold, after substitution.
struct Fields {
  u8 modrm = 0;
  bool has_modrm = false;
  bool clear_r = false;   // REX.R: the field holds RAX
  bool clear_xb = false;  // REX.X and REX.B: r/m holds RAX or [rsi]
  bool narrow = false;    // outside 64-bit mode REX does not exist, and VEX ignores B, the top of vvvv, and W for registers
};

Fields substitute(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands, Reencoding& out) {
  Fields f{.narrow = in.machine_mode != ZYDIS_MACHINE_MODE_LONG_64};
  f.has_modrm = in.attributes & ZYDIS_ATTRIB_HAS_MODRM;
  if (f.has_modrm) f.modrm = static_cast<u8>(in.raw.modrm.mod << 6 | in.raw.modrm.reg << 3 | in.raw.modrm.rm);
  if (f.has_modrm && in.raw.modrm.mod != 3) {
    f.modrm = static_cast<u8>((f.modrm & 0x38) | 6);
    f.clear_xb = true;
  }
  for (unsigned i = 0; i < in.operand_count; ++i) {
    if (!is_explicit_gpr(operands[i])) continue;
    out.gpr = gpr_number(operands[i].reg.value);
    out.gpr_written = operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    bool in_reg = operands[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG;
    f.modrm &= in_reg ? 0xc7 : 0xf8;
    (in_reg ? f.clear_r : f.clear_xb) = true;
  }
  return f;
}

/// Mandatory prefixes in their order; segment, address size and LOCK go.
void copy_prefixes(std::span<const u8> bytes, size_t end, std::vector<u8>& out) {
  for (size_t i = 0; i < end; ++i)
    if (bytes[i] == 0x66 || bytes[i] == 0xf2 || bytes[i] == 0xf3) out.push_back(bytes[i]);
}

void add_legacy_head(const ZydisDecodedInstruction& in, const Fields& f, std::span<const u8> bytes, std::vector<u8>& out) {
  size_t opcode = 0;
  while (opcode < bytes.size() && (bytes[opcode] == 0x66 || bytes[opcode] == 0x67 || bytes[opcode] == 0xf0 || bytes[opcode] == 0xf2 ||
                                   bytes[opcode] == 0xf3 || bytes[opcode] == 0x2e || bytes[opcode] == 0x36 || bytes[opcode] == 0x3e ||
                                   bytes[opcode] == 0x26 || bytes[opcode] == 0x64 || bytes[opcode] == 0x65 ||
                                   (!f.narrow && (bytes[opcode] & 0xf0) == 0x40)))
    ++opcode;
  copy_prefixes(bytes, opcode, out);
  if (in.attributes & ZYDIS_ATTRIB_HAS_REX) {
    u8 rex = bytes[in.raw.rex.offset] & 0xf;
    if (f.clear_r) rex &= static_cast<u8>(~kRexR);
    if (f.clear_xb) rex &= static_cast<u8>(~(kRexX | kRexB));
    out.push_back(0x40 | rex);
  }
  size_t end = f.has_modrm ? in.raw.modrm.offset : bytes.size();
  out.insert(out.end(), bytes.begin() + static_cast<long>(opcode), bytes.begin() + static_cast<long>(end));
}

/// Scalar conversions and moves, and string comparisons, whose 64-bit forms exist in 64-bit mode only.
bool ignores_w(const ZydisDecodedInstruction& in) {
  u8 op = in.opcode;
  if (in.opcode_map == ZYDIS_OPCODE_MAP_0F3A) return op == 0x60 || op == 0x61;
  return in.opcode_map == ZYDIS_OPCODE_MAP_0F && (op == 0x2a || op == 0x2c || op == 0x2d || op == 0x6e || op == 0x7e);
}

void add_vex_head(const ZydisDecodedInstruction& in, const Fields& f, std::span<const u8> bytes, std::vector<u8>& out) {
  u8 r = in.raw.vex.R, x = in.raw.vex.X, b = in.raw.vex.B, w = in.raw.vex.W, vvvv = in.raw.vex.vvvv;
  if (f.narrow) {
    r = x = b = 1;  // inverted: the low eight registers
    vvvv |= 8;
    if (ignores_w(in)) w = 0;
  }
  if (f.clear_r) r = 1;
  if (f.clear_xb) x = b = 1;
  out.push_back(0xc4);
  out.push_back(static_cast<u8>(r << 7 | x << 6 | b << 5 | in.raw.vex.m_mmmm));
  out.push_back(static_cast<u8>(w << 7 | vvvv << 3 | in.raw.vex.L << 2 | in.raw.vex.pp));
  out.push_back(bytes[in.raw.modrm.offset - 1]);
}

/// The same for EVEX: what has a general register, or memory in its place.
bool wide_ignores_w(const ZydisDecodedInstruction& in) {
  const u8 op = in.opcode, pp = in.raw.evex.pp;
  if (in.opcode_map == ZYDIS_OPCODE_MAP_0F3A) return op == 0x16 || op == 0x22;
  if (in.opcode_map == ZYDIS_OPCODE_MAP_0F38) return op == 0x7c;
  if (op == 0x6e || op == 0x7e) return pp == 1;
  return op == 0x2a || op == 0x2c || op == 0x2d || (pp >= 2 && (op == 0x78 || op == 0x79 || op == 0x7b));
}

/// SDM vol. 2, 2.7.1.
void add_evex_head(const ZydisDecodedInstruction& in, const Fields& f, std::span<const u8> bytes, std::vector<u8>& out) {
  const auto& evex = in.raw.evex;
  u8 r = evex.R, x = evex.X, b = evex.B, r2 = evex.R2, v2 = evex.V2, vvvv = evex.vvvv, w = evex.W;
  if (f.narrow) {
    r = x = b = r2 = v2 = 1;
    vvvv |= 8;
    if (wide_ignores_w(in)) w = 0;
  }
  if (f.clear_r) r = r2 = 1;
  if (f.clear_xb) x = b = 1;
  out.push_back(0x62);
  out.push_back(static_cast<u8>(r << 7 | x << 6 | b << 5 | r2 << 4 | evex.mmm));
  out.push_back(static_cast<u8>(w << 7 | vvvv << 3 | 4 | evex.pp));
  out.push_back(static_cast<u8>(evex.z << 7 | evex.L2 << 6 | evex.L << 5 | evex.b << 4 | v2 << 3 | evex.aaa));
  out.push_back(bytes[in.raw.modrm.offset - 1]);
}

void add_immediates(const ZydisDecodedInstruction& in, const Fields& f, std::span<const u8> bytes, std::vector<u8>& out) {
  for (const auto& imm : in.raw.imm)
    for (unsigned i = 0; i < imm.size / 8u; ++i) out.push_back(bytes[imm.offset + i]);
  if (f.narrow && in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && in.raw.imm[0].size && (in.opcode & 0xf0) == 0x40 &&
      in.opcode_map == ZYDIS_OPCODE_MAP_0F3A && in.opcode >= 0x4a && in.opcode <= 0x4c)
    out.back() &= 0x7f;  // the register in imm8[7:4] is one of eight
}

}  // namespace

std::optional<u8> gpr_number(ZydisRegister reg) {
  ZydisRegisterClass c = ZydisRegisterGetClass(reg);
  if (c != ZYDIS_REGCLASS_GPR64 && c != ZYDIS_REGCLASS_GPR32 && c != ZYDIS_REGCLASS_GPR16) return std::nullopt;
  return static_cast<u8>(ZydisRegisterGetId(reg));
}

Reencoding reencode(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands, std::span<const u8> bytes) {
  Reencoding out;
  Fields fields = substitute(in, operands, out);
  if (in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) add_vex_head(in, fields, bytes, out.bytes);
  else if (in.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) add_evex_head(in, fields, bytes, out.bytes);
  else add_legacy_head(in, fields, bytes, out.bytes);
  if (fields.has_modrm) out.bytes.push_back(fields.modrm);
  add_immediates(in, fields, bytes, out.bytes);
  return out;
}

}  // namespace atl::soft
