#include "cpu/soft/native/classify.h"

#include <algorithm>

#include "cpu/cpuid.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {
namespace {

using Run = bool (*)(Core&, const Op&);

struct HostNeed {
  ZydisISASet set;
  std::string_view feature;
};
/// Instruction sets that are run here, with the feature that the host must have.
constexpr HostNeed kSets[] = {
    {ZYDIS_ISA_SET_X87, "fpu"}, {ZYDIS_ISA_SET_FCMOV, "cmov"}, {ZYDIS_ISA_SET_PPRO, "cmov"}, {ZYDIS_ISA_SET_PENTIUMMMX, "mmx"},
    {ZYDIS_ISA_SET_SSE, "sse"}, {ZYDIS_ISA_SET_SSEMXCSR, "sse"}, {ZYDIS_ISA_SET_SSE2, "sse2"}, {ZYDIS_ISA_SET_SSE2MMX, "sse2"},
    {ZYDIS_ISA_SET_SSE3, "pni"}, {ZYDIS_ISA_SET_SSE3X87, "pni"}, {ZYDIS_ISA_SET_SSSE3, "ssse3"}, {ZYDIS_ISA_SET_SSSE3MMX, "ssse3"},
    {ZYDIS_ISA_SET_SSE4, "sse4.1"}, {ZYDIS_ISA_SET_SSE42, "sse4.2"}, {ZYDIS_ISA_SET_AES, "aes"},
    {ZYDIS_ISA_SET_PCLMULQDQ, "pclmulqdq"}, {ZYDIS_ISA_SET_SHA, "sha-ni"}, {ZYDIS_ISA_SET_AVX, "avx"},
    {ZYDIS_ISA_SET_AVXAES, "aes"}, {ZYDIS_ISA_SET_AVX2, "avx2"}, {ZYDIS_ISA_SET_AVX2GATHER, "avx2"}, {ZYDIS_ISA_SET_FMA, "fma"},
    {ZYDIS_ISA_SET_F16C, "f16c"}, {ZYDIS_ISA_SET_FXSAVE, "fxsr"}, {ZYDIS_ISA_SET_FXSAVE64, "fxsr"}, {ZYDIS_ISA_SET_XSAVE, "fxsr"},
    {ZYDIS_ISA_SET_XSAVEOPT, "fxsr"}, {ZYDIS_ISA_SET_XSAVEC, "fxsr"},
};

bool host_has(ZydisISASet set) {
  static const u64 available = [] {
    cpu::CpuidTable host = cpu::host_cpuid();
    u64 bits = 0;
    for (size_t i = 0; i < std::size(kSets); ++i) bits |= u64{host.has(kSets[i].feature)} << i;
    return bits;
  }();
  auto need = std::ranges::find(kSets, set, &HostNeed::set);
  return need != std::end(kSets) && (available >> (need - kSets) & 1);
}

struct Special {
  ZydisMnemonic mnemonic;
  Run run;
  u8 element = 0, index_element = 0;
};
constexpr Special kSpecials[] = {
    {ZYDIS_MNEMONIC_LDMXCSR, run_ldmxcsr}, {ZYDIS_MNEMONIC_VLDMXCSR, run_ldmxcsr},
    {ZYDIS_MNEMONIC_STMXCSR, run_stmxcsr}, {ZYDIS_MNEMONIC_VSTMXCSR, run_stmxcsr},
    {ZYDIS_MNEMONIC_VZEROUPPER, run_vzeroupper}, {ZYDIS_MNEMONIC_VZEROALL, run_vzeroall}, {ZYDIS_MNEMONIC_EMMS, run_emms},
    {ZYDIS_MNEMONIC_VMASKMOVPS, nullptr, 4}, {ZYDIS_MNEMONIC_VMASKMOVPD, nullptr, 8},
    {ZYDIS_MNEMONIC_VPMASKMOVD, nullptr, 4}, {ZYDIS_MNEMONIC_VPMASKMOVQ, nullptr, 8},
    {ZYDIS_MNEMONIC_MASKMOVDQU, run_maskmovdqu}, {ZYDIS_MNEMONIC_VMASKMOVDQU, run_maskmovdqu},
    {ZYDIS_MNEMONIC_MASKMOVQ, run_maskmovq},
    {ZYDIS_MNEMONIC_VGATHERDPS, run_gather, 4, 4}, {ZYDIS_MNEMONIC_VGATHERDPD, run_gather, 8, 4},
    {ZYDIS_MNEMONIC_VGATHERQPS, run_gather, 4, 8}, {ZYDIS_MNEMONIC_VGATHERQPD, run_gather, 8, 8},
    {ZYDIS_MNEMONIC_VPGATHERDD, run_gather, 4, 4}, {ZYDIS_MNEMONIC_VPGATHERDQ, run_gather, 8, 4},
    {ZYDIS_MNEMONIC_VPGATHERQD, run_gather, 4, 8}, {ZYDIS_MNEMONIC_VPGATHERQQ, run_gather, 8, 8},
    {ZYDIS_MNEMONIC_FWAIT, run_fwait}, {ZYDIS_MNEMONIC_FNINIT, run_fninit}, {ZYDIS_MNEMONIC_FNCLEX, run_fnclex},
    {ZYDIS_MNEMONIC_FNSTCW, run_fnstcw}, {ZYDIS_MNEMONIC_FLDCW, run_fldcw}, {ZYDIS_MNEMONIC_FNSTENV, run_fnstenv},
    {ZYDIS_MNEMONIC_FLDENV, run_fldenv}, {ZYDIS_MNEMONIC_FNSAVE, run_fnsave}, {ZYDIS_MNEMONIC_FRSTOR, run_frstor},
    {ZYDIS_MNEMONIC_FNSTSW, run_fnstsw},
    {ZYDIS_MNEMONIC_FENI8087_NOP, run_fnop_no_wait}, {ZYDIS_MNEMONIC_FDISI8087_NOP, run_fnop_no_wait},
    {ZYDIS_MNEMONIC_FSETPM287_NOP, run_fnop_no_wait},
    {ZYDIS_MNEMONIC_FXSAVE, run_fxsave}, {ZYDIS_MNEMONIC_FXSAVE64, run_fxsave}, {ZYDIS_MNEMONIC_FXRSTOR, run_fxrstor},
    {ZYDIS_MNEMONIC_FXRSTOR64, run_fxrstor}, {ZYDIS_MNEMONIC_XSAVE, run_xsave}, {ZYDIS_MNEMONIC_XSAVE64, run_xsave},
    {ZYDIS_MNEMONIC_XSAVEOPT, run_xsaveopt}, {ZYDIS_MNEMONIC_XSAVEOPT64, run_xsaveopt}, {ZYDIS_MNEMONIC_XSAVEC, run_xsavec},
    {ZYDIS_MNEMONIC_XSAVEC64, run_xsavec}, {ZYDIS_MNEMONIC_XRSTOR, run_xrstor}, {ZYDIS_MNEMONIC_XRSTOR64, run_xrstor},
};

/// 16-byte operands that legacy SSE instructions take at any address.
constexpr ZydisMnemonic kUnaligned[] = {
    ZYDIS_MNEMONIC_MOVUPS, ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVDQU, ZYDIS_MNEMONIC_LDDQU, ZYDIS_MNEMONIC_PCMPESTRI,
    ZYDIS_MNEMONIC_PCMPESTRM, ZYDIS_MNEMONIC_PCMPISTRI, ZYDIS_MNEMONIC_PCMPISTRM,
};
/// VEX instructions that insist on alignment.
constexpr ZydisMnemonic kAlignedVex[] = {
    ZYDIS_MNEMONIC_VMOVAPS, ZYDIS_MNEMONIC_VMOVAPD, ZYDIS_MNEMONIC_VMOVDQA, ZYDIS_MNEMONIC_VMOVNTPS, ZYDIS_MNEMONIC_VMOVNTPD,
    ZYDIS_MNEMONIC_VMOVNTDQ, ZYDIS_MNEMONIC_VMOVNTDQA,
};

/// Opcodes that round or raise exceptions; some integer instructions of other prefixes are among them, which does no harm.
bool uses_mxcsr(const ZydisDecodedInstruction& in) {
  u8 op = in.opcode;
  switch (in.opcode_map) {
    case ZYDIS_OPCODE_MAP_0F:
      return op == 0x51 || (op >= 0x58 && op <= 0x5f) || (op >= 0x2a && op <= 0x2f && op != 0x2b) || op == 0xc2 || op == 0xe6 ||
             op == 0x7c || op == 0x7d || op == 0xd0;
    case ZYDIS_OPCODE_MAP_0F38: return op == 0x13 || (op >= 0x96 && op <= 0xbf && (op & 15) >= 6);
    case ZYDIS_OPCODE_MAP_0F3A: return (op >= 8 && op <= 0xb) || op == 0x40 || op == 0x41 || op == 0x1d;
    default: return false;
  }
}

bool is_x87(const ZydisDecodedInstruction& in) {
  return in.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && in.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (in.opcode & 0xf8) == 0xd8;
}

bool has_class(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands, ZydisRegisterClass c) {
  return std::any_of(operands, operands + in.operand_count, [c](const ZydisDecodedOperand& o) {
    return o.type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(o.reg.value) == c;
  });
}

const ZydisDecodedOperand* memory_operand(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  auto found = std::find_if(operands, operands + in.operand_count,
                            [](const ZydisDecodedOperand& o) { return o.type == ZYDIS_OPERAND_TYPE_MEMORY; });
  return found == operands + in.operand_count ? nullptr : found;
}

/// AMD's SHA instructions take any address, Intel's do not (as the SDM's exception class 4 says).
bool sha_is_unaligned() {
  static const bool amd = cpu::host_cpuid().query(0, 0).ebx == 0x68747541;
  return amd;
}

u8 needed_alignment(const ZydisDecodedInstruction& in, unsigned bytes) {
  if (in.meta.isa_set == ZYDIS_ISA_SET_SHA && sha_is_unaligned()) return 1;
  bool vex = in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  bool aligned = vex ? std::ranges::find(kAlignedVex, in.mnemonic) != std::end(kAlignedVex)
                     : bytes == 16 && std::ranges::find(kUnaligned, in.mnemonic) == std::end(kUnaligned);
  return aligned ? static_cast<u8>(bytes) : u8{1};
}

u8 vector_number(const ZydisDecodedOperand& o) {
  ZydisRegister reg = o.type == ZYDIS_OPERAND_TYPE_MEMORY ? o.mem.index : o.reg.value;
  return static_cast<u8>(ZydisRegisterGetId(reg) & 15);
}

/// The register operands of masked moves and gathers.
void note_vectors(NativeStub& stub, const ZydisDecodedOperand* o) {
  if (stub.run == run_gather) {
    stub.reg = vector_number(o[0]), stub.index = vector_number(o[1]), stub.mask = vector_number(o[2]);
  } else if (stub.run == run_maskmovdqu || stub.run == run_maskmovq) {
    stub.reg = vector_number(o[0]), stub.mask = vector_number(o[1]);
  } else if (o[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
    stub.run = run_masked_store;
    stub.mask = vector_number(o[1]), stub.reg = vector_number(o[2]);
  } else {
    stub.run = run_masked_load;
    stub.reg = vector_number(o[0]), stub.mask = vector_number(o[1]);
  }
}

bool is_masked(const Special& special) {
  return special.element || special.run == run_maskmovdqu || special.run == run_maskmovq;
}

/// A gather whose registers are not three different ones is #UD.
bool registers_clash(const NativeStub& stub) {
  return stub.run == run_gather && (stub.reg == stub.mask || stub.reg == stub.index || stub.mask == stub.index);
}

Gate gate_of(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  if (is_x87(in)) return Gate::X87;
  if (in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) return Gate::Vex;
  if (!has_class(in, operands, ZYDIS_REGCLASS_MMX)) return Gate::Sse;
  bool sse = has_class(in, operands, ZYDIS_REGCLASS_XMM);
  return sse ? Gate::SseMmx : Gate::Mmx;
}

Run runner(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands, Gate gate) {
  switch (gate) {
    case Gate::X87: return run_x87;
    case Gate::Mmx:
    case Gate::SseMmx: return run_mmx;
    default: break;
  }
  bool vectors = has_class(in, operands, ZYDIS_REGCLASS_XMM) || has_class(in, operands, ZYDIS_REGCLASS_YMM);
  bool scalar_load = in.opcode_map == ZYDIS_OPCODE_MAP_0F && (in.opcode == 0x2c || in.opcode == 0x2d);  // CVTSS2SI r, m32
  return vectors || scalar_load ? run_simd : nullptr;
}

void note_memory(NativeStub& stub, const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  const ZydisDecodedOperand* memory = memory_operand(in, operands);
  if (!memory) return;
  stub.memory_bytes = static_cast<u16>(memory->size / 8);
  stub.reads_memory = memory->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
  stub.writes_memory = memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
  if (stub.gate != Gate::X87) stub.alignment = needed_alignment(in, stub.memory_bytes);
}

/// VPINSRQ and VPEXTRQ do not exist outside 64-bit mode.
bool needs_long_mode(const ZydisDecodedInstruction& in) {
  bool quad = in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && in.opcode_map == ZYDIS_OPCODE_MAP_0F3A &&
              (in.opcode == 0x16 || in.opcode == 0x22) && in.raw.vex.W;
  return quad && in.machine_mode != ZYDIS_MACHINE_MODE_LONG_64;
}

bool rex_w(const ZydisDecodedInstruction& in) { return (in.attributes & ZYDIS_ATTRIB_HAS_REX) && in.raw.rex.W; }

}  // namespace

bool needs_code(const NativeStub& stub) { return stub.run == run_simd || stub.run == run_mmx || stub.run == run_x87; }

std::optional<NativeStub> classify(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  bool plain = in.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY || in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  if (!plain || !host_has(in.meta.isa_set) || needs_long_mode(in)) return std::nullopt;
  NativeStub stub{.gate = gate_of(in, operands), .uses_mxcsr = uses_mxcsr(in)};
  auto special = std::ranges::find(kSpecials, in.mnemonic, &Special::mnemonic);
  if (special == std::end(kSpecials)) {
    stub.run = runner(in, operands, stub.gate);
    if (!stub.run) return std::nullopt;
    note_memory(stub, in, operands);
  } else {
    stub.run = special->run;
    stub.element = special->element;
    stub.index_element = special->index_element;
    stub.length = static_cast<u8>(in.avx.vector_length ? in.avx.vector_length / 8 : 16);
    stub.wide = rex_w(in);
    if (is_masked(*special)) note_vectors(stub, operands);
    else note_memory(stub, in, operands);
    if (special->run == run_fnstsw && !stub.memory_bytes) stub.run = run_fnstsw_ax;
    if (registers_clash(stub)) return std::nullopt;
  }
  if (is_x87(in)) stub.fop = static_cast<u16>((in.opcode & 7) << 8 | in.raw.modrm.mod << 6 | in.raw.modrm.reg << 3 | in.raw.modrm.rm);
  return stub;
}

}  // namespace atl::soft
