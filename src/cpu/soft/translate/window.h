// Accesses of one block that lie near each other: one address check serves them all.
//
// Addresses are compared symbolically: each register holds an unknown value plus a constant, and PUSH, POP, ADD, SUB, LEA and
// MOV move constants and unknowns about. Accesses to the same unknowns within kMaxSpan bytes form a window. The first of them
// checks the window as a whole and leaves its host address in a slot of Core; the others start from there.
#pragma once

#include <vector>

#include "cpu/soft/translate/region.h"

namespace atl::soft::translate {

inline constexpr u8 kNoWindow = 0xff;

struct Window {
  i64 low = 0, high = 0;   // offsets from the unknowns; `high` behind the last byte
  u16 first = 0, last = 0; // indexes in the block of the instruction that checks, and of the last access
  u16 accesses = 0;
  bool write = false;
  u8 slot = 0;             // of Core, for the host address
};

/// One memory access of an instruction: the operand in ModR/M, or the stack.
struct Access {
  u8 window = kNoWindow;
  i64 offset = 0;          // from the unknowns
};

struct InsnAccesses {
  Access operand, stack;
};

struct Windows {
  std::vector<Window> windows;          // as many at a time as there are slots for, at most
  std::vector<InsnAccesses> accesses;   // by index in the block
};

Windows find_windows(const SourceRegion& region, const Block& block, bool long_code);

}  // namespace atl::soft::translate
