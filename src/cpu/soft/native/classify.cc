#include "cpu/soft/native/classify.h"

#include <algorithm>
#include <bitset>

#include "cpu/cpuid.h"
#include "cpu/soft/native/special.h"
#include "cpu/soft/native/supported.h"

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
    {ZYDIS_ISA_SET_XSAVEOPT, "fxsr"}, {ZYDIS_ISA_SET_XSAVEC, "fxsr"}, {ZYDIS_ISA_SET_GFNI, "gfni"}, {ZYDIS_ISA_SET_AVX_GFNI, "gfni"},
    {ZYDIS_ISA_SET_VAES, "vaes"}, {ZYDIS_ISA_SET_VPCLMULQDQ, "vpclmulqdq"},
};

/// The same for what host_has_avx512() says nothing of.
constexpr HostNeed kWideSets[] = {
    {ZYDIS_ISA_SET_AVX512_IFMA_128, "avx512ifma"}, {ZYDIS_ISA_SET_AVX512_IFMA_256, "avx512ifma"}, {ZYDIS_ISA_SET_AVX512_IFMA_512, "avx512ifma"},
    {ZYDIS_ISA_SET_AVX512_VBMI_128, "avx512vbmi"}, {ZYDIS_ISA_SET_AVX512_VBMI_256, "avx512vbmi"}, {ZYDIS_ISA_SET_AVX512_VBMI_512, "avx512vbmi"},
    {ZYDIS_ISA_SET_AVX512_VBMI2_128, "avx512vbmi2"}, {ZYDIS_ISA_SET_AVX512_VBMI2_256, "avx512vbmi2"},
    {ZYDIS_ISA_SET_AVX512_VBMI2_512, "avx512vbmi2"}, {ZYDIS_ISA_SET_AVX512_VNNI_128, "avx512vnni"},
    {ZYDIS_ISA_SET_AVX512_VNNI_256, "avx512vnni"}, {ZYDIS_ISA_SET_AVX512_VNNI_512, "avx512vnni"},
    {ZYDIS_ISA_SET_AVX512_BITALG_128, "avx512bitalg"}, {ZYDIS_ISA_SET_AVX512_BITALG_256, "avx512bitalg"},
    {ZYDIS_ISA_SET_AVX512_BITALG_512, "avx512bitalg"}, {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128, "avx512-vpopcntdq"},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256, "avx512-vpopcntdq"}, {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512, "avx512-vpopcntdq"},
    {ZYDIS_ISA_SET_AVX512_BF16_128, "avx512-bf16"}, {ZYDIS_ISA_SET_AVX512_BF16_256, "avx512-bf16"},
    {ZYDIS_ISA_SET_AVX512_BF16_512, "avx512-bf16"}, {ZYDIS_ISA_SET_AVX512_GFNI_128, "gfni"}, {ZYDIS_ISA_SET_AVX512_GFNI_256, "gfni"},
    {ZYDIS_ISA_SET_AVX512_GFNI_512, "gfni"}, {ZYDIS_ISA_SET_AVX512_VAES_128, "vaes"}, {ZYDIS_ISA_SET_AVX512_VAES_256, "vaes"},
    {ZYDIS_ISA_SET_AVX512_VAES_512, "vaes"}, {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128, "vpclmulqdq"},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256, "vpclmulqdq"}, {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512, "vpclmulqdq"},
};
constexpr ZydisISASet kBasicWideSets[] = {
    ZYDIS_ISA_SET_AVX512F_128, ZYDIS_ISA_SET_AVX512F_128N, ZYDIS_ISA_SET_AVX512F_256, ZYDIS_ISA_SET_AVX512F_512, ZYDIS_ISA_SET_AVX512F_SCALAR,
    ZYDIS_ISA_SET_AVX512F_KOP, ZYDIS_ISA_SET_AVX512BW_128, ZYDIS_ISA_SET_AVX512BW_128N, ZYDIS_ISA_SET_AVX512BW_256, ZYDIS_ISA_SET_AVX512BW_512,
    ZYDIS_ISA_SET_AVX512BW_KOP, ZYDIS_ISA_SET_AVX512DQ_128, ZYDIS_ISA_SET_AVX512DQ_128N, ZYDIS_ISA_SET_AVX512DQ_256, ZYDIS_ISA_SET_AVX512DQ_512,
    ZYDIS_ISA_SET_AVX512DQ_SCALAR, ZYDIS_ISA_SET_AVX512DQ_KOP, ZYDIS_ISA_SET_AVX512CD_128, ZYDIS_ISA_SET_AVX512CD_256, ZYDIS_ISA_SET_AVX512CD_512,
};

