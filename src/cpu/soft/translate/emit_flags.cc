// Where the guest's flags are, and how they get to where they are wanted. Scratch register 1 is lost, 0 is not.
#include "cpu/soft/translate/core_layout.h"
#include "cpu/soft/translate/emitter.h"

namespace atl::soft::translate {
namespace {

u8 operation_size(const Insn& insn) {
  if (!(insn.enc.opcode & 1)) return 1;
  return insn.enc.wide ? 8 : insn.enc.operand16 ? 2 : 4;
}

i32 signed_immediate(const Insn& insn) {
  if (insn.imm_size == 1) return static_cast<i8>(insn.imm);
  return insn.imm_size == 2 ? static_cast<i16>(insn.imm) : static_cast<i32>(insn.imm);
}

struct Operands {
  u8 a = kNone, b = kNone;   // guest registers; kNone: memory for `a`, memory or an immediate for `b`
  bool immediate = false;
  u8 op = 0xff;              // AluOp, or one of those below
};
constexpr u8 kTest = 8, kNeg = 9;

bool is_alu_opcode(u8 opcode) { return opcode < 0x40 && (opcode & 7) < 6; }

/// ADD to CMP, TEST and NEG by their opcodes (SDM vol. 2, A.3).
Operands operands_of(const Insn& insn) {
  u8 opcode = insn.enc.opcode;
  if (insn.enc.vex || insn.enc.map != 0) return {};
  if (is_alu_opcode(opcode)) {
    u8 op = opcode >> 3;
    if (opcode & 4) return {.a = kRax, .immediate = true, .op = op};
    return opcode & 2 ? Operands{insn.reg.reg, insn.rm.reg, false, op} : Operands{insn.rm.reg, insn.reg.reg, false, op};
  }
  if (opcode == 0x80 || opcode == 0x81 || opcode == 0x83) return {insn.rm.reg, kNone, true, insn.digit};
  if (opcode == 0x84 || opcode == 0x85) return {insn.rm.reg, insn.reg.reg, false, kTest};
  if (opcode == 0xa8 || opcode == 0xa9) return {kRax, kNone, true, kTest};
  if ((opcode | 1) == 0xf7 && insn.digit < 2) return {insn.rm.reg, kNone, true, kTest};
  if ((opcode | 1) == 0xf7 && insn.digit == 3) return {insn.rm.reg, kNone, true, kNeg};
  return {};
}

Recipe addition(Recipe::Kind kind, const Insn& insn, const Operands& o) {
  bool known = o.immediate || o.b != kNone;
  if (!known || o.a == o.b) return {};
  return {kind, operation_size(insn), o.a, o.b, o.immediate ? signed_immediate(insn) : 0};
}

}  // namespace

Recipe recipe_of(const Insn& insn) {
  Operands o = operands_of(insn);
  if (o.op == 0xff || o.a == kNone || insn.reg.high || insn.rm.high || insn.enc.lock) return {};
  u8 size = operation_size(insn);
  bool known = o.immediate || o.b != kNone;
  i32 imm = o.immediate ? signed_immediate(insn) : 0;
  switch (o.op) {
    case static_cast<u8>(AluOp::Or):
    case static_cast<u8>(AluOp::And):
    case static_cast<u8>(AluOp::Xor): return {Recipe::Kind::Test, size, o.a, o.a, 0};
    case static_cast<u8>(AluOp::Add): return addition(Recipe::Kind::Add, insn, o);
    case static_cast<u8>(AluOp::Sub):
      if (o.a == o.b) return {Recipe::Kind::Compare, size, o.a, o.a, 0};
      return addition(Recipe::Kind::Subtract, insn, o);
    case static_cast<u8>(AluOp::Cmp): return known ? Recipe{Recipe::Kind::Compare, size, o.a, o.b, imm} : Recipe{};
    case kTest: return known ? Recipe{Recipe::Kind::Test, size, o.a, o.b, imm} : Recipe{};
    case kNeg: return {Recipe::Kind::Negate, size, o.a, kNone, 0};
    default: return {};  // with carry
  }
}

void Emitter::snapshot() {
  a_.move(8, kScratch1, kHostRax);
  a_.flags_to_ax();
  a_.store(2, core(layout::kFlags), kHostRax);
  a_.move(8, kHostRax, kScratch1);
  s_.memory = true;
}

void Emitter::ensure_host() {
  if (s_.host) return;
  if (s_.recipe) {
    emit_recipe(s_.recipe);
  } else {
    a_.move(8, kScratch1, kHostRax);
    a_.load_zero16(kHostRax, core(layout::kFlags));
    a_.flags_from_ax();
    a_.move(8, kHostRax, kScratch1);
  }
  s_.host = true;
}

void Emitter::ensure_memory() {
  if (s_.memory) return;
  ensure_host();
  snapshot();
}

void Emitter::before_clobber() {
  if (s_.host && !s_.memory && !s_.recipe) snapshot();
  s_.host = false;
}

/// An instruction that changes registers of the recipe: the flags need another home if they are wanted behind it.
/// `clobbers`: the host's flags do not survive the instruction either.
void Emitter::settle_recipe(const Insn& insn, u16 live_after, bool clobbers) {
  if (!s_.recipe || !s_.recipe.uses(insn.writes)) return;
  bool wanted = live_after & ~insn.flags_killed;
  if (wanted && (clobbers || !s_.host)) ensure_memory();
}

/// After the instruction.
void Emitter::note_flags(const Insn& insn) {
  if (insn.flags_change) {
    s_.host = true;
    s_.memory = false;
    s_.recipe = recipe_of(insn);
    stale_ = false;
  } else if (s_.recipe && s_.recipe.uses(insn.writes)) {
    s_.recipe = {};
    if (s_.host || s_.memory) return;
    s_.memory = stale_ = true;  // as it was not settled, nobody looks at the flags any more
  }
}

void Emitter::emit_recipe(const Recipe& r) {
  switch (r.kind) {
    case Recipe::Kind::None: return;
    case Recipe::Kind::Compare: return emit_compare(r);
    case Recipe::Kind::Test: return emit_test(r);
    default: return emit_undone(r);
  }
}

void Emitter::emit_compare(const Recipe& r) {
  Place a = guest_place(r.a);
  if (r.b == kNone) return a_.alu_imm(AluOp::Cmp, r.size, a, r.imm);
  if (!a.memory) return a_.alu(AluOp::Cmp, r.size, a.reg, guest_place(r.b));
  a_.alu_store(AluOp::Cmp, r.size, a, guest_in(r.b, kScratch1));
}

/// Comparison with 0 leaves the same flags as TEST of a register with itself.
void Emitter::emit_test(const Recipe& r) {
  Place a = guest_place(r.a);
  if (r.b == kNone) return a_.test_imm(r.size, a, r.imm);
  if (a.memory && r.b == r.a) return a_.alu_imm(AluOp::Cmp, r.size, a, 0);
  a_.test(r.size, a, guest_in(r.b, kScratch1));
}

/// Takes the result back to the operand and does the operation again.
void Emitter::emit_undone(const Recipe& r) {
  load_guest(kScratch1, r.a);
  if (r.kind == Recipe::Kind::Negate) {
    a_.neg(r.size, kScratch1);
    return a_.neg(r.size, kScratch1);
  }
  AluOp again = r.kind == Recipe::Kind::Add ? AluOp::Add : AluOp::Sub, back = r.kind == Recipe::Kind::Add ? AluOp::Sub : AluOp::Add;
  for (AluOp op : {back, again}) {
    if (r.b == kNone) a_.alu_imm(op, r.size, Place::of(kScratch1), r.imm);
    else a_.alu(op, r.size, kScratch1, guest_place(r.b));
  }
}

}  // namespace atl::soft::translate
