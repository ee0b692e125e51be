#include "cpu/soft/translate/insn.h"

#include <algorithm>

#include "cpu/soft/native/classify.h"

namespace atl::soft::translate {
namespace {

/// What is known of a mnemonic. Only what stands here is ever emitted as a host instruction.
struct Row {
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  Kind kind = Kind::CallOut;
  Feature feature = Feature::None;
};

constexpr Row copy(ZydisMnemonic mnemonic, Feature feature = Feature::None) { return {mnemonic, Kind::Copy, feature}; }

constexpr Row kRows[] = {
    // SDM vol. 1, 5.1: data transfer
    copy(ZYDIS_MNEMONIC_MOV), copy(ZYDIS_MNEMONIC_XCHG), copy(ZYDIS_MNEMONIC_BSWAP), copy(ZYDIS_MNEMONIC_XADD),
    copy(ZYDIS_MNEMONIC_CMPXCHG), copy(ZYDIS_MNEMONIC_CMPXCHG8B, Feature::Cx8), copy(ZYDIS_MNEMONIC_CMPXCHG16B, Feature::Cx16),
    copy(ZYDIS_MNEMONIC_MOVZX), copy(ZYDIS_MNEMONIC_MOVSX), copy(ZYDIS_MNEMONIC_MOVSXD),
    copy(ZYDIS_MNEMONIC_MOVBE, Feature::Movbe), copy(ZYDIS_MNEMONIC_MOVNTI, Feature::Sse2),
    copy(ZYDIS_MNEMONIC_CBW), copy(ZYDIS_MNEMONIC_CWDE), copy(ZYDIS_MNEMONIC_CDQE),
    copy(ZYDIS_MNEMONIC_CWD), copy(ZYDIS_MNEMONIC_CDQ), copy(ZYDIS_MNEMONIC_CQO),
    {ZYDIS_MNEMONIC_PUSH, Kind::Push}, {ZYDIS_MNEMONIC_POP, Kind::Pop},
    // arithmetic and logic
    copy(ZYDIS_MNEMONIC_ADD), copy(ZYDIS_MNEMONIC_OR), copy(ZYDIS_MNEMONIC_ADC), copy(ZYDIS_MNEMONIC_SBB),
    copy(ZYDIS_MNEMONIC_AND), copy(ZYDIS_MNEMONIC_SUB), copy(ZYDIS_MNEMONIC_XOR), copy(ZYDIS_MNEMONIC_CMP),
    copy(ZYDIS_MNEMONIC_TEST), copy(ZYDIS_MNEMONIC_INC), copy(ZYDIS_MNEMONIC_DEC), copy(ZYDIS_MNEMONIC_NEG),
    copy(ZYDIS_MNEMONIC_NOT), copy(ZYDIS_MNEMONIC_MUL), copy(ZYDIS_MNEMONIC_IMUL), copy(ZYDIS_MNEMONIC_DIV),
    copy(ZYDIS_MNEMONIC_IDIV), copy(ZYDIS_MNEMONIC_ADCX, Feature::Adx), copy(ZYDIS_MNEMONIC_ADOX, Feature::Adx),
    // shifts, bits and bytes
    copy(ZYDIS_MNEMONIC_ROL), copy(ZYDIS_MNEMONIC_ROR), copy(ZYDIS_MNEMONIC_RCL), copy(ZYDIS_MNEMONIC_RCR),
    copy(ZYDIS_MNEMONIC_SHL), copy(ZYDIS_MNEMONIC_SHR), copy(ZYDIS_MNEMONIC_SAR), copy(ZYDIS_MNEMONIC_SHLD),
    copy(ZYDIS_MNEMONIC_SHRD), copy(ZYDIS_MNEMONIC_BT), copy(ZYDIS_MNEMONIC_BTS), copy(ZYDIS_MNEMONIC_BTR),
    copy(ZYDIS_MNEMONIC_BTC), copy(ZYDIS_MNEMONIC_BSF), copy(ZYDIS_MNEMONIC_BSR), copy(ZYDIS_MNEMONIC_TZCNT, Feature::Bmi1),
    copy(ZYDIS_MNEMONIC_LZCNT, Feature::Abm), copy(ZYDIS_MNEMONIC_POPCNT, Feature::Popcnt),
    copy(ZYDIS_MNEMONIC_CRC32, Feature::Sse42),
    copy(ZYDIS_MNEMONIC_ANDN, Feature::Bmi1), copy(ZYDIS_MNEMONIC_BEXTR, Feature::Bmi1), copy(ZYDIS_MNEMONIC_BLSI, Feature::Bmi1),
    copy(ZYDIS_MNEMONIC_BLSR, Feature::Bmi1), copy(ZYDIS_MNEMONIC_BLSMSK, Feature::Bmi1), copy(ZYDIS_MNEMONIC_BZHI, Feature::Bmi2),
    copy(ZYDIS_MNEMONIC_PDEP, Feature::Bmi2), copy(ZYDIS_MNEMONIC_PEXT, Feature::Bmi2), copy(ZYDIS_MNEMONIC_MULX, Feature::Bmi2),
    copy(ZYDIS_MNEMONIC_SARX, Feature::Bmi2), copy(ZYDIS_MNEMONIC_SHLX, Feature::Bmi2), copy(ZYDIS_MNEMONIC_SHRX, Feature::Bmi2),
    copy(ZYDIS_MNEMONIC_RORX, Feature::Bmi2),
    // flags
    copy(ZYDIS_MNEMONIC_CLC), copy(ZYDIS_MNEMONIC_STC), copy(ZYDIS_MNEMONIC_CMC), copy(ZYDIS_MNEMONIC_LAHF, Feature::LahfLm),
    copy(ZYDIS_MNEMONIC_SAHF, Feature::LahfLm),
    // ordering
    copy(ZYDIS_MNEMONIC_LFENCE, Feature::Sse2), copy(ZYDIS_MNEMONIC_MFENCE, Feature::Sse2),
    copy(ZYDIS_MNEMONIC_SFENCE, Feature::Sse),
    {ZYDIS_MNEMONIC_VZEROUPPER, Kind::Vector, Feature::Avx}, {ZYDIS_MNEMONIC_VZEROALL, Kind::Vector, Feature::Avx},
    // control flow and the rest
    {ZYDIS_MNEMONIC_LEA, Kind::Lea}, {ZYDIS_MNEMONIC_LEAVE, Kind::Leave}, {ZYDIS_MNEMONIC_JMP, Kind::Jmp},
    {ZYDIS_MNEMONIC_CALL, Kind::Call}, {ZYDIS_MNEMONIC_RET, Kind::Ret}, {ZYDIS_MNEMONIC_LOOP, Kind::Loop},
    {ZYDIS_MNEMONIC_CLI, Kind::Cli}, {ZYDIS_MNEMONIC_STI, Kind::Sti}, {ZYDIS_MNEMONIC_SWAPGS, Kind::SwapGs, Feature::Lm},
    {ZYDIS_MNEMONIC_CLAC, Kind::AccessFlag, Feature::Smap}, {ZYDIS_MNEMONIC_STAC, Kind::AccessFlag, Feature::Smap},
    {ZYDIS_MNEMONIC_PUSHFD, Kind::PushFlags}, {ZYDIS_MNEMONIC_PUSHFQ, Kind::PushFlags},
    {ZYDIS_MNEMONIC_SYSCALL, Kind::SystemCall, Feature::Syscall}, {ZYDIS_MNEMONIC_SYSRET, Kind::SystemReturn, Feature::Syscall},
    {ZYDIS_MNEMONIC_RDFSBASE, Kind::ReadBase, Feature::Fsgsbase}, {ZYDIS_MNEMONIC_RDGSBASE, Kind::ReadBase, Feature::Fsgsbase},
    {ZYDIS_MNEMONIC_WRFSBASE, Kind::WriteBase, Feature::Fsgsbase}, {ZYDIS_MNEMONIC_WRGSBASE, Kind::WriteBase, Feature::Fsgsbase},
    {ZYDIS_MNEMONIC_RDTSC, Kind::ReadTsc, Feature::Tsc}, {ZYDIS_MNEMONIC_RDTSCP, Kind::ReadTsc, Feature::Rdtscp},
    {ZYDIS_MNEMONIC_JECXZ, Kind::CountZero}, {ZYDIS_MNEMONIC_JRCXZ, Kind::CountZero},
};

/// Row of a mnemonic, plus one; 0 if there is none.
constexpr auto kRowOf = [] {
  std::array<u8, ZYDIS_MNEMONIC_MAX_VALUE + 1> rows{};
  for (size_t i = 0; i < std::size(kRows); ++i) rows[kRows[i].mnemonic] = static_cast<u8>(i + 1);
  return rows;
}();
static_assert(std::size(kRows) < 255);

struct Source {
  const ZydisDecodedInstruction& in;
  const ZydisDecodedOperand* operands;
  bool long_code;

