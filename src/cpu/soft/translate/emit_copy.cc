// Instructions that stay what they are: other registers, and a checked host address instead of the memory operand.
#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
namespace {

u8 field_host(const Field& f) { return f.high ? static_cast<u8>(f.reg + 4) : kHostOf[f.reg]; }

/// AH to BH exclude every register that needs a REX prefix.
bool without_rex(const Insn& insn) { return insn.reg.high || insn.rm.high || insn.code.high; }

/// Whether the operand cannot be named in the instruction itself.
bool remote(const Insn& insn, const Field& f) {
  return kHostOf[f.reg] == kInMemory || (without_rex(insn) && !f.high && kHostOf[f.reg] >= 8);
}

/// BSF and BSR of 0 leave their destination alone.
bool keeps_old_value(const Insn& insn, const Field& f) {
  return f.read || f.size < 4 || insn.mnemonic == ZYDIS_MNEMONIC_BSF || insn.mnemonic == ZYDIS_MNEMONIC_BSR;
}

/// Whether ModR/M.rm can be the guest register's place in Core. Bit strings and implicit locks say no, as does a 32-bit result,
/// which clears the upper half. KMOV and VPBROADCAST have other opcodes for memory, and EVEX.b, which is rounding for registers, means
/// another thing for it.
bool rm_in_core(const Insn& insn) {
  constexpr u8 kEvexB = 0x10;
  if (insn.enc.evex && insn.enc.evex_last & kEvexB) return false;
  if (insn.wide && (!insn.enc.evex || insn.enc.map == 2)) return false;
  if (insn.rm.write && insn.rm.size != 8) return false;
  bool bits = insn.enc.map == 1 && !insn.enc.vex && (insn.enc.opcode & 0xe7) == 0xa3;
  bool exchange = insn.mnemonic == ZYDIS_MNEMONIC_XCHG || insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG || insn.mnemonic == ZYDIS_MNEMONIC_XADD;
  return !bits && !exchange;
}

bool byte_needs_rex(const Field& f, u8 host) { return f.used() && f.size == 1 && !f.high && host >= 4; }

}  // namespace

/// The host register for a field; one that must travel through `scratch` is loaded.
u8 Emitter::bring(const Insn& insn, const Field& field, u8 scratch) {
  if (!remote(insn, field)) return field_host(field);
  if (scratch == kScratch0) take_scratch();
  if (keeps_old_value(insn, field)) load_guest(scratch, field.reg);
  return scratch;
}

void Emitter::put_back(const Insn& insn, const Field& field, u8 host) {
  if (field.used() && field.write && remote(insn, field)) store_guest(field.reg, host);
}

void Emitter::mark_trap(const Insn& insn) {
  if (!insn.traps) return;
  aside({.kind = Aside::Kind::Trap, .state = s_, .insn = insn_, .retry = a_.here(), .resume = resume_, .resumes = true, .op = insn.op});
}

/// Scratch 0 holds the memory operand's host address, or is free. Of two registers in the core beside a memory operand, the
/// VEX field's is either a result, which may take the place of the address, or is read only, and the other a result that may
/// take its place.
void Emitter::emit_operation(const Insn& insn) {
  u8 other = insn.mem.present && !insn.vex.write ? kScratch1 : kScratch0;
  u8 reg = insn.digit, vvvv = insn.enc.vvvv;
  bool rm_scratch = insn.rm.used() && in_memory(insn.rm.reg) && !rm_in_core(insn);
  u8 reg_scratch = without_rex(insn) ? kScratch0 : kScratch1;
  if (insn.reg.used()) reg = bring(insn, insn.reg, reg_scratch);
  if (insn.vex.used()) vvvv = bring(insn, insn.vex, other);
  Place rm = Place::of(operand_);
  if (insn.open_rm) rm = Place::of(insn.vector_rm);
  if (insn.rm.used()) rm = rm_scratch || !in_memory(insn.rm.reg) ? Place::of(bring(insn, insn.rm, kScratch0)) : guest_place(insn.rm.reg);
  Encoding enc = insn.enc;
  enc.vvvv = vvvv;
  mark_trap(insn);
  bool rex = byte_needs_rex(insn.reg, reg) || (!rm.memory && byte_needs_rex(insn.rm, rm.reg));
  if (insn.code.used()) {
    u8 code = bring(insn, insn.code, kScratch0);
    a_.encode_short(enc, code, byte_needs_rex(insn.code, code));
  } else if (insn.has_modrm) {
    a_.encode(enc, reg, rm, rex);
  } else {
    a_.encode_short(enc, kNone);
  }
  a_.immediate(insn.imm, insn.imm_size);
  put_back(insn, insn.vex, other);
  put_back(insn, insn.reg, reg_scratch);  // MULX with one register for both halves keeps this one
  put_back(insn, insn.code, kScratch0);
  if (rm_scratch || (insn.rm.used() && !in_memory(insn.rm.reg))) put_back(insn, insn.rm, kScratch0);
}

void Emitter::emit_copy(const Insn& insn, u16 live_after) {
  bool vectors = insn.kind == Kind::Vector;
  bool checks = insn.mem.present && clobbers(accesses().operand);
  settle_recipe(insn, live_after, checks || s_.vectors < insn.vectors());
  if (vectors) ensure_vectors(insn.vectors());
  if (insn.mem.present) operand_ = reach(insn.mem, insn.mem.write, accesses().operand);
  bool keeps_some = insn.flags_change && (live_after & ~insn.flags_killed);
  if (insn.flags_read || keeps_some) ensure_host();
  emit_operation(insn);
  note_flags(insn);
}

/// Whoever finds that the guest may not use vectors now has the instruction interpreted.
void Emitter::ensure_vectors(u8 level) {
  if (s_.vectors >= level) return;
  before_clobber();
  take_scratch();
  s_.vectors = level;
  const bool wide = level == kWideVectors;
  a_.alu_imm(AluOp::Cmp, 1, Place::of(core(layout::kVectorsLive)), wide ? kWideVectors : kNoVectors);
  Label live = a_.new_label();
  a_.jump_if(wide ? kNotEqual : kEqual, aside({.kind = Aside::Kind::LoadVectors, .state = s_, .insn = insn_, .back = live, .resume = resume_, .resumes = true}));
  a_.bind(live);
}

void Emitter::emit_lea(const Insn& insn) {
  take_scratch();
  u8 to = in_memory(insn.reg.reg) || insn.reg.size == 2 ? u8{kScratch0} : kHostOf[insn.reg.reg];
  unsigned size = long_code_ && !insn.mem.narrow && insn.reg.size == 8 ? 8 : 4;
  HostMemory parts = address_parts(insn.mem);
  if (parts.base == kNone && parts.index == kNone) {
    a_.move_imm(to, size == 8 ? static_cast<u64>(insn.mem.disp) : static_cast<u32>(insn.mem.disp));
  } else {
    a_.lea(size, to, parts);
  }
  if (insn.reg.size == 2) {
    if (in_memory(insn.reg.reg)) a_.store(2, core(layout::gpr(insn.reg.reg)), to);
    else a_.move(2, kHostOf[insn.reg.reg], to);
  } else if (in_memory(insn.reg.reg)) {
    store_guest(insn.reg.reg, to);
  }
  note_flags(insn);
}

}  // namespace atl::soft::translate
