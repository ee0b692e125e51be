// The decoder's workbench: one instruction between Zydis and its Op.
#pragma once

#include <Zydis/Zydis.h>

#include "cpu/soft/decode/decoder.h"
#include "cpu/soft/exec/pick.h"

namespace atl::soft {

struct Build {
  const ZydisDecodedInstruction& in;
  const DecodeMode& mode;
  const DecodePlace& place;
  const FeatureSet& features;
  Op& op;
  Pick pick{};

  bool long_code() const { return mode.code == CodeSize::k64; }
  bool register_form() const { return in.raw.modrm.mod == 3; }
  u8 map() const { return static_cast<u8>(in.opcode_map); }
};

/// How the operands are encoded, in the letters of SDM vol. 2, A.2: E = r/m, G = register, I = immediate, O = register in the
/// opcode, A = accumulator, J = relative target.
enum class Form : u8 { None, E, EG, GE, EI, AI, O, OI, AO, I, E1, ECl, GEI, EGI, EGCl, MoffsLoad, MoffsStore, J };

/// The form of an integer instruction by its opcode.
Form form_of(const ZydisDecodedInstruction& in);

/// What every op has: length, sizes, prefixes, the memory operand.
void set_common(Build& build);
/// Registers, immediate and shape.
void set_operands(Build& build, Form form);

/// The number of a register operand as our own handlers want it: byte registers as their place in the register file.
u8 byte_place(const Build& build, u8 number);
/// ModR/M.reg and ModR/M.rm with REX's or VEX's extension bits.
u8 modrm_reg(const Build& build);
u8 modrm_rm(const Build& build);
bool has_prefix(const ZydisDecodedInstruction& in, u8 prefix);

/// Chooses the handler by the rules; false if none takes the instruction.
bool apply_rules(Build& build, Decoded& outcome);

}  // namespace atl::soft
