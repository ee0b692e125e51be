#include "cpu/soft/translate/tier.h"

#include <algorithm>

#include "cpu/soft/exec/handler.h"
#include "cpu/soft/translate/runtime.h"

namespace atl::soft::translate {
namespace {

/// Entries before a block is translated, and before a translation that was not possible at the moment is tried again.
constexpr u64 kHot = 64, kAgain = 16;
/// A page whose code is rewritten again and again: each time its blocks wait twice as long, up to where translating them once more
/// costs little beside what has run meanwhile. (Linux patches some of its hottest pages dozens of times while it boots.)
constexpr u32 kMostDoublings = 8;

/// Blocks lie in the arena with their ops behind them.
CodeBlock& block_of(const Op* first) { return reinterpret_cast<CodeBlock*>(const_cast<Op*>(first))[-1]; }

const Op* run_counted(Core& core, const Op* op);

/// For a block that cannot be translated.
const Op* run_plain(Core& core, const Op* op) { return next(core, op); }

bool run_translation(Core& core, const CodeBlock& block) {
  core.rip = core.block_rip;
  if (!core.translation->run()) return false;
  core.stats.instructions -= block.op_count;  // counted when the block was entered
  return true;
}

/// The translation may be gone, or be one for another mode.
[[gnu::noinline]] const Op* run_hot(Core& core, const Op* op) {
  if (run_translation(core, block_of(op))) return nullptr;
  Op& mine = block_of(op).ops[0];
  mine.run = run_counted;
  mine.imm = kAgain << core.translation->cache().patience();
  return next(core, op);
}

[[gnu::noinline]] const Op* become_hot(Core& core, const Op* op) {
  CodeBlock& block = block_of(op);
  Op& mine = block.ops[0];
  core.rip = core.block_rip;
  using Outcome = CodeCache::Outcome;
  Outcome outcome = block.settled() && block.fresh() ? core.translation->translate(block.version) : Outcome::Busy;
  if (outcome == Outcome::Ready) {
    mine.run = run_hot;
    return run_hot(core, op);
  }
  mine.imm = core.translation->cache().options().translation == Translation::Always ? 1 : kAgain;
  if (outcome == Outcome::Refused) mine.run = run_plain;
  return next(core, op);
}

const Op* run_counted(Core& core, const Op* op) {
  if (--block_of(op).ops[0].imm != 0) [[likely]] return next(core, op);
  return become_hot(core, op);
}

}  // namespace

Op counting_op(Core& core, GuestAddr gpa) {
  CodeCache& cache = core.translation->cache();
  cache.note_start(gpa);
  Op op;
  op.run = run_counted;
  op.imm = 1;
  if (cache.options().translation != Translation::Always) op.imm = kHot << std::min(cache.rewrites(gpa) + cache.patience(), kMostDoublings);
  return op;
}

}  // namespace atl::soft::translate
