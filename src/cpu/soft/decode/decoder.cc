#include "cpu/soft/decode/decoder.h"

#include "cpu/soft/decode/build.h"
#include "cpu/soft/exec/handler.h"
#include "cpu/soft/native/stub.h"

namespace atl::soft {

namespace {

constexpr size_t kMaxLength = 15;

const Op* raise_undefined(Core& core, const Op* op) { return leave_raising(core, op, kUD); }
const Op* raise_too_long(Core& core, const Op* op) { return leave_raising(core, op, kGP, 0); }

Decoded refused(Op& op, Handler handler, const DecodePlace& place) {
  op = {};
  op.run = handler;
  op.offset = place.offset;
  return Decoded::Ends;
}

void init(ZydisDecoder& decoder, CodeSize code, bool amd, bool minimal) {
  constexpr ZydisMachineMode kModes[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
                                         ZYDIS_MACHINE_MODE_LONG_64};
  constexpr ZydisStackWidth kWidths[] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_64};
  auto i = static_cast<size_t>(code);
  ZydisDecoderInit(&decoder, kModes[i], kWidths[i]);  // cannot fail: the pairs are the valid ones
  ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MINIMAL, minimal);
  ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES, amd);
}

/// Vendor "AuthenticAMD" or its relative "HygonGenuine".
bool is_amd(const CpuidTable& cpuid) {
  u32 ebx = cpuid.query(0, 0).ebx;
  return ebx == 0x68747541 || ebx == 0x6f677948;
}

bool is_near_branch(const ZydisDecodedInstruction& in) {
  u8 opcode = in.opcode, reg = in.raw.modrm.reg;
  if (in.opcode_map == ZYDIS_OPCODE_MAP_0F) return opcode >> 4 == 8;
  if (in.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT) return false;
  if (opcode == 0xff) return reg == 2 || reg == 4;
  return opcode >> 4 == 7 || (opcode >= 0xe0 && opcode <= 0xe3) || opcode == 0xc2 || opcode == 0xc3 || opcode == 0xe8 || opcode == 0xe9 ||
         opcode == 0xeb;
}

/// AMD's processors have near branches of 16 bits in 64-bit mode too (APM vol. 3, 1.2.4); Zydis knows the direct ones only.
void narrow_amd_branch(Build& build) {
  bool wide = build.in.raw.rex.W;
  if (!build.long_code() || wide || !has_prefix(build.in, 0x66) || !is_near_branch(build.in)) return;
  build.op.opsize = build.pick.size = 2;
}

const Op* run_native_op(Core& core, const Op* op) {
  core.rip = op_rip(core, op);
  core.next_rip = rip_after(core, op);
  if (!op->stub->run(core, *op)) [[unlikely]] return nullptr;
  return next_unless_left(core, op);
}

/// MASKMOVQ and MASKMOVDQU store to [rDI], which no ModR/M byte says.
void set_hidden_operand(Build& build) {
  ZydisMnemonic m = build.in.mnemonic;
  if (m != ZYDIS_MNEMONIC_MASKMOVQ && m != ZYDIS_MNEMONIC_MASKMOVDQU && m != ZYDIS_MNEMONIC_VMASKMOVDQU) return;
  build.op.base = kRdi;
}

/// A gather's index is a vector register.
void clear_vector_index(const ZydisDecodedOperand* operands, unsigned count, Op& op) {
  for (unsigned i = 0; i < count; ++i) {
    if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY && operands[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
      op.scale = static_cast<u8>(operands[i].mem.scale == 8 ? 3 : operands[i].mem.scale >> 1);
      op.index = kNoReg;
    }
  }
}

/// EVEX counts displacements of one byte in units that depend on the operand (SDM vol. 2, 2.7.5).
void scale_displacement(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands, Op& op) {
  if (in.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX || in.raw.disp.size != 8) return;
  for (unsigned i = 0; i < in.operand_count; ++i)
    if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) op.disp = operands[i].mem.disp.value;
}

bool decode_native(const ZydisDecoder& full, std::span<const u8> bytes, Build& build) {
  ZydisDecodedInstruction in;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (ZYAN_FAILED(ZydisDecoderDecodeFull(&full, bytes.data(), bytes.size(), &in, operands))) return false;
  if (!build.features.offers(in.meta.isa_set)) return false;
  set_hidden_operand(build);
  scale_displacement(in, operands, build.op);
  clear_vector_index(operands, in.operand_count, build.op);
  build.op.stub = find_stub(in, operands, bytes.first(in.length));
  if (!build.op.stub) return false;
  build.op.run = run_native_op;
  return true;
}

}  // namespace

Decoder::Decoder(const CpuidTable& cpuid) : features_(cpuid), amd_(is_amd(cpuid)) {
  for (CodeSize code : {CodeSize::k16, CodeSize::k32, CodeSize::k64}) {
    init(decoders_[static_cast<size_t>(code)], code, amd_, true);
    init(full_decoders_[static_cast<size_t>(code)], code, amd_, false);
  }
}

Decoded Decoder::decode(std::span<const u8> bytes, const DecodeMode& mode, const DecodePlace& place, Op& op) const {
  if (bytes.size() > kMaxLength) bytes = bytes.first(kMaxLength);
  auto code = static_cast<size_t>(mode.code);
  ZydisDecodedInstruction in;
  ZyanStatus status = ZydisDecoderDecodeInstruction(&decoders_[code], nullptr, bytes.data(), bytes.size(), &in);
  if (ZYAN_FAILED(status)) {
    bool short_input = status == ZYDIS_STATUS_NO_MORE_DATA;
    if (short_input && bytes.size() < kMaxLength) return Decoded::Truncated;
    bool too_long = short_input || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG;
    return refused(op, too_long ? raise_too_long : raise_undefined, place);
  }
  Build build{.in = in, .mode = mode, .place = place, .features = features_, .op = op};
  set_common(build);
  if (amd_) narrow_amd_branch(build);
  Decoded outcome = Decoded::Continues;
  if (apply_rules(build, outcome)) return outcome;
  if (decode_native(full_decoders_[code], bytes, build)) return Decoded::Continues;
  return refused(op, raise_undefined, place);
}

}  // namespace atl::soft
