// Which random instructions a program may contain, given what it uses its registers for.
//
// Pointers keep addresses in the window and indexes small numbers, so that most accesses hit; the counter of loops is written
// by nothing else, so that loops end. Everything else is free.
#pragma once

#include <vector>

#include "cpu/soft/differential/instructions.h"
#include "cpu/soft/differential/program.h"

namespace atl::soft::differential {

/// General registers as bits of a mask. RSP is always a pointer.
struct Roles {
  u16 pointers = 0, indexes = 0;
  u8 counter = 0;

  bool is_free(unsigned reg) const { return !((pointers | indexes) >> reg & 1) && reg != counter; }
};

class Vocabulary {
 public:
  explicit Vocabulary(const Instructions& instructions) : instructions_(instructions) {}
  /// Collects other instructions to choose from; what they are depends on `random` alone.
  void renew(Random& random);
  /// A random instruction that fits; `touches_memory` false: none with memory operands or a write to RSP.
  Item pick(Random& random, Mode mode, const Roles& roles, bool touches_memory = true) const;

 private:
  struct Entry {
    std::vector<u8> bytes;
    Decoded decoded;
  };
  static Item place(Random& random, const Entry& entry);

  const Instructions& instructions_;
  std::vector<Entry> entries_[2];  // by Mode
};

}  // namespace atl::soft::differential
