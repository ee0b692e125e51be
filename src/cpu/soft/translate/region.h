// Which instructions are translated together: basic blocks of one page that direct branches connect.
#pragma once

#include <array>
#include <vector>

#include "cpu/soft/translate/insn.h"
#include "cpu/soft/translate/translation.h"

namespace atl::soft::translate {

inline constexpr u16 kNoBlock = 0xffff;

/// Of a region.
inline constexpr size_t kMaxInsns = 400, kMaxBlocks = 64;

/// Entered at its start only. Forward conditional branches are side exits of a block, not its end, unless something else leads to
/// what is behind them.
struct Block {
  u16 start = 0;             // offset in the page
  u16 end = 0;               // of what follows the last instruction
  u16 first = 0, count = 0;  // in SourceRegion::order
  u16 next = kNoBlock;       // block that control falls into; kNoBlock: none, or outside (then `falls_out`)
  u16 taken = kNoBlock;      // block that the last instruction branches to; kNoBlock: none, or outside
  bool falls_out = false;    // control goes on at `end`, which is not in the region
  bool enterable = false;    // worth an entry from outside: the request's, targets of backward branches, returns of calls
  u16 live_out = 0;          // flags that somebody may look at behind the block
  u16 live_in = 0;           // flags that somebody may look at before they are written, faults and the runtime included
  u16 read_in = 0;           // the same by instructions alone
};

struct SourceRegion {
  std::vector<Insn> insns;   // in order of discovery
  std::vector<u16> order;    // of blocks' instructions, as indexes into insns
  std::vector<Block> blocks; // sorted by start
  u8 vectors = kNoVectors;   // which vector registers some instruction uses
  std::vector<Op> ops;       // pairs: what CallOut runs, and an end

  const Insn& insn(const Block& block, unsigned i) const { return insns[order[block.first + i]]; }
  u16 block_at(u16 offset) const { return block_of_[offset]; }

  std::array<u16, kPageSize> block_of_;  // kNoBlock: none starts here
};

/// What explore() needs to know of the code.
struct CodeKind {
  const InsnDecoder& insns;
  const Decoder& ops;
  DecodeMode mode;
};

/// Error: the instruction at the entry reaches into the next page, which is not known.
Result<SourceRegion> explore(const Request& request, const CodeKind& kind);

/// Fills in live_out, live_in and read_in.
void find_live_flags(SourceRegion& region);

/// Flags live where a side exit leads; none for other instructions.
u16 live_at_exit(const SourceRegion& region, const Insn& insn);

/// Flags live before `insn` if `live` are live behind it.
u16 live_before(const Insn& insn, u16 live);

}  // namespace atl::soft::translate