  bool legacy() const { return in.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY; }
  bool extension(u8 rex, u8 vex, u8 evex) const {
    if (!long_code) return false;
    if (in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) return !vex;
    return in.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ? !evex : rex != 0;
  }
  bool extension_r() const { return extension(in.raw.rex.R, in.raw.vex.R, in.raw.evex.R); }
  bool extension_x() const { return extension(in.raw.rex.X, in.raw.vex.X, in.raw.evex.X); }
  bool extension_b() const { return extension(in.raw.rex.B, in.raw.vex.B, in.raw.evex.B); }
  bool primary() const { return legacy() && in.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT; }
  bool map_0f() const { return legacy() && in.opcode_map == ZYDIS_OPCODE_MAP_0F; }
  bool has_prefix(u8 value) const {
    for (unsigned i = 0; i < in.raw.prefix_count; ++i)
      if (in.raw.prefixes[i].value == value) return true;
    return false;
  }
};

Row row_of(const Source& s) {
  u8 opcode = s.in.opcode;
  if (s.map_0f()) {
    if (opcode >> 4 == 4) return {.kind = Kind::Copy, .feature = Feature::Cmov};
    if (opcode >> 4 == 8) return {.kind = Kind::Jcc};
    if (opcode >> 4 == 9) return {.kind = Kind::Copy};
    // Prefetches and reserved NOPs (SDM vol. 2, NOP; 0F 18 to 0F 1F), among them MPX and CET.
    if ((opcode >= 0x18 && opcode < 0x20) || opcode == 0x0d) return {.kind = Kind::Nop};
  }
  if (s.primary() && opcode >> 4 == 7) return {.kind = Kind::Jcc};
  if (s.primary() && opcode == 0x8c) return {.kind = Kind::ReadSegment};
  if (s.primary() && opcode == 0x90 && s.in.mnemonic == ZYDIS_MNEMONIC_NOP) return {.kind = Kind::Nop};
  u8 row = kRowOf[s.in.mnemonic];
  return row ? kRows[row - 1] : Row{};
}

/// SSE, AVX and AVX-512: what the interpreter also runs as host code, without x87 and MMX.
bool note_vector(const Source& s, Insn& insn) {
  auto stub = classify(s.in, s.operands);
  if (!stub || !needs_code(*stub) || (stub->gate != Gate::Sse && stub->gate != Gate::Vex && stub->gate != Gate::Wide)) return false;
  insn.kind = Kind::Vector;
  insn.wide = stub->gate == Gate::Wide;
  insn.traps = stub->uses_mxcsr || (stub->memory_bytes && stub->alignment > 1);
  return true;
}

struct Register {
  u8 number;
  u8 size;
  bool high;
};

std::optional<Register> general_register(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8: {
      auto n = static_cast<u8>(reg - ZYDIS_REGISTER_AL);  // AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B ...
      if (n >= 8) return Register{static_cast<u8>(n - 4), 1, false};
      return Register{static_cast<u8>(n & 3), 1, n >= 4};
    }
    case ZYDIS_REGCLASS_GPR16: return Register{static_cast<u8>(ZydisRegisterGetId(reg)), 2, false};
    case ZYDIS_REGCLASS_GPR32: return Register{static_cast<u8>(ZydisRegisterGetId(reg)), 4, false};
    case ZYDIS_REGCLASS_GPR64: return Register{static_cast<u8>(ZydisRegisterGetId(reg)), 8, false};
    default: return std::nullopt;
  }
}

Field* field_of(ZydisOperandEncoding encoding, Insn& insn) {
  switch (encoding) {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG: return &insn.reg;
    case ZYDIS_OPERAND_ENCODING_MODRM_RM: return &insn.rm;
    case ZYDIS_OPERAND_ENCODING_NDSNDD: return &insn.vex;
    case ZYDIS_OPERAND_ENCODING_OPCODE: return &insn.code;
    default: return nullptr;
  }
}

/// False: an operand of a kind that is left to the interpreter.
bool note_register(const ZydisDecodedOperand& o, Insn& insn) {
  ZydisRegisterClass c = ZydisRegisterGetClass(o.reg.value);
  if (c == ZYDIS_REGCLASS_FLAGS || c == ZYDIS_REGCLASS_IP) return true;
  if (c == ZYDIS_REGCLASS_SEGMENT) return insn.kind == Kind::ReadSegment || insn.kind == Kind::SystemCall || insn.kind == Kind::SystemReturn;
  auto reg = general_register(o.reg.value);
  if (!reg && insn.kind == Kind::ReadTsc) return true;  // what stands for the clock
  if (!reg) return c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM || c == ZYDIS_REGCLASS_ZMM || c == ZYDIS_REGCLASS_MASK;
  // What may stay as it is counts as read.
  bool read = o.actions & (ZYDIS_OPERAND_ACTION_MASK_READ | ZYDIS_OPERAND_ACTION_CONDWRITE), write = o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
  if (read) insn.reads |= static_cast<u16>(1u << reg->number);
  if (write) insn.writes |= static_cast<u16>(1u << reg->number);
  if (o.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT) return true;
  if (Field* field = field_of(o.encoding, insn)) *field = {reg->number, reg->size, reg->high, read, write};
  return true;
}

/// Base and index as SDM vol. 2, tables 2-2 and 2-3, have them (Zydis 4.0 sees R13 where REX.B meets "no base").
void note_address(const Source& s, MemoryOperand& m) {
  const auto& raw = s.in.raw;
  u8 x = s.extension_x() ? 8 : 0, b = s.extension_b() ? 8 : 0;
  if (!raw.modrm.offset) return;
  if (raw.modrm.rm != 4) {
    bool no_base = raw.modrm.mod == 0 && raw.modrm.rm == 5;
    m.rip = no_base && s.long_code;
    if (!no_base) m.base = raw.modrm.rm | b;
    return;
  }
  if (u8 index = raw.sib.index | x; index != 4) {
    m.index = index;
    m.scale = raw.sib.scale;
  }
  if (raw.modrm.mod != 0 || raw.sib.base != 5) m.base = raw.sib.base | b;
}

bool note_segment(const ZydisDecodedOperand& o, const Source& s, bool flat_fs_gs, Insn& insn) {
  switch (o.mem.segment) {
    case ZYDIS_REGISTER_FS: insn.mem.segment = kFs; break;
    case ZYDIS_REGISTER_GS: insn.mem.segment = kGs; break;
    case ZYDIS_REGISTER_CS: return s.long_code;  // it may allow no writes
    default: return true;
  }
  return s.long_code || flat_fs_gs;
}

bool note_memory(const ZydisDecodedOperand& o, const Source& s, bool flat_fs_gs, Insn& insn) {
  MemoryOperand& m = insn.mem;
  if (m.present || s.in.address_width == 16 || o.mem.type == ZYDIS_MEMOP_TYPE_VSIB) return false;
  m.present = true;
  m.narrow = s.long_code && s.in.address_width == 32;
  m.size = static_cast<u8>(o.size / 8);
  m.read = o.actions & ZYDIS_OPERAND_ACTION_MASK_READ;
  m.write = o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
  m.disp = s.in.raw.disp.value;
  if (insn.enc.evex && s.in.raw.disp.size == 8) m.disp = o.mem.disp.value;  // scaled
  note_address(s, m);
  if (m.rip) m.disp += insn.end();
  if (m.rip && m.narrow) return false;
  if (s.in.raw.modrm.offset && m.disp != static_cast<i32>(m.disp)) return false;
  for (u8 r : {m.base, m.index})
    if (r != kNone) insn.reads |= static_cast<u16>(1u << r);
  return note_segment(o, s, flat_fs_gs, insn);
}

bool note_operands(const Source& s, bool flat_fs_gs, Insn& insn) {
  for (unsigned i = 0; i < s.in.operand_count; ++i) {
    const ZydisDecodedOperand& o = s.operands[i];
    if (o.type == ZYDIS_OPERAND_TYPE_REGISTER && !note_register(o, insn)) return false;
    bool is_explicit = o.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
    if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && is_explicit && !note_memory(o, s, flat_fs_gs, insn)) return false;
    if (o.type == ZYDIS_OPERAND_TYPE_POINTER) return false;
  }
  return true;
}

