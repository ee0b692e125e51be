// From the end of one block into the next without going back to the run loop.
#pragma once

#include "cpu/soft/exec/block_cache.h"
#include "cpu/soft/exec/handler.h"

namespace atl::soft {

/// A branch target by the width of the instruction pointer that the branch sets.
template <class T>
inline bool target_allowed(const Core& core, T target) {
  if constexpr (sizeof(T) == 8) return is_canonical(target);
  return target <= core.seg[kCs].limit;
}

[[gnu::always_inline]] inline const Op* enter(Core& core, const CodeBlock* block, u64 target) {
  core.block_rip = target;
  core.stats.instructions += block->op_count;
  return block->ops->run(core, block->ops);
}

inline bool undisturbed(const Core& core) { return core.attention.load(std::memory_order_relaxed) == 0; }

/// Whether `target` is mapped, and to `gpa`. Linked code segments have base 0.
inline bool maps_to(Core& core, u64 target, GuestAddr gpa) {
  return core.tlb.fetch_at(core.user(), target).maps(target, gpa);
}

/// To the run loop, which finds the block for `target` and links `op` to it.
template <class T>
[[gnu::noinline]] const Op* jump_unlinked(Core& core, const Op* op, u64 target) {
  if (!target_allowed<T>(core, static_cast<T>(target))) return leave_raising(core, op, kGP, 0);
  core.rip = target;
  return op;
}

/// A direct branch of `op`, linked through `holder` (op itself or the end that follows it). A target in the same page needs no
/// look at the mapping: this page's was right when the block was entered, and what changes it goes through the run loop.
template <class T, bool kSamePage>
[[gnu::always_inline]] inline const Op* jump_direct(Core& core, const Op* holder, u64 target) {
  if constexpr (kTailCalls) {
    CodeBlock* block = holder->link;
    if (block && block->fresh() && undisturbed(core) && (kSamePage || maps_to(core, target, block->gpa))) [[likely]] {
      return enter(core, block, target);
    }
  }
  return jump_unlinked<T>(core, holder, target);
}

/// An indirect branch; the target has been checked.
[[gnu::always_inline]] inline const Op* jump_indirect(Core& core, u64 target) {
  if constexpr (kTailCalls) {
    const FetchEntry& e = core.tlb.fetch_at(core.user(), target);
    GuestAddr gpa = e.gpa | (target & 0xfff);
    const CodeBlock* block = core.blocks->jump_candidate(gpa);
    if ((target ^ e.tag) < kPageSize && block->gpa == gpa && block->mode == core.block_mode && block->fresh() &&
        undisturbed(core)) [[likely]] {
      return enter(core, block, target);
    }
  }
  core.rip = target;
  return nullptr;
}

/// Whether a system instruction left core.block_mode right: 64-bit code before and after it, which has one mode only.
inline bool chains_in_long_mode(const Core& core) {
  return core.code_size == CodeSize::k64 && (core.block_mode & 3) == static_cast<u8>(CodeSize::k64);
}

}  // namespace atl::soft
