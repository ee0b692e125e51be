#include "cpu/soft/exec/run.h"

#include <optional>

#include "cpu/soft/direct/tier.h"
#include "cpu/soft/exec/block_cache.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/events.h"
#include "cpu/soft/system/smm.h"
#include "cpu/soft/system/state.h"
#include "cpu/soft/translate/runtime.h"

namespace atl::soft {

namespace {

using cpu::RunExit;

bool take(Core& core, u32 bit) { return core.attention.fetch_and(~bit, std::memory_order_seq_cst) & bit; }

bool waits_for_sipi(const Core& core) {
  return core.mp_state == MpState::Uninitialized || core.mp_state == MpState::InitReceived;
}

/// Drops write tags for pages that have come to hold code, and takes up a changed memory map.
void attend_tlb(Core& core) {
  u64 epoch = core.vm->code_epoch.load(std::memory_order_seq_cst);
  drop_all_write_tags(core);
  sync_memory_map(core);
  core.code_epoch_seen.store(epoch, std::memory_order_seq_cst);
}

void attend_init(Core& core) {
  init_core(core);
  if (core.apic) core.apic->reset(true);
}

void attend_sipi(Core& core) {
  if (waits_for_sipi(core) && core.apic) start_sipi(core, core.apic->sipi_vector());
}

/// SDM vol. 3, 7.7.1: blocked from delivery to IRET. The bit stays set meanwhile: one NMI is remembered.
bool attend_nmi(Core& core) {
  if (core.nmi_masked && core.apic) core.apic->merge_nmis();
  if (core.nmi_masked || core.interrupt_shadow || !take(core, kAttendNmi)) return true;
  if (core.apic && core.apic->take_nmi()) core.attention.fetch_or(kAttendNmi, std::memory_order_relaxed);
  core.mp_state = MpState::Runnable;
  return deliver_nmi(core);
}

/// STI sets no shadow, only notes where it ends, so that nothing has to be done as long as no interrupt waits.
bool begin_shadow(Core& core) {
  if (core.rip != core.shadow_rip) return false;
  core.shadow_rip = kNoShadow;
  core.interrupt_shadow = true;
  attend_stepping(core);
  return true;
}

/// Blocked in system management mode, but remembered.
void attend_smi(Core& core) {
  if (core.smm || core.interrupt_shadow || begin_shadow(core) || !take(core, kAttendSmi)) return;
  enter_smm(core);
}

/// False: triple fault.
bool attend_interrupt(Core& core) {
  core.interrupt_refused = !(core.other_flags & kIF);
  if (core.interrupt_refused || core.interrupt_shadow || begin_shadow(core)) return true;
  int vector = take_interrupt(core);
  if (vector < 0) return true;
  if (core.direct) core.direct->sample();
  ++core.stats.interrupts;
  core.mp_state = MpState::Runnable;
  return deliver_interrupt(core, static_cast<u8>(vector));
}

/// One instruction with everything that may surround it. False: triple fault.
bool step_attentively(Core& core) {
  StepState before = step_state(core);
  bool done = before_instruction(core);
  if (done) {
    const CodeBlock* block = core.blocks->find_single();
    if (block) {
      core.block_rip = core.rip;
      core.leave_block = false;
      ++core.stats.instructions;
      block->ops->run(core, block->ops);
    }
    done = !core.fault_pending;
  }
  if (done) done = after_instruction(core, before);
  if (!done && !deliver_exception(core)) return false;
  // The end of a shadow lets an interrupt in that was not asked for again.
  if (before.shadow && interrupt_pending(core)) core.attention.fetch_or(kAttendInterrupt, std::memory_order_relaxed);
  return true;
}

/// Serves what waits. Nothing: go on with blocks or, if kAttendMode is still set, with one instruction.
std::optional<RunExit> attend(Core& core) {
  for (;;) {
    u32 bits = core.attention.load(std::memory_order_seq_cst);
    if (bits & kAttendKick) {
      take(core, kAttendKick);
      return RunExit::Kicked;
    }
    if (bits & kAttendCode) take(core, kAttendCode);  // to have left translated code is all it takes
    if ((bits & kAttendTlb) && take(core, kAttendTlb)) attend_tlb(core);
    if ((bits & kAttendInit) && !core.smm && take(core, kAttendInit)) attend_init(core);
    if ((bits & kAttendSipi) && !core.smm && take(core, kAttendSipi)) attend_sipi(core);
    if (!waits_for_sipi(core)) {
      if (bits & kAttendSmi) attend_smi(core);
      if ((bits & kAttendNmi) && !attend_nmi(core)) return RunExit::Reset;
      if ((bits & kAttendInterrupt) && take(core, kAttendInterrupt) && !attend_interrupt(core)) return RunExit::Reset;
    }
    if (core.mp_state == MpState::Runnable) return std::nullopt;
    ++core.stats.halts;
    wait_for_attention(core);
  }
}

/// Runs translated code at core.rip, or the block there and those it is linked to. Links `from`, the op that led here, to it. Returns the op that ends
/// the last block if it may be linked.
const Op* run_blocks(Core& core, const Op* from) {
  if (core.direct && core.direct->run()) return nullptr;
  if (core.translation && core.translation->run()) return nullptr;
  BlockCache& cache = *core.blocks;
  u64 generation = cache.generation();
  CodeBlock* block = cache.find();
  if (!block) return nullptr;
  if (from && block->linkable() && generation == cache.generation()) from->link = block;
  core.leave_block = false;
  core.block_rip = core.rip;
  core.stats.instructions += block->op_count;
  const Op* last = block->ops->run(core, block->ops);
  return block->linkable() ? last : nullptr;
}

}  // namespace

RunExit run(Core& core) {
  const Op* from = nullptr;
  core.interrupt_refused = 1;  // the state may be another one than before
  core.tsc = {};
  for (;;) {
    if (core.attention.load(std::memory_order_relaxed) != 0 || core.mp_state != MpState::Runnable) [[unlikely]] {
      from = nullptr;
      if (auto exit = attend(core)) return *exit;
      if (needs_stepping(core)) {
        if (stop_at_execution_point(core)) return RunExit::Debug;
        if (!step_attentively(core)) return RunExit::Reset;
        if (core.debugger_hit) return RunExit::Debug;
        continue;
      }
      core.attention.fetch_and(~u32{kAttendMode}, std::memory_order_relaxed);
    }
    if (stop_at_execution_point(core)) [[unlikely]] return RunExit::Debug;
    from = run_blocks(core, from);
    if (core.debug_hits && !core.fault_pending) after_instruction(core, {});
    if (core.fault_pending) [[unlikely]] {
      from = nullptr;
      if (!deliver_exception(core)) return RunExit::Reset;
    }
    if (core.debugger_hit) [[unlikely]] return RunExit::Debug;
    if (core.shutdown) [[unlikely]] {
      core.shutdown = false;
      return RunExit::Reset;
    }
  }
}

bool step_one(Core& core) {
  // Keeps the one instruction from running on into the next block.
  core.attention.fetch_or(kAttendMode, std::memory_order_relaxed);
  bool ok = step_attentively(core);
  if (!needs_stepping(core)) core.attention.fetch_and(~u32{kAttendMode}, std::memory_order_relaxed);
  return ok;
}

std::unique_ptr<BlockCache> attach_block_cache(Core& core) {
  auto blocks = std::make_unique<BlockCache>(core);
  core.blocks = blocks.get();
  return blocks;
}

}  // namespace atl::soft