void note_evex(const Source& s, Encoding& e) {
  const auto& evex = s.in.raw.evex;
  e.wide = evex.W;
  e.operand16 = evex.pp == 1;
  e.rep = evex.pp == 2 ? 0xf3 : evex.pp == 3 ? 0xf2 : 0;
  e.vvvv = static_cast<u8>((~evex.vvvv & (s.long_code ? 15 : 7)) | (s.long_code && !evex.V2 ? 16 : 0));
  e.evex_last = static_cast<u8>(evex.z << 7 | evex.L2 << 6 | evex.L << 5 | evex.b << 4 | evex.aaa);
}

void note_encoding(const Source& s, Insn& insn) {
  const auto& raw = s.in.raw;
  Encoding& e = insn.enc;
  e.map = static_cast<u8>(s.in.opcode_map);
  e.opcode = s.in.opcode;
  e.vex = s.in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  e.evex = s.in.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
  if (e.vex) {
    e.wide = raw.vex.W;
    e.vex_l = raw.vex.L;
    e.operand16 = raw.vex.pp == 1;
    e.rep = raw.vex.pp == 2 ? 0xf3 : raw.vex.pp == 3 ? 0xf2 : 0;
    e.vvvv = static_cast<u8>(~raw.vex.vvvv & (s.long_code ? 15 : 7));
  } else if (e.evex) {
    note_evex(s, e);
  } else {
    e.wide = s.long_code && raw.rex.W;
    e.lock = s.in.attributes & ZYDIS_ATTRIB_HAS_LOCK;
    for (unsigned i = 0; i < raw.prefix_count; ++i) {
      u8 value = raw.prefixes[i].value;
      if (value == 0x66) e.operand16 = true;
      if ((value == 0xf2 || value == 0xf3) && raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY) e.rep = value;
    }
  }
  insn.has_modrm = raw.modrm.offset != 0;
  insn.open_rm = insn.has_modrm && raw.modrm.mod == 3;
  insn.digit = raw.modrm.reg;
  insn.vector_rm = raw.modrm.rm;
  if (insn.kind != Kind::Vector) return;
  insn.digit |= static_cast<u8>((s.extension_r() ? 8 : 0) | (s.long_code && e.evex && !raw.evex.R2 ? 16 : 0));
  insn.vector_rm |= static_cast<u8>((s.extension_b() ? 8 : 0) | (e.evex && s.extension_x() ? 16 : 0));
}

