// Decoded code of one vCPU: blocks of ops, found by physical address and mode.
//
// A block ends at a branch, at an instruction after which the mode may differ, at the page's end or after kMaxOps. An
// instruction that reaches into the next page is a block of its own. Blocks are never freed one by one: stale ones stay until
// the arena is full, then everything goes at once, so that links between blocks need no bookkeeping.
//
// Thread: the vCPU's own.
#pragma once

#include <memory>
#include <vector>

#include "cpu/soft/exec/op.h"
#include "memory/guest_memory.h"

namespace atl::soft {

/// What a block's ops depend on besides its bytes.
using ModeKey = u8;
ModeKey mode_key(const Core& core);

struct CodeBlock {
  GuestAddr gpa = 0;
  const std::atomic<u32>* page_version = nullptr;  // CodePages' word for the first page
  u32 version = 0;            // of the first page when the bytes were read
  u32 second_version = 0;     // of the next page, if the block straddles
  GuestAddr second_page = 0;
  ModeKey mode = 0;
  bool straddles = false;
  bool provisional = false;   // another vCPU may still hold a write tag for the page: compare `bytes` before each run
  u16 length = 0;             // bytes
  u16 op_count = 0;
  u64 epoch = 0;              // SoftVm::code_epoch at which the page was marked
  u64 first_run = 0;
  CodeBlock* next = nullptr;  // in the same hash bucket
  Op* ops = nullptr;
  u8* bytes = nullptr;        // copy of the source, only while provisional
};

class BlockCache {
 public:
  explicit BlockCache(Core& core);
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  /// The block for the code at core.rip, decoded if need be. nullptr after raising a fault (page fault of the fetch, CS
  /// limit). Reasons that the decoder met (#UD, #GP for length) are ops that raise.
  CodeBlock* find(u64 linear);
  /// Like find, but exactly one instruction, and for stepping: not entered into the cache.
  CodeBlock* find_single(u64 linear);
  /// Forgets every block (the arena is full, or CPUID changed).
  void clear();

 private:
  struct Arena;
  Core& core_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace atl::soft
