// Which handler runs which instruction: one row a mnemonic, in the manual's order of chapters.
//
// Instructions whose opcode holds a condition or a size (Jcc, SETcc, CMOVcc, the strings, the flag instructions) go by opcode
// instead, see apply_by_opcode().
#include <array>

#include "cpu/soft/decode/build.h"
#include "cpu/soft/exec/misc.h"
#include "cpu/soft/native/stub.h"
#include "cpu/soft/system/instructions.h"

namespace atl::soft {

namespace {

using enum Form;

/// A rule either names a family of handlers, a function, or builds the op itself.
struct Rule {
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  Handler (*pick)(const Pick&) = nullptr;
  SystemFunction system = nullptr;
  bool (*build)(Build&) = nullptr;
  Form form = None;
  bool form_by_opcode = false;
  Decoded outcome = Decoded::Continues;
  Feature feature = Feature::None;
  bool memory_only = false;
  bool register_only = false;
};

constexpr Rule family(ZydisMnemonic mnemonic, Handler (*pick)(const Pick&), Feature feature = Feature::None) {
  return {.mnemonic = mnemonic, .pick = pick, .form_by_opcode = true, .feature = feature};
}
/// A function that goes on to the next instruction.
constexpr Rule calls(ZydisMnemonic mnemonic, SystemFunction system, Form form = None, Feature feature = Feature::None) {
  return {.mnemonic = mnemonic, .system = system, .form = form, .feature = feature};
}
/// A function after which the block ends, since mode, mapping, flags or RIP may differ.
constexpr Rule leaves(ZydisMnemonic mnemonic, SystemFunction system, Form form = None, Feature feature = Feature::None) {
  return {.mnemonic = mnemonic, .system = system, .form = form, .outcome = Decoded::Ends, .feature = feature};
}
/// A function after which attention may be due, in an unchanged mode.
constexpr Rule attends(ZydisMnemonic mnemonic, SystemFunction system, Form form = None, Feature feature = Feature::None) {
  return {.mnemonic = mnemonic, .system = system, .form = form, .outcome = Decoded::EndsOpen, .feature = feature};
}
constexpr Rule special(ZydisMnemonic mnemonic, bool (*build)(Build&), Decoded outcome = Decoded::Continues,
                       Feature feature = Feature::None) {
  return {.mnemonic = mnemonic, .build = build, .outcome = outcome, .feature = feature};
}
constexpr Rule memory(Rule rule) {
  rule.memory_only = true;
  return rule;
}
constexpr Rule registers(Rule rule) {
  rule.register_only = true;
  return rule;
}

void run_function(Build& build, SystemFunction function, bool ends = false) {
  build.op.system = function;
  build.op.run = ends ? run_system_and_leave : run_system;
}

/// Attention may be due after it, but it goes on to the next instruction in the same mode.
void run_function_open(Build& build, SystemFunction function) {
  build.op.system = function;
  build.op.run = run_system_then_end;
}

bool by_opcode(Build& build) {
  set_operands(build, form_of(build.in));
  return true;
}

// -- LOCK ----------------------------------------------------------------------------------------------------------------

/// The operation's number in the opcode of ADD to XOR.
u8 alu_number(const Build& build) {
  return build.in.opcode < 0x40 ? build.in.opcode >> 3 : build.in.raw.modrm.reg;
}

template <Alu K>
bool build_alu(Build& build) {
  by_opcode(build);
  if (build.op.lock) {
    run_function(build, locked_alu(alu_number(build), build.pick.size, build.pick.shape == Shape::MemImm));
  } else {
    build.op.run = pick_alu<K>(build.pick);
  }
  return true;
}

template <Unary K>
bool build_unary(Build& build) {
  by_opcode(build);
  if (build.op.lock) {
    run_function(build, locked_unary(static_cast<u8>(K), build.pick.size));
  } else {
    build.op.run = pick_unary<K>(build.pick);
  }
  return true;
}

template <BitTest K>
bool build_bit_test(Build& build) {
  by_opcode(build);
  if (build.op.lock) {
    run_function(build, locked_bit(static_cast<u8>(K), build.pick.size, build.pick.shape == Shape::MemImm));
  } else {
    build.op.run = pick_bit_test<K>(build.pick);
  }
  return true;
}

bool build_xchg(Build& build) {
  by_opcode(build);
  if (build.pick.shape == Shape::RegReg) {
    build.op.run = pick_xchg(build.pick);
  } else {
    run_function(build, run_xchg_mem);
  }
  return true;
}

/// XADD and CMPXCHG: `extra` tells the register form, as a byte register's place may equal kNoReg.
template <SystemFunction F>
bool build_exchange(Build& build) {
  by_opcode(build);
  build.op.extra = build.register_form();
  run_function(build, F);
  return true;
}

// -- moves ---------------------------------------------------------------------------------------------------------------

bool build_mov(Build& build) {
  const ZydisDecodedInstruction& in = build.in;
  u8 reg = build.in.raw.modrm.reg;
  if (in.opcode_map == ZYDIS_OPCODE_MAP_0F) {
    bool debug = in.opcode & 1, to = in.opcode & 2;
    build.op.opsize = build.long_code() ? 8 : 4;
    build.op.extra = modrm_reg(build);
    (to ? build.op.src : build.op.dst) = modrm_rm(build);
    SystemFunction functions[2][2] = {{sys_mov_from_cr, sys_mov_to_cr}, {sys_mov_from_dr, sys_mov_to_dr}};
    run_function(build, functions[debug][to], to);
    return true;
  }
  if (in.opcode == 0x8c || in.opcode == 0x8e) {
    if (reg >= kSegCount) return false;
    build.op.extra = reg;
    u8& field = in.opcode == 0x8c ? build.op.dst : build.op.src;
    if (build.register_form()) field = modrm_rm(build);
    run_function(build, in.opcode == 0x8c ? sys_mov_from_sreg : sys_mov_to_sreg, in.opcode == 0x8e);
    return true;
  }
  by_opcode(build);
  build.op.run = pick_mov(build.pick);
  return true;
}

bool mov_ends(const ZydisDecodedInstruction& in) {
  if (in.opcode_map == ZYDIS_OPCODE_MAP_0F) return in.opcode & 2;
  return in.opcode == 0x8e;
}

/// MOVZX, MOVSX: opcode bit 0 tells a word source; MOVSXD: a doubleword.
bool build_extend(Build& build) {
  bool dword = build.in.opcode == 0x63;
  u8 source = dword ? (build.op.opsize == 2 ? 2 : 4) : (build.in.opcode & 1) + 1;
  set_operands(build, GE);
  if (source == 1 && build.pick.shape == Shape::RegReg) build.op.src = byte_place(build, build.op.src);
  if (source >= build.pick.size) {
    build.op.run = pick_mov(build.pick);  // MOVSXD or MOVZX of the operand's own size
  } else {
    build.op.run = pick_extend(build.pick, source, dword || build.in.opcode >= 0xbe);
  }
  return true;
}

bool build_imul(Build& build) {
  by_opcode(build);
  Form form = form_of(build.in);
  if (form == E) build.op.run = pick_multiply<true>(build.pick);
  if (form == GE) build.op.run = pick_imul_two(build.pick);
  if (form == GEI) build.op.run = pick_imul_three(build.pick);
  return true;
}

bool build_widen(Build& build) {
  build.op.run = build.in.opcode == 0x98 ? pick_widen(build.pick) : pick_sign_fill(build.pick);
  return true;
}

/// CRC32's destination has 4 or 8 bytes, its source the operand size.
bool build_crc32(Build& build) {
  bool byte = build.in.opcode == 0xf0;
  bool wide = build.in.raw.rex.W && build.long_code();
  build.op.dst = modrm_reg(build);
  build.op.opsize = byte ? 1 : wide ? 8 : has_prefix(build.in, 0x66) != (build.mode.code == CodeSize::k16) ? 2 : 4;
  build.op.extra = build.register_form();
  if (build.register_form()) {
    u8 rm = modrm_rm(build);
    build.op.src = byte ? byte_place(build, rm) : rm;
  }
  run_function(build, run_crc32);
  return true;
}

// -- stack -----------------------------------------------------------------------------------------------------------------

/// Segment pushed or popped by this opcode, or kSegCount.
u8 stacked_segment(const Build& build) {
  u8 opcode = build.in.opcode;
  if (build.in.opcode_map == ZYDIS_OPCODE_MAP_0F) return (opcode & 8) ? kGs : kFs;
  return opcode < 0x20 ? opcode >> 3 : kSegCount;
}

bool build_push(Build& build) {
  u8 segment = stacked_segment(build);
  if (segment != kSegCount) {
    build.op.extra = segment;
    run_function(build, sys_push_sreg);
    return true;
  }
  set_operands(build, build.in.opcode == 0xff ? E : form_of(build.in));
  build.op.run = pick_push(build.pick);
  return true;
}

bool build_pop(Build& build) {
  u8 segment = stacked_segment(build);
  if (segment != kSegCount) {
    build.op.extra = segment;
    run_function(build, sys_pop_sreg, true);
    return true;
  }
  by_opcode(build);
  if (build.pick.shape == Shape::Reg) {
    build.op.run = pick_pop(build.pick);
  } else {
    run_function(build, run_pop_mem);
  }
  return true;
}

bool build_enter(Build& build) {
  build.op.imm = build.in.raw.imm[0].value.u & 0xffff;
  build.op.extra = static_cast<u8>(build.in.raw.imm[1].value.u);
  run_function(build, run_enter);
  return true;
}

// -- branches --------------------------------------------------------------------------------------------------------------

/// Whether what lies `distance` bytes from the block's start is in the same page.
bool same_page(const Build& build, u64 distance) {
  return ((build.place.block_gpa + distance) ^ build.place.block_gpa) < kPageSize;
}

bool stays_in_page(const Build& build) { return build.op.opsize != 2 && same_page(build, build.op.imm); }

/// CALL and JMP, near direct, near indirect and far.
template <bool kCall>
bool build_transfer(Build& build) {
  u8 opcode = build.in.opcode;
  if (opcode == 0x9a || opcode == 0xea) {
    u64 offset = build.in.raw.imm[0].value.u & (build.op.opsize == 2 ? 0xffff : 0xffffffff);
    build.op.imm = (build.in.raw.imm[1].value.u & 0xffff) << 32 | offset;
    run_function(build, kCall ? sys_call_far_ptr : sys_jmp_far_ptr, true);
    return true;
  }
  if (opcode != 0xff) {
    set_operands(build, J);
    build.op.run = kCall ? pick_call(build.pick, stays_in_page(build)) : pick_jmp(build.pick, stays_in_page(build));
    return true;
  }
  if (build.in.raw.modrm.reg & 1) {
    if (build.register_form()) return false;
    run_function(build, kCall ? sys_call_far_mem : sys_jmp_far_mem, true);
    return true;
  }
  set_operands(build, E);
  build.op.run = kCall ? pick_call_indirect(build.pick) : pick_jmp_indirect(build.pick);
  return true;
}

/// Near and far; Zydis has one name for both.
bool build_ret(Build& build) {
  build.op.imm = build.in.raw.imm[0].value.u & 0xffff;
  if (build.in.opcode & 8) {
    run_function(build, sys_ret_far, true);
  } else {
    build.op.run = pick_ret(build.pick);
  }
  return true;
}

bool build_loop(Build& build) {
  set_operands(build, J);
  build.op.cond = build.in.opcode & 3;
  run_function(build, run_loop, true);
  return true;
}

bool build_int(Build& build) {
  build.op.imm = build.in.raw.imm[0].value.u & 0xff;
  run_function(build, sys_int, true);
  return true;
}

bool build_port(Build& build) {
  bool immediate = build.in.opcode < 0xe8;
  build.op.imm = build.in.raw.imm[0].value.u & 0xff;
  build.op.extra = immediate;
  build.op.opsize = build.in.opcode & 1 ? (build.in.operand_width == 16 ? 2 : 4) : 1;
  run_function(build, build.in.opcode & 2 ? run_out : run_in);
  return true;
}

bool build_far_pointer(Build& build) {
  if (build.register_form()) return false;
  u8 opcode = build.in.opcode;
  build.op.dst = modrm_reg(build);
  switch (opcode) {
    case 0xc4: build.op.extra = kEs; break;
    case 0xc5: build.op.extra = kDs; break;
    case 0xb2: build.op.extra = kSs; break;
    case 0xb4: build.op.extra = kFs; break;
    default: build.op.extra = kGs;
  }
  run_function(build, sys_load_far_pointer, true);
  return true;
}

bool build_aam(Build& build) {
  build.op.imm = build.in.raw.imm[0].value.u & 0xff;
  run_function(build, build.in.opcode == 0xd4 ? run_aam : run_aad);
  return true;
}

bool build_movnti(Build& build) {
  if (build.register_form()) return false;
  build.op.src = modrm_reg(build);
  build.pick.shape = Shape::MemReg;
  build.op.run = pick_mov(build.pick);
  return true;
}

// -- VEX-coded integer instructions ------------------------------------------------------------------------------------------

u8 vex_vvvv(const Build& build) {
  u8 number = static_cast<u8>(~build.in.raw.vex.vvvv & 15);
  return build.long_code() ? number : number & 7;
}

void set_vex_common(Build& build) {
  build.op.opsize = build.in.raw.vex.W && build.long_code() ? 8 : 4;
  build.op.imm = build.in.raw.imm[0].value.u & 0xff;
}

/// dst = G, src = V, src2 = E (ANDN, PDEP, PEXT, MULX).
template <SystemFunction F>
bool build_gve(Build& build) {
  if (build.in.raw.vex.L) return false;
  set_vex_common(build);
  build.op.dst = modrm_reg(build);
  build.op.src = vex_vvvv(build);
  if (build.register_form()) build.op.src2 = modrm_rm(build);
  run_function(build, F);
  return true;
}

/// dst = G, src = E, src2 = V (BEXTR, BZHI, SHLX ...; RORX, which has no V).
template <SystemFunction F>
bool build_gev(Build& build) {
  if (build.in.raw.vex.L) return false;
  set_vex_common(build);
  build.op.dst = modrm_reg(build);
  build.op.src2 = vex_vvvv(build);
  if (build.register_form()) build.op.src = modrm_rm(build);
  run_function(build, F);
  return true;
}

/// dst = V, src = E (BLSI, BLSR, BLSMSK).
template <SystemFunction F>
bool build_ve(Build& build) {
  if (build.in.raw.vex.L) return false;
  set_vex_common(build);
  build.op.dst = vex_vvvv(build);
  if (build.register_form()) build.op.src = modrm_rm(build);
  run_function(build, F);
  return true;
}

/// On processors without BMI1 or ABM the prefix means nothing: BSF and BSR.
template <BitScan K, BitScan kWithout, Feature kFeature>
bool build_count(Build& build) {
  by_opcode(build);
  build.op.run = build.features.has(kFeature) ? pick_bit_scan<K>(build.pick) : pick_bit_scan<kWithout>(build.pick);
  return true;
}

bool build_nop(Build& build) {
  build.op.run = pick_nop(build.pick);
  return true;
}

/// With REX.B the opcode is XCHG of R8 and rAX, whatever the prefix.
bool build_pause(Build& build) {
  if (build.long_code() && build.in.raw.rex.B) return build_xchg(build);
  run_function(build, sys_pause);
  return true;
}

bool build_smsw(Build& build) {
  set_operands(build, E);
  run_function(build, sys_smsw);
  return true;
}

constexpr Rule kRules[] = {
    // SDM vol. 1, 5.1: general-purpose instructions
    special(ZYDIS_MNEMONIC_MOV, build_mov),
    family(ZYDIS_MNEMONIC_LEA, pick_lea),
    special(ZYDIS_MNEMONIC_XCHG, build_xchg),
    family(ZYDIS_MNEMONIC_BSWAP, pick_bswap),
    memory(family(ZYDIS_MNEMONIC_MOVBE, pick_movbe, Feature::Movbe)),
    special(ZYDIS_MNEMONIC_MOVZX, build_extend),
    special(ZYDIS_MNEMONIC_MOVSX, build_extend),
    special(ZYDIS_MNEMONIC_MOVSXD, build_extend),
    special(ZYDIS_MNEMONIC_CBW, build_widen),
    special(ZYDIS_MNEMONIC_CWDE, build_widen),
    special(ZYDIS_MNEMONIC_CDQE, build_widen),
    special(ZYDIS_MNEMONIC_CWD, build_widen),
    special(ZYDIS_MNEMONIC_CDQ, build_widen),
    special(ZYDIS_MNEMONIC_CQO, build_widen),
    special(ZYDIS_MNEMONIC_PUSH, build_push),
    {.mnemonic = ZYDIS_MNEMONIC_POP, .build = build_pop},
    calls(ZYDIS_MNEMONIC_PUSHA, run_pusha),
    calls(ZYDIS_MNEMONIC_PUSHAD, run_pusha),
    calls(ZYDIS_MNEMONIC_POPA, run_popa),
    calls(ZYDIS_MNEMONIC_POPAD, run_popa),
    special(ZYDIS_MNEMONIC_ENTER, build_enter),
    family(ZYDIS_MNEMONIC_LEAVE, pick_leave),
    calls(ZYDIS_MNEMONIC_XLAT, run_xlat),
    memory(calls(ZYDIS_MNEMONIC_BOUND, run_bound, GE)),
    special(ZYDIS_MNEMONIC_ADD, build_alu<Alu::Add>),
    special(ZYDIS_MNEMONIC_OR, build_alu<Alu::Or>),
    special(ZYDIS_MNEMONIC_ADC, build_alu<Alu::Adc>),
    special(ZYDIS_MNEMONIC_SBB, build_alu<Alu::Sbb>),
    special(ZYDIS_MNEMONIC_AND, build_alu<Alu::And>),
    special(ZYDIS_MNEMONIC_SUB, build_alu<Alu::Sub>),
    special(ZYDIS_MNEMONIC_XOR, build_alu<Alu::Xor>),
    special(ZYDIS_MNEMONIC_CMP, build_alu<Alu::Cmp>),
    family(ZYDIS_MNEMONIC_TEST, pick_alu<Alu::Test>),
    special(ZYDIS_MNEMONIC_INC, build_unary<Unary::Inc>),
    special(ZYDIS_MNEMONIC_DEC, build_unary<Unary::Dec>),
    special(ZYDIS_MNEMONIC_NEG, build_unary<Unary::Neg>),
    special(ZYDIS_MNEMONIC_NOT, build_unary<Unary::Not>),
    family(ZYDIS_MNEMONIC_MUL, pick_multiply<false>),
    special(ZYDIS_MNEMONIC_IMUL, build_imul),
    family(ZYDIS_MNEMONIC_DIV, pick_divide<false>),
    family(ZYDIS_MNEMONIC_IDIV, pick_divide<true>),
    family(ZYDIS_MNEMONIC_ROL, pick_shift<Shift::Rol>),
    family(ZYDIS_MNEMONIC_ROR, pick_shift<Shift::Ror>),
    family(ZYDIS_MNEMONIC_RCL, pick_shift<Shift::Rcl>),
    family(ZYDIS_MNEMONIC_RCR, pick_shift<Shift::Rcr>),
    family(ZYDIS_MNEMONIC_SHL, pick_shift<Shift::Shl>),
    family(ZYDIS_MNEMONIC_SHR, pick_shift<Shift::Shr>),
    family(ZYDIS_MNEMONIC_SAR, pick_shift<Shift::Sar>),
    family(ZYDIS_MNEMONIC_SHLD, pick_double_shift<true>),
    family(ZYDIS_MNEMONIC_SHRD, pick_double_shift<false>),
    special(ZYDIS_MNEMONIC_BT, build_bit_test<BitTest::Test>),
    special(ZYDIS_MNEMONIC_BTS, build_bit_test<BitTest::Set>),
    special(ZYDIS_MNEMONIC_BTR, build_bit_test<BitTest::Reset>),
    special(ZYDIS_MNEMONIC_BTC, build_bit_test<BitTest::Complement>),
    family(ZYDIS_MNEMONIC_BSF, pick_bit_scan<BitScan::Bsf>),
    family(ZYDIS_MNEMONIC_BSR, pick_bit_scan<BitScan::Bsr>),
    special(ZYDIS_MNEMONIC_TZCNT, build_count<BitScan::Tzcnt, BitScan::Bsf, Feature::Bmi1>),
    special(ZYDIS_MNEMONIC_LZCNT, build_count<BitScan::Lzcnt, BitScan::Bsr, Feature::Abm>),
    family(ZYDIS_MNEMONIC_POPCNT, pick_bit_scan<BitScan::Popcnt>, Feature::Popcnt),
    special(ZYDIS_MNEMONIC_CRC32, build_crc32, Decoded::Continues, Feature::Sse42),
    special(ZYDIS_MNEMONIC_XADD, build_exchange<run_xadd>),
    special(ZYDIS_MNEMONIC_CMPXCHG, build_exchange<run_cmpxchg>),
    memory(calls(ZYDIS_MNEMONIC_CMPXCHG8B, run_cmpxchg8b, E, Feature::Cx8)),
    memory(calls(ZYDIS_MNEMONIC_CMPXCHG16B, run_cmpxchg16b, E, Feature::Cx16)),
    calls(ZYDIS_MNEMONIC_DAA, run_daa),
    calls(ZYDIS_MNEMONIC_DAS, run_das),
    calls(ZYDIS_MNEMONIC_AAA, run_aaa),
    calls(ZYDIS_MNEMONIC_AAS, run_aas),
    special(ZYDIS_MNEMONIC_AAM, build_aam),
    special(ZYDIS_MNEMONIC_AAD, build_aam),
    calls(ZYDIS_MNEMONIC_SALC, run_salc),
    special(ZYDIS_MNEMONIC_NOP, build_nop),
    special(ZYDIS_MNEMONIC_PAUSE, build_pause),
    special(ZYDIS_MNEMONIC_JMP, build_transfer<false>, Decoded::Ends),
    special(ZYDIS_MNEMONIC_CALL, build_transfer<true>, Decoded::Ends),
    special(ZYDIS_MNEMONIC_RET, build_ret, Decoded::Ends),
    special(ZYDIS_MNEMONIC_LOOP, build_loop, Decoded::Ends),
    special(ZYDIS_MNEMONIC_LOOPE, build_loop, Decoded::Ends),
    special(ZYDIS_MNEMONIC_LOOPNE, build_loop, Decoded::Ends),
    special(ZYDIS_MNEMONIC_JCXZ, build_loop, Decoded::Ends),
    special(ZYDIS_MNEMONIC_JECXZ, build_loop, Decoded::Ends),
    special(ZYDIS_MNEMONIC_JRCXZ, build_loop, Decoded::Ends),
    special(ZYDIS_MNEMONIC_INT, build_int, Decoded::Ends),
    leaves(ZYDIS_MNEMONIC_INT3, sys_int3),
    leaves(ZYDIS_MNEMONIC_INT1, sys_int1),
    leaves(ZYDIS_MNEMONIC_INTO, sys_into),
    special(ZYDIS_MNEMONIC_IN, build_port),
    special(ZYDIS_MNEMONIC_OUT, build_port),
    special(ZYDIS_MNEMONIC_LDS, build_far_pointer, Decoded::Ends),
    special(ZYDIS_MNEMONIC_LES, build_far_pointer, Decoded::Ends),
    special(ZYDIS_MNEMONIC_LSS, build_far_pointer, Decoded::Ends),
    special(ZYDIS_MNEMONIC_LFS, build_far_pointer, Decoded::Ends),
    special(ZYDIS_MNEMONIC_LGS, build_far_pointer, Decoded::Ends),
    calls(ZYDIS_MNEMONIC_RDRAND, run_rdrand, E, Feature::Rdrand),
    calls(ZYDIS_MNEMONIC_RDSEED, run_rdseed, E, Feature::Rdseed),
    special(ZYDIS_MNEMONIC_MOVNTI, build_movnti, Decoded::Continues, Feature::Sse2),
    memory(calls(ZYDIS_MNEMONIC_CLFLUSH, run_clflush, None, Feature::Clflush)),
    memory(calls(ZYDIS_MNEMONIC_CLFLUSHOPT, run_clflush, None, Feature::Clflushopt)),
    memory(calls(ZYDIS_MNEMONIC_CLWB, run_clflush, None, Feature::Clwb)),
    calls(ZYDIS_MNEMONIC_LFENCE, run_fence, None, Feature::Sse2),
    calls(ZYDIS_MNEMONIC_MFENCE, run_fence, None, Feature::Sse2),
    calls(ZYDIS_MNEMONIC_SFENCE, run_fence, None, Feature::Sse),

    // BMI1, BMI2, ADX
    special(ZYDIS_MNEMONIC_ANDN, build_gve<run_andn>, Decoded::Continues, Feature::Bmi1),
    special(ZYDIS_MNEMONIC_BEXTR, build_gev<run_bextr>, Decoded::Continues, Feature::Bmi1),
    special(ZYDIS_MNEMONIC_BLSI, build_ve<run_blsi>, Decoded::Continues, Feature::Bmi1),
    special(ZYDIS_MNEMONIC_BLSR, build_ve<run_blsr>, Decoded::Continues, Feature::Bmi1),
    special(ZYDIS_MNEMONIC_BLSMSK, build_ve<run_blsmsk>, Decoded::Continues, Feature::Bmi1),
    special(ZYDIS_MNEMONIC_BZHI, build_gev<run_bzhi>, Decoded::Continues, Feature::Bmi2),
    special(ZYDIS_MNEMONIC_PDEP, build_gve<run_pdep>, Decoded::Continues, Feature::Bmi2),
    special(ZYDIS_MNEMONIC_PEXT, build_gve<run_pext>, Decoded::Continues, Feature::Bmi2),
    special(ZYDIS_MNEMONIC_MULX, build_gve<run_mulx>, Decoded::Continues, Feature::Bmi2),
    special(ZYDIS_MNEMONIC_SARX, build_gev<run_sarx>, Decoded::Continues, Feature::Bmi2),
    special(ZYDIS_MNEMONIC_SHLX, build_gev<run_shlx>, Decoded::Continues, Feature::Bmi2),
    special(ZYDIS_MNEMONIC_SHRX, build_gev<run_shrx>, Decoded::Continues, Feature::Bmi2),
    special(ZYDIS_MNEMONIC_RORX, build_gev<run_rorx>, Decoded::Continues, Feature::Bmi2),
    calls(ZYDIS_MNEMONIC_ADCX, run_adcx, GE, Feature::Adx),
    calls(ZYDIS_MNEMONIC_ADOX, run_adox, GE, Feature::Adx),

    // SDM vol. 1, 5.20: system instructions
    memory(leaves(ZYDIS_MNEMONIC_LGDT, sys_lgdt)),
    memory(leaves(ZYDIS_MNEMONIC_LIDT, sys_lidt)),
    memory(calls(ZYDIS_MNEMONIC_SGDT, sys_sgdt)),
    memory(calls(ZYDIS_MNEMONIC_SIDT, sys_sidt)),
    leaves(ZYDIS_MNEMONIC_LLDT, sys_lldt, E),
    leaves(ZYDIS_MNEMONIC_LTR, sys_ltr, E),
    calls(ZYDIS_MNEMONIC_SLDT, sys_sldt, E),
    calls(ZYDIS_MNEMONIC_STR, sys_str, E),
    calls(ZYDIS_MNEMONIC_LAR, sys_lar, GE),
    calls(ZYDIS_MNEMONIC_LSL, sys_lsl, GE),
    calls(ZYDIS_MNEMONIC_VERR, sys_verr, E),
    calls(ZYDIS_MNEMONIC_VERW, sys_verw, E),
    calls(ZYDIS_MNEMONIC_ARPL, sys_arpl, EG),
    registers(calls(ZYDIS_MNEMONIC_RDFSBASE, sys_rdfsbase, E, Feature::Fsgsbase)),
    registers(calls(ZYDIS_MNEMONIC_RDGSBASE, sys_rdgsbase, E, Feature::Fsgsbase)),
    {.mnemonic = ZYDIS_MNEMONIC_WRFSBASE, .system = sys_wrfsbase, .form = GE, .feature = Feature::Fsgsbase},
    {.mnemonic = ZYDIS_MNEMONIC_WRGSBASE, .system = sys_wrgsbase, .form = GE, .feature = Feature::Fsgsbase},
    calls(ZYDIS_MNEMONIC_SWAPGS, sys_swapgs),
    leaves(ZYDIS_MNEMONIC_LMSW, sys_lmsw, E),
    special(ZYDIS_MNEMONIC_SMSW, build_smsw),
    leaves(ZYDIS_MNEMONIC_CLTS, sys_clts),
    calls(ZYDIS_MNEMONIC_XGETBV, sys_xgetbv, None, Feature::Xsave),
    leaves(ZYDIS_MNEMONIC_XSETBV, sys_xsetbv, None, Feature::Xsave),
    calls(ZYDIS_MNEMONIC_PUSHF, sys_pushf),
    calls(ZYDIS_MNEMONIC_PUSHFD, sys_pushf),
    calls(ZYDIS_MNEMONIC_PUSHFQ, sys_pushf),
    attends(ZYDIS_MNEMONIC_POPF, sys_popf),
    attends(ZYDIS_MNEMONIC_POPFD, sys_popf),
    attends(ZYDIS_MNEMONIC_POPFQ, sys_popf),
    calls(ZYDIS_MNEMONIC_CLI, sys_cli),
    attends(ZYDIS_MNEMONIC_STI, sys_sti),
    attends(ZYDIS_MNEMONIC_CLAC, sys_clac, None, Feature::Smap),
    attends(ZYDIS_MNEMONIC_STAC, sys_stac, None, Feature::Smap),
    calls(ZYDIS_MNEMONIC_CPUID, sys_cpuid),
    calls(ZYDIS_MNEMONIC_RDTSC, sys_rdtsc, None, Feature::Tsc),
    calls(ZYDIS_MNEMONIC_RDTSCP, sys_rdtscp, None, Feature::Rdtscp),
    calls(ZYDIS_MNEMONIC_RDPMC, sys_rdpmc),
    registers(calls(ZYDIS_MNEMONIC_RDPID, sys_rdpid, E, Feature::Rdpid)),
    calls(ZYDIS_MNEMONIC_RDMSR, sys_rdmsr, None, Feature::Msr),
    leaves(ZYDIS_MNEMONIC_WRMSR, sys_wrmsr, None, Feature::Msr),
    leaves(ZYDIS_MNEMONIC_INVD, sys_invd),
    leaves(ZYDIS_MNEMONIC_WBINVD, sys_wbinvd),
    memory(leaves(ZYDIS_MNEMONIC_INVLPG, sys_invlpg)),
    memory(leaves(ZYDIS_MNEMONIC_INVPCID, sys_invpcid, GE, Feature::Invpcid)),
    leaves(ZYDIS_MNEMONIC_HLT, sys_hlt),
    leaves(ZYDIS_MNEMONIC_MONITOR, sys_monitor, None, Feature::Monitor),
    leaves(ZYDIS_MNEMONIC_MWAIT, sys_mwait, None, Feature::Monitor),
    leaves(ZYDIS_MNEMONIC_IRET, sys_iret),
    leaves(ZYDIS_MNEMONIC_IRETD, sys_iret),
    leaves(ZYDIS_MNEMONIC_IRETQ, sys_iret),
    leaves(ZYDIS_MNEMONIC_RSM, sys_rsm),
    leaves(ZYDIS_MNEMONIC_SYSCALL, sys_syscall, None, Feature::Syscall),
    leaves(ZYDIS_MNEMONIC_SYSRET, sys_sysret, None, Feature::Syscall),
    leaves(ZYDIS_MNEMONIC_SYSENTER, sys_sysenter, None, Feature::Sep),
    leaves(ZYDIS_MNEMONIC_SYSEXIT, sys_sysexit, None, Feature::Sep),
};

/// Row of a mnemonic, plus one; 0 if there is none.
constexpr auto kRowOf = [] {
  std::array<u8, ZYDIS_MNEMONIC_MAX_VALUE + 1> rows{};
  for (size_t i = 0; i < std::size(kRules); ++i) rows[kRules[i].mnemonic] = static_cast<u8>(i + 1);
  return rows;
}();
static_assert(std::size(kRules) < 255);

const Rule* rule_of(ZydisMnemonic mnemonic) {
  u8 row = kRowOf[mnemonic];
  return row ? &kRules[row - 1] : nullptr;
}

// -- rules by opcode ---------------------------------------------------------------------------------------------------------

bool is_string(u8 opcode) {
  return (opcode >= 0x6c && opcode <= 0x6f) || (opcode >= 0xa4 && opcode <= 0xa7) || (opcode >= 0xaa && opcode <= 0xaf);
}

/// Whether the op must end its block: a repeated instruction may stop half way and then go on from itself.
bool string_ends(const Build& build) { return build.op.rep != 0 || build.in.opcode < 0x70; }

bool build_string(Build& build) {
  u8 opcode = build.in.opcode;
  u8 size = opcode & 1 ? static_cast<u8>(build.in.operand_width / 8) : 1;
  if (opcode < 0x70 && size == 8) size = 4;
  build.op.opsize = size;
  SystemFunction function = opcode >= 0x70 ? string_function(opcode & 0xfe, size) : opcode & 2 ? run_outs : run_ins;
  if (string_ends(build)) {
    run_function_open(build, function);
  } else {
    run_function(build, function);
  }
  return true;
}

bool build_jcc(Build& build) {
  set_operands(build, J);
  bool both_in_page = stays_in_page(build) && same_page(build, build.op.offset + build.op.length);
  build.op.cond = build.in.opcode & 15;
  build.op.extra = both_in_page;
  build.op.run = pick_jcc(build.pick, build.op.cond, both_in_page);
  return true;
}

/// LAHF and SAHF in 64-bit mode are an extension.
bool build_flag(Build& build) {
  bool ahf = build.in.opcode == 0x9e || build.in.opcode == 0x9f;
  if (ahf && build.long_code() && !build.features.has(Feature::LahfLm)) return false;
  build.op.run = pick_flag(build.in.opcode);
  return true;
}

bool apply_primary(Build& build, Decoded& outcome, bool& accepted) {
  u8 opcode = build.in.opcode;
  if (opcode >= 0x70 && opcode < 0x80) {
    outcome = Decoded::EndsOpen;
    accepted = build_jcc(build);
    return true;
  }
  if (is_string(opcode)) {
    accepted = build_string(build);
    outcome = string_ends(build) ? Decoded::EndsOpen : Decoded::Continues;
    return true;
  }
  if (pick_flag(opcode)) {
    accepted = build_flag(build);
    return true;
  }
  return false;
}

bool apply_0f(Build& build, Decoded& outcome, bool& accepted) {
  u8 opcode = build.in.opcode;
  accepted = true;
  if (opcode >= 0x80 && opcode < 0x90) {
    outcome = Decoded::EndsOpen;
    return build_jcc(build);
  }
  if (opcode >= 0x90 && opcode < 0xa0) {
    build.pick.size = 1;
    set_operands(build, E);
    build.op.run = pick_setcc(build.pick, opcode & 15);
    return true;
  }
  if (opcode >= 0x40 && opcode < 0x50) {
    set_operands(build, GE);
    build.op.run = pick_cmov(build.pick, opcode & 15);
    accepted = build.features.has(Feature::Cmov);
    return true;
  }
  // Prefetches and reserved NOPs (SDM vol. 2, NOP; 0F 18 to 0F 1F), among them MPX and CET where they are off.
  if ((opcode >= 0x18 && opcode < 0x20) || opcode == 0x0d) return build_nop(build);
  return false;
}

/// True if the opcode decides; `accepted` then tells whether it is an instruction here.
bool apply_by_opcode(Build& build, Decoded& outcome, bool& accepted) {
  if (build.in.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) return false;
  if (build.in.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) return apply_primary(build, outcome, accepted);
  if (build.in.opcode_map == ZYDIS_OPCODE_MAP_0F) return apply_0f(build, outcome, accepted);
  return false;
}

bool allowed(const Build& build, const Rule& rule) {
  bool has_modrm = build.in.raw.modrm.offset != 0;
  if (rule.memory_only && (!has_modrm || build.register_form())) return false;
  if (rule.register_only && !build.register_form()) return false;
  return build.features.has(rule.feature);
}

Decoded outcome_of(const Rule& rule, const Build& build) {
  if (rule.mnemonic == ZYDIS_MNEMONIC_MOV && mov_ends(build.in)) return Decoded::Ends;
  if (rule.mnemonic == ZYDIS_MNEMONIC_POP && stacked_segment(build) != kSegCount) return Decoded::Ends;
  return rule.outcome;
}

}  // namespace

bool apply_rules(Build& build, Decoded& outcome) {
  outcome = Decoded::Continues;
  bool accepted = false;
  if (apply_by_opcode(build, outcome, accepted)) return accepted;
  const Rule* rule = rule_of(build.in.mnemonic);
  if (!rule || !allowed(build, *rule)) return false;
  outcome = outcome_of(*rule, build);
  if (rule->build) return rule->build(build);
  set_operands(build, rule->form_by_opcode ? form_of(build.in) : rule->form);
  if (rule->pick) return (build.op.run = rule->pick(build.pick)) != nullptr;
  if (outcome == Decoded::EndsOpen) {
    run_function_open(build, rule->system);
  } else {
    run_function(build, rule->system, outcome == Decoded::Ends);
  }
  return true;
}

}  // namespace atl::soft