void note_immediate(const Source& s, Insn& insn) {
  insn.imm_size = static_cast<u8>(s.in.raw.imm[0].size / 8);
  insn.imm = s.in.raw.imm[0].value.u;
  bool names_register = insn.enc.vex && insn.enc.map == 3 && insn.enc.opcode >= 0x4a && insn.enc.opcode <= 0x4c;
  if (names_register && !s.long_code) insn.imm &= 0x7f;  // one of eight
}

bool is_shift(const Insn& insn) {
  u8 op = insn.enc.opcode;
  if (insn.enc.vex) return false;
  if (insn.enc.map == 0) return op == 0xc0 || op == 0xc1 || (op >= 0xd0 && op <= 0xd3);
  return insn.enc.map == 1 && (op == 0xa4 || op == 0xa5 || op == 0xac || op == 0xad);
}

/// Whether the count is in CL and so may be 0, which leaves all flags as they were.
bool is_shift_by_cl(const Insn& insn) {
  u8 op = insn.enc.opcode;
  return insn.enc.map == 0 ? op >= 0xd2 : op & 1;
}

bool is_zero_shift(const Insn& insn) {
  if (insn.enc.map == 0 && insn.enc.opcode >= 0xd0) return false;
  bool is_byte = insn.enc.map == 0 && insn.enc.opcode == 0xc0;  // REX.W means nothing to it
  return (insn.imm & (insn.enc.wide && !is_byte ? 63 : 31)) == 0;
}

