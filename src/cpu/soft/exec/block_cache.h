// Decoded code of one vCPU: blocks of ops, found by physical address and mode.
//
// A block ends at a branch, at an instruction after which the mode may differ, at the page's end or after kMaxOps. An
// instruction that reaches into the next page is a block of its own. Blocks are never freed one by one: stale ones stay until
// the arena is full, then everything goes at once, so that links between blocks need no bookkeeping.
//
// A page that begins to hold code keeps being written to without notice by vCPUs that have a write tag for it, until each has
// seen kAttendTlb. Blocks decoded meanwhile are provisional: kept with a copy of their bytes, compared before each run, and
// neither linked to nor in the jump table.
//
// Thread: the vCPU's own.
#pragma once

#include <array>
#include <memory>

#include "cpu/soft/decode/decoder.h"
#include "cpu/soft/exec/op.h"

namespace atl::soft {

/// What a block's ops depend on besides its bytes.
using ModeKey = u8;
inline constexpr ModeKey kModeChain = 1 << 4;  // blocks may be linked: the code segment is flat
ModeKey mode_key(const Core& core);

struct CodeBlock {
  GuestAddr gpa = ~GuestAddr{0};
  const std::atomic<u32>* page_word = nullptr;    // CodePages' word for the first page, and what it was
  const std::atomic<u32>* second_word = nullptr;  // the same for the next page if the block straddles, else nullptr
  u32 version = 0;
  u32 second_version = 0;
  GuestAddr second_page = 0;
  u64 epoch = 0;               // SoftVm::code_epoch when the page was marked; 0 once confirmed
  CodeBlock* next = nullptr;   // in the same hash bucket
  u8* bytes = nullptr;         // copy of the source, while provisional
  Op* ops = nullptr;
  u16 length = 0;              // bytes
  u16 op_count = 0;
  ModeKey mode = 0;
  bool watched = false;        // the debugger may have an execution point at the start: entered by the run loop only

  bool fresh() const { return page_word->load(std::memory_order_relaxed) == version; }
  /// Whether its first page is known not to change unseen.
  bool settled() const { return epoch == 0 && !watched && (mode & kModeChain); }
  bool linkable() const { return settled() && !second_word; }
};

class BlockCache {
 public:
  static constexpr unsigned kMaxOps = 64;
  static constexpr u64 kArenaBytes = 16 * kMiB;

  explicit BlockCache(Core& core);
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  /// The block for the code at core.rip, decoded if need be. nullptr after raising a fault (page fault of the fetch, CS
  /// limit). What the decoder objects to (#UD, #GP for the length) becomes an op that raises.
  CodeBlock* find();
  /// Exactly one instruction. The block is valid until the next call of find or find_single.
  CodeBlock* find_single();
  /// Forgets every block.
  void clear();

  /// Changes with clear(): ops from before are gone.
  u64 generation() const { return generation_; }

  /// The block to try for an indirect branch to `gpa`; never nullptr. The caller checks gpa, mode and freshness.
  CodeBlock* jump_candidate(GuestAddr gpa) const { return jumps_[jump_index(gpa)]; }
  /// Room for a copy of one op and an end, see isolated().
  Op* scratch_ops() { return scratch_.data(); }

 private:
  static constexpr u32 kJumps = 4096, kBuckets = 1 << 15;
  static u32 jump_index(GuestAddr gpa) { return static_cast<u32>(gpa ^ gpa >> 12) & (kJumps - 1); }
  static u32 bucket_of(GuestAddr gpa, ModeKey mode) {
    return static_cast<u32>((gpa * 0x9e3779b97f4a7c15 >> 40) + mode) & (kBuckets - 1);
  }
  struct Source;

  bool locate(Source& source);
  bool locate_second_page(Source& source);
  CodeBlock* lookup(GuestAddr gpa, ModeKey mode);
  bool usable(CodeBlock& block, Source& source);
  CodeBlock* decode(Source& source, unsigned max_ops, bool keep);
  void decode_ops(Source& source, unsigned max_ops, CodeBlock& block);
  void remember_pages(const Source& source, CodeBlock& block);
  u64 mark(GuestAddr gpa);
  CodeBlock* store(const CodeBlock& block, const Source& source);

  Core& core_;
  Decoder decoder_;
  std::array<Op, 2> scratch_;
  std::array<Op, kMaxOps + 1> ops_;  // being decoded, or the last find_single
  CodeBlock single_;
  std::array<CodeBlock*, kJumps> jumps_;
  std::unique_ptr<CodeBlock*[]> buckets_;
  std::unique_ptr<u8[]> arena_;
  u64 used_ = 0;
  u64 generation_ = 0;
};

}  // namespace atl::soft