/// A bit for each instruction set that the host has.
using IsaSets = std::bitset<ZYDIS_ISA_SET_MAX_VALUE + 1>;

IsaSets host_sets() {
  cpu::CpuidTable host = cpu::host_cpuid();
  IsaSets sets;
  for (const HostNeed& need : kSets) sets[need.set] = host.has(need.feature);
  if (!host_has_avx512()) return sets;
  for (const HostNeed& need : kWideSets) sets[need.set] = host.has(need.feature);
  for (ZydisISASet set : kBasicWideSets) sets.set(set);
  return sets;
}

bool host_has(ZydisISASet set) {
  static const IsaSets sets = host_sets();
  return sets[set];
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
    {ZYDIS_MNEMONIC_VSCATTERDPS, run_opmask_scatter, 4, 4}, {ZYDIS_MNEMONIC_VSCATTERDPD, run_opmask_scatter, 8, 4},
    {ZYDIS_MNEMONIC_VSCATTERQPS, run_opmask_scatter, 4, 8}, {ZYDIS_MNEMONIC_VSCATTERQPD, run_opmask_scatter, 8, 8},
    {ZYDIS_MNEMONIC_VPSCATTERDD, run_opmask_scatter, 4, 4}, {ZYDIS_MNEMONIC_VPSCATTERDQ, run_opmask_scatter, 8, 4},
    {ZYDIS_MNEMONIC_VPSCATTERQD, run_opmask_scatter, 4, 8}, {ZYDIS_MNEMONIC_VPSCATTERQQ, run_opmask_scatter, 8, 8},
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

bool is_evex(const ZydisDecodedInstruction& in) { return in.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX; }

/// The exception classes of floating-point instructions (SDM vol. 2, table 2-48); approximations and classes raise nothing, but
/// take denormals as MXCSR says.
bool wide_uses_mxcsr(const ZydisDecodedInstruction& in) {
  switch (in.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E2: case ZYDIS_EXCEPTION_CLASS_E2NF: case ZYDIS_EXCEPTION_CLASS_E3: case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E11: case ZYDIS_EXCEPTION_CLASS_E11NF: return true;
    default: break;
  }
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_VRCP14PD: case ZYDIS_MNEMONIC_VRCP14PS: case ZYDIS_MNEMONIC_VRCP14SD: case ZYDIS_MNEMONIC_VRCP14SS:
    case ZYDIS_MNEMONIC_VFPCLASSPD: case ZYDIS_MNEMONIC_VFPCLASSPS: case ZYDIS_MNEMONIC_VFPCLASSSD: case ZYDIS_MNEMONIC_VFPCLASSSS:
    case ZYDIS_MNEMONIC_VRSQRT14PD: case ZYDIS_MNEMONIC_VRSQRT14PS: case ZYDIS_MNEMONIC_VRSQRT14SD: case ZYDIS_MNEMONIC_VRSQRT14SS: return true;
    default: return false;
  }
}

/// Instructions whose masked-off elements fault all the same ("NF"). In the first of them, the mask does not count the elements
/// of the memory operand.
bool ignores_mask_for_faults(const ZydisDecodedInstruction& in) {
  switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_VGF2P8AFFINEQB: case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB: case ZYDIS_MNEMONIC_VDBPSADBW:
    case ZYDIS_MNEMONIC_VCVTNE2PS2BF16: return true;
    default: break;
  }
  switch (in.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E1NF: case ZYDIS_EXCEPTION_CLASS_E2NF: case ZYDIS_EXCEPTION_CLASS_E3NF: case ZYDIS_EXCEPTION_CLASS_E4NF:
    case ZYDIS_EXCEPTION_CLASS_E5NF: case ZYDIS_EXCEPTION_CLASS_E6NF: case ZYDIS_EXCEPTION_CLASS_E9NF: case ZYDIS_EXCEPTION_CLASS_E10NF:
    case ZYDIS_EXCEPTION_CLASS_E11NF: return true;
    default: return false;
  }
}

bool packs(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_VCOMPRESSPD: case ZYDIS_MNEMONIC_VCOMPRESSPS: case ZYDIS_MNEMONIC_VPCOMPRESSB: case ZYDIS_MNEMONIC_VPCOMPRESSW:
    case ZYDIS_MNEMONIC_VPCOMPRESSD: case ZYDIS_MNEMONIC_VPCOMPRESSQ: case ZYDIS_MNEMONIC_VEXPANDPD: case ZYDIS_MNEMONIC_VEXPANDPS:
    case ZYDIS_MNEMONIC_VPEXPANDB: case ZYDIS_MNEMONIC_VPEXPANDW: case ZYDIS_MNEMONIC_VPEXPANDD: case ZYDIS_MNEMONIC_VPEXPANDQ: return true;
    default: return false;
  }
}