/// Flags that the manual calls undefined may stay as they are, on some hosts, so what they were must be there. Not so here.
bool writes_undefined(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_AND: case ZYDIS_MNEMONIC_OR: case ZYDIS_MNEMONIC_XOR: case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR: case ZYDIS_MNEMONIC_SAR: return true;
    default: return false;
  }
}

void note_flags(const Source& s, Insn& insn) {
  if (!s.in.cpu_flags) return;
  const ZydisAccessedFlags& f = *s.in.cpu_flags;
  insn.flags_read = f.tested & kArithmetic;
  insn.flags_killed = (f.modified | f.set_0 | f.set_1 | (writes_undefined(insn) ? f.undefined : 0)) & kArithmetic;
  insn.flags_change = insn.flags_killed || (f.undefined & kArithmetic);
  if (!is_shift(insn)) return;
  if (is_shift_by_cl(insn)) insn.flags_read = kArithmetic, insn.flags_killed = 0;
  else if (is_zero_shift(insn)) insn.flags_killed = 0, insn.flags_change = false;
}

/// Whether W, which 32-bit code ignores, would give the host's instruction an integer of 64 bits.
bool widens_integers(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_VPINSRD: case ZYDIS_MNEMONIC_VPEXTRD: case ZYDIS_MNEMONIC_VMOVD: case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD: case ZYDIS_MNEMONIC_VCVTUSI2SS: case ZYDIS_MNEMONIC_VCVTUSI2SD: return true;
    default: return insn.reg.used() || insn.rm.used();
  }
}

