// From bytes to an Op (Intel SDM vol. 2; AMD APM vol. 3).
//
// Zydis splits the bytes into prefixes, opcode, ModR/M, displacement and immediate and names the instruction; the table in
// rules.cc says by that name which handler runs it; operands.cc fills in the operands. What is not in the table is left to
// native/. Instructions of extensions that CPUID does not show are #UD, as are those that no rule takes.
//
// Supported: all of x86-64-v4 in 16, 32 and 64-bit code. Missing: what native/stub.h says, MPX (its opcodes are NOPs, as on
// processors without it), CET (the same), TSX, VMX, SVM, SGX (#UD).
#pragma once

#include <Zydis/Zydis.h>

#include <span>

#include "cpu/cpuid.h"
#include "cpu/soft/decode/features.h"
#include "cpu/soft/exec/op.h"

namespace atl::soft {

/// What decoding depends on besides the bytes.
struct DecodeMode {
  CodeSize code = CodeSize::k64;
  bool flat_data = false;    // Core::flat_data
  bool flat_stack = false;   // that, and SS.D = 1
};

/// Where an instruction lies.
struct DecodePlace {
  GuestAddr block_gpa = 0;
  u16 offset = 0;            // from the block's start
};

enum class Decoded : u8 {
  Continues,   // the next instruction may follow in the same block
  Ends,        // the block ends here, and the op leaves it itself
  EndsOpen,    // the block ends here, but the op may go on to the end behind it (Jcc not taken)
  Truncated,   // the bytes end before the instruction
};

class Decoder {
 public:
  explicit Decoder(const CpuidTable& cpuid);

  /// Decodes the instruction at the start of `bytes`. What the processor would refuse becomes an op that raises #UD or #GP.
  Decoded decode(std::span<const u8> bytes, const DecodeMode& mode, const DecodePlace& place, Op& op) const;

 private:
  Decoded refuse(ZyanStatus status, size_t available, Op& op) const;

  ZydisDecoder decoders_[3];       // by CodeSize, minimal mode
  ZydisDecoder full_decoders_[3];  // for native/
  FeatureSet features_;
  bool amd_;
};

}  // namespace atl::soft