/// How many elements a broadcast makes of the operand's, by ZydisBroadcastMode.
constexpr u8 kBroadcastTo[] = {0, 2, 4, 8, 16, 32, 64, 4, 8, 16, 8, 16, 16};
static_assert(std::size(kBroadcastTo) == ZYDIS_BROADCAST_MODE_MAX_VALUE + 1);

void note_opmask(NativeStub& stub, const ZydisDecodedInstruction& in, const ZydisDecodedOperand& memory) {
  if (!is_evex(in) || in.raw.evex.aaa == 0 || (!stub.writes_memory && ignores_mask_for_faults(in))) return;
  stub.run = run_opmasked;
  stub.faults_whole = ignores_mask_for_faults(in);
  stub.masking = packs(in.mnemonic) ? Masking::Packed : Masking::Elements;
  stub.mask = in.raw.evex.aaa;
  stub.element = static_cast<u8>(memory.element_size / 8);
  u8 repeated = kBroadcastTo[in.avx.broadcast.mode];
  stub.mask_bits = repeated ? repeated : static_cast<u8>(memory.element_count);
}

/// Opcodes that round or raise exceptions; some integer instructions of other prefixes are among them, which does no harm.
bool uses_mxcsr(const ZydisDecodedInstruction& in) {
  if (is_evex(in)) return wide_uses_mxcsr(in);
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
  if (is_evex(in)) {
    bool wants = in.meta.exception_class == ZYDIS_EXCEPTION_CLASS_E1 || in.meta.exception_class == ZYDIS_EXCEPTION_CLASS_E1NF;
    return wants ? static_cast<u8>(bytes) : u8{1};
  }
  bool aligned = vex ? std::ranges::find(kAlignedVex, in.mnemonic) != std::end(kAlignedVex)
                     : bytes == 16 && std::ranges::find(kUnaligned, in.mnemonic) == std::end(kUnaligned);
  return aligned ? static_cast<u8>(bytes) : u8{1};
}

u8 vector_number(const ZydisDecodedOperand& o) {
  ZydisRegister reg = o.type == ZYDIS_OPERAND_TYPE_MEMORY ? o.mem.index : o.reg.value;
  return static_cast<u8>(ZydisRegisterGetId(reg) & 31);
}

/// Of EVEX gathers and scatters: the operands are register, opmask, memory, or memory, opmask, register.
void note_wide_vectors(NativeStub& stub, const ZydisDecodedInstruction& in, const ZydisDecodedOperand* o) {
  bool scatters = stub.run == run_opmask_scatter;
  stub.reg = vector_number(o[scatters ? 2 : 0]);
  stub.index = vector_number(o[scatters ? 0 : 2]);
  stub.mask = in.raw.evex.aaa;
  if (!scatters) stub.run = run_opmask_gather;
}

/// The register operands of masked moves and gathers.
void note_vectors(NativeStub& stub, const ZydisDecodedInstruction& in, const ZydisDecodedOperand* o) {
  if (is_evex(in)) {
    note_wide_vectors(stub, in, o);
  } else if (stub.run == run_gather) {
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
  if (stub.run == run_opmask_gather) return stub.reg == stub.index;
  return stub.run == run_gather && (stub.reg == stub.mask || stub.reg == stub.index || stub.mask == stub.index);
}

Gate gate_of(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  if (is_x87(in)) return Gate::X87;
  if (is_evex(in) || has_class(in, operands, ZYDIS_REGCLASS_MASK)) return Gate::Wide;
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
    case Gate::Wide: return run_simd;
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
  note_opmask(stub, in, *memory);
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

bool needs_code(const NativeStub& stub) {
  return stub.run == run_simd || stub.run == run_opmasked || stub.run == run_mmx || stub.run == run_x87;
}

std::optional<NativeStub> classify(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  bool plain = in.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY || in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX || is_evex(in);
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
    if (is_masked(*special)) note_vectors(stub, in, operands);
    else note_memory(stub, in, operands);
    if (special->run == run_fnstsw && !stub.memory_bytes) stub.run = run_fnstsw_ax;
    if (registers_clash(stub)) return std::nullopt;
  }
  if (is_x87(in)) stub.fop = static_cast<u16>((in.opcode & 7) << 8 | in.raw.modrm.mod << 6 | in.raw.modrm.reg << 3 | in.raw.modrm.rm);
  return stub;
}

}  // namespace atl::soft