/// REX.W or VEX.W, and operands in memory, where the host's encoding means something else than the guest's.
bool encodable(const Source& s, const Insn& insn) {
  if (!s.long_code && insn.enc.vex && insn.enc.wide) return false;
  if (!s.long_code && insn.enc.evex && insn.enc.wide && widens_integers(insn)) return false;
  if (s.primary() && s.in.opcode == 0x63) return s.long_code;
  if (s.has_prefix(0xf2) || s.has_prefix(0xf3)) {
    bool hint = insn.mem.write && (insn.enc.lock || insn.mnemonic == ZYDIS_MNEMONIC_XCHG || insn.mnemonic == ZYDIS_MNEMONIC_MOV);
    if (!insn.enc.vex && !insn.enc.rep && !hint && insn.kind == Kind::Copy) return false;
  }
  return true;
}

/// Bit strings reach memory far from their address.
bool is_bit_string(const Insn& insn) {
  u8 op = insn.enc.opcode;
  return insn.mem.present && insn.enc.map == 1 && !insn.enc.vex && (op == 0xa3 || op == 0xab || op == 0xb3 || op == 0xbb);
}

bool finish_bit_string(Insn& insn) {
  insn.kind = Kind::BitString;
  return insn.reg.size >= 4 && !insn.mem.narrow;
}

/// MOV with A0 to A3: as if it had ModR/M.
void turn_moffs(Insn& insn) {
  static constexpr u8 kOpcodes[] = {0x8a, 0x8b, 0x88, 0x89};
  bool store = insn.enc.opcode & 2;
  insn.imm_size = 0;
  insn.reg = {.reg = 0, .size = insn.mem.size, .read = store, .write = !store};
  insn.enc.opcode = kOpcodes[insn.enc.opcode & 3];
  insn.has_modrm = true;
}

