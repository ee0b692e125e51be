#include "cpu/soft/translate/assembler.h"

#include "base/check.h"

namespace atl::soft::translate {
namespace {

constexpr u8 kRex = 0x40, kRexW = 8, kRexR = 4, kRexX = 2, kRexB = 1;

u8 high_bit(u8 reg, u8 bit) { return reg != kNone && reg >= 8 ? bit : 0; }

u8 rex_of(u8 reg, const Place& rm) {
  u8 rex = high_bit(reg, kRexR);
  if (!rm.memory) return rex | high_bit(rm.reg, kRexB);
  return static_cast<u8>(rex | high_bit(rm.mem.base, kRexB) | high_bit(rm.mem.index, kRexX));
}

/// An encoding with the operand size of the translator's own instructions: opcode | 1 unless bytes.
Encoding sized(u8 opcode, unsigned size, u8 map = 0) {
  Encoding e;
  e.map = map;
  e.opcode = static_cast<u8>(opcode | (size > 1));
  e.operand16 = size == 2;
  e.wide = size == 8;
  return e;
}

Encoding fixed(u8 opcode, bool wide, u8 map = 0) {
  Encoding e;
  e.map = map;
  e.opcode = opcode;
  e.wide = wide;
  return e;
}

bool byte_rex(unsigned size, u8 reg) { return size == 1 && reg >= 4; }

}  // namespace

void Assembler::escape(u8 map) {
  if (map >= 1) byte(0x0f);
  if (map == 2) byte(0x38);
  if (map == 3) byte(0x3a);
}

/// SDM vol. 2, 2.3.5.
void Assembler::vex_prefix(const Encoding& enc, u8 reg, const Place& rm) {
  u8 rex = rex_of(reg, rm);
  unsigned pp = enc.operand16 ? 1 : enc.rep == 0xf3 ? 2 : enc.rep == 0xf2 ? 3 : 0;
  unsigned low = (~enc.vvvv & 15u) << 3 | (enc.vex_l ? 4 : 0) | pp;
  if (enc.map == 1 && !enc.wide && !(rex & (kRexX | kRexB))) {
    byte(0xc5);
    byte((rex & kRexR ? 0 : 0x80) | low);
    return;
  }
  byte(0xc4);
  byte((rex & kRexR ? 0 : 0x80) | (rex & kRexX ? 0 : 0x40) | (rex & kRexB ? 0 : 0x20) | enc.map);
  byte((enc.wide ? 0x80u : 0u) | low);
}

/// SDM vol. 2, 2.7.1.
void Assembler::evex_prefix(const Encoding& enc, u8 reg, const Place& rm) {
  const u8 rex = rex_of(reg & 15, rm.memory ? rm : Place::of(static_cast<u8>(rm.reg & 15)));
  const bool x = rm.memory ? rex & kRexX : rm.reg & 16;
  const unsigned pp = enc.operand16 ? 1 : enc.rep == 0xf3 ? 2 : enc.rep == 0xf2 ? 3 : 0;
  byte(0x62);
  byte((rex & kRexR ? 0 : 0x80) | (x ? 0 : 0x40) | (rex & kRexB ? 0 : 0x20) | (reg & 16 ? 0 : 0x10) | enc.map);
  byte((enc.wide ? 0x80u : 0u) | (~enc.vvvv & 15u) << 3 | 4 | pp);
  byte(enc.evex_last | (enc.vvvv & 16 ? 0u : 8u));
}

void Assembler::prefixes(const Encoding& enc, u8 reg, const Place& rm, bool force_rex) {
  if (enc.vex) return vex_prefix(enc, reg, rm);
  if (enc.evex) return evex_prefix(enc, reg, rm);
  if (enc.lock) byte(0xf0);
  if (enc.operand16) byte(0x66);
  if (enc.rep) byte(enc.rep);
  u8 rex = static_cast<u8>(rex_of(reg, rm) | (enc.wide ? kRexW : 0));
  if (rex || force_rex) byte(kRex | rex);
  escape(enc.map);
}

/// SDM vol. 2, 2.1.5. RSP and R12 as base need SIB; RBP and R13 a displacement.
void Assembler::modrm(u8 reg, const Place& rm, bool short_displacements) {
  unsigned field = (reg & 7u) << 3;
  if (!rm.memory) return byte(0xc0 | field | (rm.reg & 7u));
  const HostMemory& m = rm.mem;
  if (m.base == kNone) {
    byte(field | 4);
    byte(unsigned{m.scale} << 6 | (m.index & 7u) << 3 | 5);
    return immediate(static_cast<u64>(m.disp), 4);
  }
  bool none = m.disp == 0 && (m.base & 7) != 5, small = short_displacements && m.disp == static_cast<i8>(m.disp);
  unsigned mod = none ? 0 : small ? 0x40 : 0x80;
  bool sib = m.index != kNone || (m.base & 7) == 4;
  byte(mod | field | (sib ? 4u : m.base & 7u));
  if (sib) byte(unsigned{m.scale} << 6 | (m.index == kNone ? 4u : m.index & 7u) << 3 | (m.base & 7u));
  if (!none) immediate(static_cast<u64>(m.disp), small ? 1 : 4);
}

void Assembler::encode(const Encoding& enc, u8 reg, const Place& rm, bool force_rex) {
  prefixes(enc, reg, rm, force_rex);
  byte(enc.opcode);
  modrm(reg, rm, !enc.evex);  // EVEX has another unit for those
}

void Assembler::encode_short(const Encoding& enc, u8 reg, bool force_rex) {
  prefixes(enc, 0, Place::of(reg == kNone ? u8{0} : reg), force_rex);
  byte(reg == kNone ? enc.opcode : (enc.opcode & 0xf8u) | (reg & 7u));
}

void Assembler::immediate(u64 value, unsigned size) {
  for (unsigned i = 0; i < size; ++i) byte(static_cast<u8>(value >> 8 * i));
}

void Assembler::alu(AluOp op, unsigned size, u8 reg, const Place& rm) {
  bool rex = byte_rex(size, reg) || (!rm.memory && byte_rex(size, rm.reg));
  encode(sized(static_cast<u8>(static_cast<u8>(op) << 3 | 2), size), reg, rm, rex);
}

void Assembler::alu_store(AluOp op, unsigned size, const Place& rm, u8 reg) {
  bool rex = byte_rex(size, reg) || (!rm.memory && byte_rex(size, rm.reg));
  encode(sized(static_cast<u8>(static_cast<u8>(op) << 3), size), reg, rm, rex);
}

void Assembler::alu_imm(AluOp op, unsigned size, const Place& rm, i32 value) {
  bool rex = !rm.memory && byte_rex(size, rm.reg);
  bool small = value == static_cast<i8>(value);
  Encoding e = sized(0x80, size);
  if (size > 1 && small) e.opcode = 0x83;
  encode(e, static_cast<u8>(op), rm, rex);
  immediate(static_cast<u64>(value), small || size == 1 ? 1 : size == 2 ? 2 : 4);
}

void Assembler::test(unsigned size, const Place& rm, u8 reg) {
  encode(sized(0x84, size), reg, rm, byte_rex(size, reg) || (!rm.memory && byte_rex(size, rm.reg)));
}

void Assembler::test_imm(unsigned size, const Place& rm, i32 value) {
  encode(sized(0xf6, size), 0, rm, !rm.memory && byte_rex(size, rm.reg));
  immediate(static_cast<u64>(value), size == 8 ? 4 : size);
}

void Assembler::neg(unsigned size, u8 reg) { encode(sized(0xf6, size), 3, Place::of(reg), byte_rex(size, reg)); }

void Assembler::load(unsigned size, u8 reg, const HostMemory& from) { encode(fixed(0x8b, size == 8), reg, Place::of(from)); }

void Assembler::store(unsigned size, const HostMemory& to, u8 reg) {
  encode(sized(0x88, size), reg, Place::of(to), byte_rex(size, reg));
}

void Assembler::store_imm(unsigned size, const HostMemory& to, i32 value) {
  encode(sized(0xc6, size), 0, Place::of(to));
  immediate(static_cast<u64>(value), size == 8 ? 4 : size);
}

void Assembler::move(unsigned size, u8 to, u8 from) { encode(sized(0x88, size), from, Place::of(to)); }

void Assembler::move_imm(u8 to, u64 value) {
  if (value == static_cast<u32>(value)) {
    encode_short(fixed(0xb8, false), to);
    immediate(value, 4);
  } else if (static_cast<i64>(value) == static_cast<i32>(value)) {
    encode(fixed(0xc7, true), 0, Place::of(to));
    immediate(value, 4);
  } else {
    encode_short(fixed(0xb8, true), to);
    immediate(value, 8);
  }
}

void Assembler::lea(unsigned size, u8 to, const HostMemory& from) { encode(fixed(0x8d, size == 8), to, Place::of(from)); }

void Assembler::rotate_right(u8 to, u8 from, u8 count) {
  Encoding e = fixed(0xf0, true, 3);
  e.vex = true;
  e.rep = 0xf2;
  encode(e, to, Place::of(from));
  immediate(count, 1);
}

void Assembler::shift_right(u8 reg, u8 count) {
  encode(fixed(0xc1, true), 5, Place::of(reg));
  immediate(count, 1);
}

void Assembler::shift_arithmetic_right(u8 reg, u8 count) {
  encode(fixed(0xc1, true), 7, Place::of(reg));
  immediate(count, 1);
}

void Assembler::shift_left(unsigned size, u8 reg, u8 count) {
  encode(fixed(0xc1, size == 8), 4, Place::of(reg));
  immediate(count, 1);
}

void Assembler::load_zero16(u8 reg, const HostMemory& from) { encode(fixed(0xb7, false, 1), reg, Place::of(from)); }

void Assembler::load_signed(unsigned size, u8 reg, const Place& from) { encode(fixed(size == 4 ? 0x63 : 0x8b, true), reg, from); }

void Assembler::multiply(u8 reg, const Place& by) { encode(fixed(0xaf, true, 1), reg, by); }

void Assembler::read_tsc() {
  for (unsigned value : {0x0f, 0xae, 0xe8, 0x0f, 0x31}) byte(value);
}

void Assembler::flags_to_ax() {
  byte(0x9f);
  encode(fixed(0x90, false, 1), 0, Place::of(kHostRax));
}

void Assembler::flags_from_ax() {
  byte(0x04);
  byte(0x7f);
  byte(0x9e);
}

void Assembler::jump_memory(const HostMemory& target) { encode(fixed(0xff, false), 4, Place::of(target)); }

Label Assembler::new_label() {
  labels_.push_back(kUnbound);
  return static_cast<Label>(labels_.size() - 1);
}

HostOffset Assembler::jump_field() {
  byte(0xe9);
  immediate(0, 4);
  return here() - 4;
}

HostOffset Assembler::jump_if_field(u8 cond) {
  byte(0x0f);
  byte(0x80u | cond);
  immediate(0, 4);
  return here() - 4;
}

HostOffset Assembler::call_field() {
  byte(0xe8);
  immediate(0, 4);
  return here() - 4;
}

void Assembler::jump(Label label) {
  if (bound(label) && here() - position(label) < 120) {
    byte(0xeb);
    byte(position(label) - here() - 1);
    return;
  }
  fixups_.push_back({jump_field(), label, false});
}

void Assembler::jump_if(u8 cond, Label label) {
  if (bound(label) && here() - position(label) < 120) {
    byte(0x70u | cond);
    byte(position(label) - here() - 1);
    return;
  }
  fixups_.push_back({jump_if_field(cond), label, false});
}

void Assembler::jump_count_zero(Label near_label) {
  byte(0xe3);
  byte(0);
  fixups_.push_back({here() - 1, near_label, true});
}

void Assembler::align(unsigned boundary, unsigned offset) {
  while ((here() + offset) % boundary) byte(0x90);
}

void Assembler::patch(HostOffset field, HostOffset target) {
  u32 distance = target - (field + 4);
  for (unsigned i = 0; i < 4; ++i) code_[field + i] = static_cast<u8>(distance >> 8 * i);
}

std::vector<u8> Assembler::finish() {
  for (const Fixup& f : fixups_) {
    CHECK(bound(f.label));
    if (!f.byte) {
      patch(f.at, position(f.label));
      continue;
    }
    i32 distance = static_cast<i32>(position(f.label) - (f.at + 1));
    CHECK(distance == static_cast<i8>(distance));
    code_[f.at] = static_cast<u8>(distance);
  }
  return std::move(code_);
}

}  // namespace atl::soft::translate
