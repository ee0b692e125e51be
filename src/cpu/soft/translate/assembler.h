// Host instructions as bytes. Nothing here knows of the guest.
#pragma once

#include <vector>

#include "cpu/soft/translate/insn.h"

namespace atl::soft::translate {

using HostOffset = u32;

/// A memory operand of the host: 64-bit address. Without a base (kNone) there is an index.
struct HostMemory {
  u8 base = kHostRsp;
  u8 index = kNone;
  u8 scale = 0;      // a shift count
  i32 disp = 0;
};

/// What ModR/M.r/m names.
struct Place {
  bool memory = false;
  u8 reg = 0;
  HostMemory mem;

  static Place of(u8 reg) { return {.memory = false, .reg = reg, .mem = {}}; }
  static Place of(HostMemory mem) { return {.memory = true, .reg = 0, .mem = mem}; }
};

/// The eight operations of opcodes 00 to 3F and 80 to 83.
enum class AluOp : u8 { Add, Or, Adc, Sbb, And, Sub, Xor, Cmp };

using Label = u32;

class Assembler {
 public:
  Assembler() { code_.reserve(4096); }

  // -- anything ------------------------------------------------------------------------------------------------------------
  /// `force_rex`: byte registers 4 to 7 are SPL to DIL. Without: AH to BH if no other part needs a REX prefix.
  void encode(const Encoding& enc, u8 reg, const Place& rm, bool force_rex = false);
  /// The same with the register in the opcode's low bits; `reg` of kNone: no register at all.
  void encode_short(const Encoding& enc, u8 reg, bool force_rex = false);
  void immediate(u64 value, unsigned size);

  // -- the translator's own instructions. Size: 1, 2, 4 or 8 bytes ------------------------------------------------------------
  void alu(AluOp op, unsigned size, u8 reg, const Place& rm);               // reg = reg op rm
  void alu_store(AluOp op, unsigned size, const Place& rm, u8 reg);         // rm = rm op reg
  void alu_imm(AluOp op, unsigned size, const Place& rm, i32 value);
  void test(unsigned size, const Place& rm, u8 reg);
  void test_imm(unsigned size, const Place& rm, i32 value);
  void neg(unsigned size, u8 reg);
  void load(unsigned size, u8 reg, const HostMemory& from);   // 4 and 8 bytes
  void store(unsigned size, const HostMemory& to, u8 reg);
  void store_imm(unsigned size, const HostMemory& to, i32 value);
  void move(unsigned size, u8 to, u8 from);                   // 2, 4 and 8 bytes
  void move_imm(u8 to, u64 value);
  void lea(unsigned size, u8 to, const HostMemory& from);
  void rotate_right(u8 to, u8 from, u8 count);                // RORX, 64 bits; flags stay
  void shift_right(u8 reg, u8 count);                         // 64 bits
  void shift_arithmetic_right(u8 reg, u8 count);              // 64 bits
  void shift_left(unsigned size, u8 reg, u8 count);
  void load_zero16(u8 reg, const HostMemory& from);           // MOVZX r32, m16
  void load_signed(unsigned size, u8 reg, const Place& from); // MOVSXD r64, r/m32; or 8 bytes
  void multiply(u8 reg, const Place& by);                     // IMUL, 64 bits
  void read_tsc();                                            // LFENCE; RDTSC
  void flags_to_ax();                                         // LAHF; SETO AL
  void flags_from_ax();                                       // ADD AL, 7F; SAHF
  void jump_memory(const HostMemory& target);

  // -- labels ----------------------------------------------------------------------------------------------------------------
  Label new_label();
  void bind(Label label) { labels_[label] = here(); }
  bool bound(Label label) const { return labels_[label] != kUnbound; }
  HostOffset position(Label label) const { return labels_[label]; }
  void jump(Label label);
  void jump_if(u8 cond, Label label);
  void jump_count_zero(Label near_label);                     // JRCXZ; the label is within 127 bytes
  /// A jump or call rel32 whose field the caller fills; returns the field's place.
  HostOffset jump_field();
  HostOffset jump_if_field(u8 cond);
  HostOffset call_field();
  void align(unsigned boundary, unsigned offset);              // NOPs until (here + offset) is aligned
  void patch(HostOffset field, HostOffset target);

  HostOffset here() const { return static_cast<HostOffset>(code_.size()); }
  /// Fills in all jumps to labels, which must be bound.
  std::vector<u8> finish();

 private:
  static constexpr HostOffset kUnbound = ~HostOffset{0};
  struct Fixup {
    HostOffset at;
    Label label;
    bool byte;
  };

  void byte(unsigned value) { code_.push_back(static_cast<u8>(value)); }
  void prefixes(const Encoding& enc, u8 reg, const Place& rm, bool force_rex);
  void vex_prefix(const Encoding& enc, u8 reg, const Place& rm);
  void evex_prefix(const Encoding& enc, u8 reg, const Place& rm);
  void escape(u8 map);
  void modrm(u8 reg, const Place& rm, bool short_displacements = true);

  std::vector<u8> code_;
  std::vector<HostOffset> labels_;
  std::vector<Fixup> fixups_;
};

}  // namespace atl::soft::translate