/// INC, DEC (40 to 4F) and XCHG (90 to 97) with the register in the opcode: as if it were in ModR/M.
void turn_short_forms(const Source& s, Insn& insn) {
  u8 op = insn.enc.opcode;
  if (!s.primary()) return;
  if (op >= 0x40 && op < 0x50) {
    insn.enc.opcode = 0xff;
    insn.digit = op >= 0x48;
  } else if (op >= 0x90 && op < 0x98 && insn.mnemonic == ZYDIS_MNEMONIC_XCHG) {
    insn.enc.opcode = 0x87;
    insn.reg = {.reg = 0, .size = insn.code.size, .read = true, .write = true};
  } else {
    return;
  }
  insn.rm = insn.code;
  insn.code = {};
  insn.has_modrm = insn.open_rm = true;
}

bool finish_copy(const Source& s, Insn& insn) {
  if (is_bit_string(insn)) return finish_bit_string(insn);
  if (s.primary() && (s.in.opcode & 0xfc) == 0xa0) turn_moffs(insn);
  turn_short_forms(s, insn);
  if (insn.mnemonic == ZYDIS_MNEMONIC_MOVNTI) insn.enc.map = 0, insn.enc.opcode = 0x89;
  if (is_shift(insn) && insn.enc.map == 0 && insn.digit == 6) insn.digit = 4;  // an alias of SHL
  if (insn.enc.map == 0 && insn.enc.opcode == 0x82) insn.enc.opcode = 0x80;
  insn.traps = insn.mnemonic == ZYDIS_MNEMONIC_DIV || insn.mnemonic == ZYDIS_MNEMONIC_IDIV ||
               insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;  // by zero, out of range, misaligned
  return true;
}

/// Only the forms with the full width of the mode.
bool full_width(const Source& s, const Insn& insn) {
  return s.in.operand_width == (s.long_code ? 64 : 32) && !insn.enc.operand16;
}

bool finish_stack(const Source& s, Insn& insn) {
  if (!full_width(s, insn)) return false;
  if (insn.kind == Kind::Pop && insn.mem.present) return false;
  if (insn.kind == Kind::Leave || insn.kind == Kind::Ret) return insn.kind == Kind::Leave || !(s.in.opcode & 8);
  return insn.code.used() || insn.rm.used() || insn.mem.present || (insn.kind == Kind::Push && insn.imm_size);
}

bool finish_branch(const Source& s, Insn& insn) {
  if (s.has_prefix(0x66)) return false;
  if (s.primary() && s.in.opcode == 0xff) {
    if (s.in.raw.modrm.reg & 1) return false;  // far
    insn.kind = insn.kind == Kind::Call ? Kind::CallIndirect : Kind::JmpIndirect;
    return insn.rm.used() || insn.mem.present;
  }
  insn.cond = s.in.opcode & 15;
  i64 target = insn.end() + static_cast<i64>(insn.imm);
  insn.target = static_cast<i32>(target);
  if ((insn.kind == Kind::Loop || insn.kind == Kind::CountZero) && s.in.address_width != (s.long_code ? 64 : 32)) return false;
  return target == insn.target;
}

/// Not with the LOCK prefix, which makes #UD of them.
bool finish_system(const Source& s, u8 tlb_set, Insn& insn) {
  if (tlb_set == kUserSet || insn.enc.lock) return false;
  if (insn.kind == Kind::SwapGs) return s.long_code;
  if (insn.kind == Kind::AccessFlag) insn.ends = (insn.mnemonic == ZYDIS_MNEMONIC_STAC) == (tlb_set == kSupervisorSet);
  return insn.kind != Kind::PushFlags || full_width(s, insn);
}

/// SYSCALL and SYSRET of 64-bit code, the latter back to such.
bool finish_fast_call(const Source& s, u8 tlb_set, const Insn& insn) {
  if (!s.long_code || insn.enc.lock) return false;
  return insn.kind == Kind::SystemCall ? tlb_set == kUserSet : tlb_set != kUserSet && insn.enc.wide;
}

