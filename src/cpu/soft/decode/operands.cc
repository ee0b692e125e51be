// Operand fields of an Op from ModR/M, SIB, prefixes and opcode (SDM vol. 2, chapter 2).
#include "cpu/soft/decode/build.h"

namespace atl::soft {

namespace {

struct Extension {
  bool r = false, x = false, b = false;
};

/// VEX and EVEX hold them inverted; outside 64-bit mode no prefix extends anything.
Extension extension_of(const Build& build) {
  const auto& raw = build.in.raw;
  if (!build.long_code()) return {};
  if (build.in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) return {!raw.vex.R, !raw.vex.X, !raw.vex.B};
  if (build.in.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) return {!raw.evex.R, !raw.evex.X, !raw.evex.B};
  return {raw.rex.R != 0, raw.rex.X != 0, raw.rex.B != 0};
}

/// REX counts only right before the opcode.
bool has_rex(const ZydisDecodedInstruction& in) {
  if (in.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 || in.raw.prefix_count == 0) return false;
  return in.raw.prefixes[in.raw.prefix_count - 1].value >> 4 == 4;
}

u8 extended(u8 number, bool bit) { return static_cast<u8>(number | (bit ? 8 : 0)); }

/// SDM vol. 2, table 2-1.
void set_memory16(Build& build) {
  struct Pair {
    u8 base, index;
  };
  static constexpr Pair kPairs[8] = {{kRbx, kRsi}, {kRbx, kRdi}, {kRbp, kRsi}, {kRbp, kRdi},
                                     {kRsi, kNoReg}, {kRdi, kNoReg}, {kRbp, kNoReg}, {kRbx, kNoReg}};
  const auto& raw = build.in.raw;
  if (raw.modrm.mod == 0 && raw.modrm.rm == 6) return;  // disp16 alone
  build.op.base = kPairs[raw.modrm.rm].base;
  build.op.index = kPairs[raw.modrm.rm].index;
}

void set_sib(Build& build, const Extension& extension) {
  const auto& raw = build.in.raw;
  u8 index = extended(raw.sib.index, extension.x);
  if (index != 4) {
    build.op.index = index;
    build.op.scale = raw.sib.scale;
  }
  if (raw.sib.base == 5 && raw.modrm.mod == 0) return;
  build.op.base = extended(raw.sib.base, extension.b);
}

void set_memory(Build& build) {
  const auto& raw = build.in.raw;
  Op& op = build.op;
  op.disp = raw.disp.value;
  if (op.addrsize == 2) {
    op.disp = static_cast<i16>(op.disp);
    return set_memory16(build);
  }
  Extension extension = extension_of(build);
  if (raw.modrm.rm == 4) return set_sib(build, extension);
  if (raw.modrm.mod == 0 && raw.modrm.rm == 5) {
    if (!build.long_code()) return;
    op.base = kRipBase;
    op.disp += op.offset + op.length;
    return;
  }
  op.base = extended(raw.modrm.rm, extension.b);
}

/// The segment named by a prefix, or kSegCount. In 64-bit mode only FS and GS count.
u8 segment_prefix(const Build& build) {
  u8 segment = kSegCount;
  for (unsigned i = 0; i < build.in.raw.prefix_count; ++i) {
    u8 value = build.in.raw.prefixes[i].value;
    if (value == 0x64) segment = kFs;
    if (value == 0x65) segment = kGs;
    if (build.long_code()) continue;
    if (value == 0x26) segment = kEs;
    if (value == 0x2e) segment = kCs;
    if (value == 0x36) segment = kSs;
    if (value == 0x3e) segment = kDs;
  }
  return segment;
}

void set_segment(Build& build) {
  Op& op = build.op;
  op.seg = segment_prefix(build);
  if (op.seg != kSegCount) return;
  bool stack = op.base == kRsp || op.base == kRbp;
  op.seg = stack && build.in.raw.modrm.mod != 3 ? kSs : kDs;
}

AddressKind address_kind(const Build& build) {
  const Op& op = build.op;
  if (build.long_code() && op.addrsize == 8) {
    return op.seg == kFs || op.seg == kGs ? AddressKind::Based64 : AddressKind::Flat64;
  }
  bool flat_segment = op.seg == kDs || op.seg == kEs || op.seg == kSs;
  if (build.mode.code == CodeSize::k32 && op.addrsize == 4 && build.mode.flat_data && flat_segment) {
    return AddressKind::Flat32;
  }
  return AddressKind::General;
}

/// REP prefixes: the last of F2 and F3 counts.
u8 rep_prefix(const ZydisDecodedInstruction& in) {
  u8 rep = 0;
  for (unsigned i = 0; i < in.raw.prefix_count; ++i) {
    u8 value = in.raw.prefixes[i].value;
    if (value == 0xf2 || value == 0xf3) rep = value;
  }
  return rep;
}

u8 operand_reg(const Build& build, u8 number) {
  return build.pick.size == 1 ? byte_place(build, number) : number;
}

void set_rm(Build& build, u8& field, Shape if_reg, Shape if_mem) {
  build.pick.shape = build.register_form() ? if_reg : if_mem;
  if (build.register_form()) field = operand_reg(build, modrm_rm(build));
}

void set_opcode_reg(Build& build) {
  u8 number = extended(build.in.opcode & 7, extension_of(build).b);
  build.op.dst = operand_reg(build, number);
}

void set_moffs(Build& build, bool load) {
  Op& op = build.op;
  op.base = op.index = kNoReg;
  op.disp = static_cast<i64>(static_cast<u64>(build.in.raw.disp.value) & address_mask(op.addrsize));
  build.pick.shape = load ? Shape::RegMem : Shape::MemReg;
  (load ? op.dst : op.src) = kRax;  // AL has place 0, too
}

Form form_of_primary(u8 opcode, u8 reg) {
  if (opcode < 0x40) return opcode & 4 ? Form::AI : opcode & 2 ? Form::GE : Form::EG;
  if (opcode < 0x60) return Form::O;
  switch (opcode) {
    case 0x63: case 0x8a: case 0x8b: case 0x8d: return Form::GE;
    case 0x68: case 0x6a: return Form::I;
    case 0x69: case 0x6b: return Form::GEI;
    case 0x80: case 0x81: case 0x82: case 0x83: case 0xc0: case 0xc1: case 0xc6: case 0xc7: return Form::EI;
    case 0x84: case 0x85: case 0x86: case 0x87: case 0x88: case 0x89: return Form::EG;
    case 0xa0: case 0xa1: return Form::MoffsLoad;
    case 0xa2: case 0xa3: return Form::MoffsStore;
    case 0xa8: case 0xa9: return Form::AI;
    case 0xd0: case 0xd1: return Form::E1;
    case 0xd2: case 0xd3: return Form::ECl;
    case 0xe0: case 0xe1: case 0xe2: case 0xe3: case 0xe8: case 0xe9: case 0xeb: return Form::J;
    case 0xf6: case 0xf7: return reg < 2 ? Form::EI : Form::E;
    case 0x8f: case 0xfe: case 0xff: return Form::E;
    default: break;
  }
  if (opcode >= 0x70 && opcode < 0x80) return Form::J;
  if (opcode >= 0x90 && opcode < 0x98) return Form::AO;
  if (opcode >= 0xb0 && opcode < 0xc0) return Form::OI;
  return Form::None;
}

Form form_of_0f(u8 opcode) {
  if (opcode >= 0x40 && opcode < 0x50) return Form::GE;
  if (opcode >= 0x80 && opcode < 0x90) return Form::J;
  if (opcode >= 0x90 && opcode < 0xa0) return Form::E;
  if (opcode >= 0xc8 && opcode < 0xd0) return Form::O;
  switch (opcode) {
    case 0xa3: case 0xab: case 0xb3: case 0xbb: case 0xb0: case 0xb1: case 0xc0: case 0xc1: case 0xc3: return Form::EG;
    case 0xa4: case 0xac: return Form::EGI;
    case 0xa5: case 0xad: return Form::EGCl;
    case 0x02: case 0x03: case 0xaf: case 0xb6: case 0xb7: case 0xb8: case 0xbc: case 0xbd: case 0xbe: case 0xbf: return Form::GE;
    case 0xba: return Form::EI;
    case 0x00: case 0x01: case 0xc7: return Form::E;
    default: return Form::None;
  }
}

}  // namespace

bool has_prefix(const ZydisDecodedInstruction& in, u8 prefix) {
  for (unsigned i = 0; i < in.raw.prefix_count; ++i) {
    if (in.raw.prefixes[i].value == prefix) return true;
  }
  return false;
}

u8 byte_place(const Build& build, u8 number) {
  bool high = number >= 4 && number < 8 && !has_rex(build.in);
  return static_cast<u8>(high ? (number - 4) * 8 + 1 : number * 8);
}

u8 modrm_reg(const Build& build) { return extended(build.in.raw.modrm.reg, extension_of(build).r); }
u8 modrm_rm(const Build& build) { return extended(build.in.raw.modrm.rm, extension_of(build).b); }

Form form_of(const ZydisDecodedInstruction& in) {
  switch (in.opcode_map) {
    case ZYDIS_OPCODE_MAP_DEFAULT: return form_of_primary(in.opcode, in.raw.modrm.reg);
    case ZYDIS_OPCODE_MAP_0F: return form_of_0f(in.opcode);
    case ZYDIS_OPCODE_MAP_0F38: return in.opcode == 0xf1 && in.mnemonic == ZYDIS_MNEMONIC_MOVBE ? Form::EG : Form::GE;
    default: return Form::None;
  }
}

void set_common(Build& build) {
  const ZydisDecodedInstruction& in = build.in;
  Op& op = build.op;
  op = {};
  op.offset = build.place.offset;
  op.length = in.length;
  op.opsize = static_cast<u8>(in.operand_width / 8);
  op.addrsize = static_cast<u8>(in.address_width / 8);
  op.rep = rep_prefix(in);
  op.lock = has_prefix(in, 0xf0);
  bool has_modrm = in.raw.modrm.offset != 0;
  if (has_modrm && in.raw.modrm.mod != 3) set_memory(build);
  set_segment(build);
  build.pick.size = op.opsize;
  build.pick.address = address_kind(build);
  build.pick.code = build.mode.code;
  build.pick.flat_stack = build.mode.flat_stack;
}

void set_operands(Build& build, Form form) {
  Op& op = build.op;
  op.imm = build.in.raw.imm[0].value.u;
  u8 reg = operand_reg(build, modrm_reg(build));
  switch (form) {
    case Form::None: break;
    case Form::E: set_rm(build, op.dst, Shape::Reg, Shape::Mem); break;
    case Form::EG: set_rm(build, op.dst, Shape::RegReg, Shape::MemReg); op.src = reg; break;
    case Form::GE: set_rm(build, op.src, Shape::RegReg, Shape::RegMem); op.dst = reg; break;
    case Form::EI:
      set_rm(build, op.dst, Shape::RegImm, Shape::MemImm);
      build.pick.nonzero_count = op.imm & (build.pick.size == 8 ? 63 : 31);
      break;
    case Form::AI: op.dst = kRax; build.pick.shape = Shape::RegImm; break;
    case Form::O: set_opcode_reg(build); build.pick.shape = Shape::Reg; break;
    case Form::OI: set_opcode_reg(build); build.pick.shape = Shape::RegImm; break;
    case Form::AO: set_opcode_reg(build); op.src = kRax; build.pick.shape = Shape::RegReg; break;
    case Form::I: build.pick.shape = Shape::RegImm; break;
    case Form::E1: set_rm(build, op.dst, Shape::RegImm, Shape::MemImm); op.imm = 1; build.pick.nonzero_count = true; break;
    case Form::ECl: set_rm(build, op.dst, Shape::Reg, Shape::Mem); break;
    case Form::GEI: set_rm(build, op.src, Shape::RegReg, Shape::RegMem); op.dst = reg; break;
    case Form::EGI: set_rm(build, op.dst, Shape::RegImm, Shape::MemImm); op.src = reg; break;
    case Form::EGCl: set_rm(build, op.dst, Shape::Reg, Shape::Mem); op.src = reg; break;
    case Form::MoffsLoad: set_moffs(build, true); break;
    case Form::MoffsStore: set_moffs(build, false); break;
    case Form::J: op.imm += op.offset + op.length; break;
  }
}

}  // namespace atl::soft
