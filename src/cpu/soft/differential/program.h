// A program of random instructions: what it consists of, and its bytes at a place.
//
// Items are removed by emptying them; branches to an empty item lead to what follows it. So a failing program can be made
// smaller without generating it anew.
#pragma once

#include <vector>

#include "cpu/soft/differential/case.h"
#include "cpu/soft/differential/instructions.h"

namespace atl::soft::differential {

/// A field that depends on where the program lies.
struct Fixup {
  u8 at = 0;              // in the item's bytes
  u8 size = 4;
  bool relative = false;  // to the end of the instruction, which is at `end`
  u8 end = 0;
  int target = -1;        // the item whose address is meant, or none
  u64 addend = 0;
};

/// An instruction, or several that are of use only together.
struct Item {
  std::vector<u8> bytes;
  std::vector<Fixup> fixups;
};

struct Program {
  Mode mode = Mode::Long;
  bool self_modifying = false;
  bool cold = false;
  std::vector<Item> items;  // the first is the entry, the last one the end: INT3
  Registers before;         // RIP: where the first item goes

  u64 size_bytes() const;
};

/// The program as bytes for the runners.
Case assemble(const Program& program);

/// One line an instruction: address, bytes, disassembly.
std::string listing(const Case& c, const Instructions& instructions);

}  // namespace atl::soft::differential