bool finish_state(const Source& s, const Insn& insn) {
  if (insn.kind == Kind::ReadSegment) return insn.rm.used() && !insn.enc.lock;
  return s.long_code && insn.rm.used() && insn.rm.size >= 4 && !insn.enc.lock;
}

bool finish(const Source& s, u8 tlb_set, Insn& insn) {
  switch (insn.kind) {
    case Kind::Copy: return finish_copy(s, insn);
    case Kind::Vector: return s.long_code || s.in.operand_count_visible != 0;  // VZEROUPPER clears eight registers only
    case Kind::Nop: insn.mem = {}; return true;
    case Kind::Lea: insn.mem.segment = kNone; return insn.mem.present;
    case Kind::Push: case Kind::Pop: case Kind::Leave: case Kind::Ret: return finish_stack(s, insn);
    case Kind::Jmp: case Kind::Jcc: case Kind::Loop: case Kind::CountZero: case Kind::Call: return finish_branch(s, insn);
    case Kind::Cli: case Kind::Sti: case Kind::AccessFlag: case Kind::SwapGs: case Kind::PushFlags: return finish_system(s, tlb_set, insn);
    case Kind::SystemCall: case Kind::SystemReturn: return finish_fast_call(s, tlb_set, insn);
    case Kind::ReadSegment: case Kind::ReadBase: case Kind::WriteBase: return finish_state(s, insn);
    case Kind::ReadTsc: return !insn.enc.lock;
    default: return false;
  }
}

}  // namespace

bool Insn::observes() const {
  return straddles() || kind == Kind::CallOut || kind == Kind::Vector || (mem.present && kind != Kind::Lea) || kind == Kind::Push ||
         kind == Kind::Pop || kind == Kind::Leave || kind == Kind::Call || kind == Kind::Ret || kind == Kind::JmpIndirect ||
         kind == Kind::CallIndirect || kind == Kind::PushFlags || needs_op();
}

InsnDecoder::InsnDecoder(const FeatureSet& features, Mode mode)
    : features_(features), long_code_(static_cast<CodeSize>(mode & 3) == CodeSize::k64), flat_fs_gs_(mode & kModeFlatFsGs),
      tlb_set_(mode >> kModeSetShift & 3) {
  if (long_code_) ZydisDecoderInit(&zydis_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);  // a valid pair
  else ZydisDecoderInit(&zydis_, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
}

bool InsnDecoder::decode(std::span<const u8> bytes, u16 offset, Insn& insn) const {
  constexpr size_t kMaxLength = 15;
  ZydisDecodedInstruction in;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  size_t size = std::min(bytes.size(), kMaxLength);
  insn = {};
  insn.offset = offset;
  if (ZYAN_FAILED(ZydisDecoderDecodeFull(&zydis_, bytes.data(), size, &in, operands))) return false;
  Source s{in, operands, long_code_};
  if (in.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && in.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX &&
      in.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX)
    return false;
  Row row = row_of(s);
  if (row.kind == Kind::CallOut && note_vector(s, insn))
    row = {in.mnemonic, Kind::Vector, features_.offers(in.meta.isa_set) ? Feature::None : Feature::Never};
  bool flag_load = in.mnemonic == ZYDIS_MNEMONIC_LAHF || in.mnemonic == ZYDIS_MNEMONIC_SAHF;
  bool offered = features_.has(row.feature) || (flag_load && !long_code_);
  if (row.kind == Kind::CallOut || !offered) return false;
  insn.length = in.length;
  insn.kind = row.kind;
  insn.mnemonic = in.mnemonic;
  note_encoding(s, insn);
  note_immediate(s, insn);
  if (row.kind != Kind::Nop && !note_operands(s, flat_fs_gs_, insn)) return false;
  note_flags(s, insn);
  if (row.kind == Kind::Nop) insn.flags_read = insn.flags_killed = 0, insn.flags_change = false;
  return encodable(s, insn) && finish(s, tlb_set_, insn);
}

}  // namespace atl::soft::translate
