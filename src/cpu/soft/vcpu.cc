#include "cpu/soft/vcpu.h"

#include <sys/prctl.h>

#include <atomic>

#include "cpu/soft/direct/tier.h"
#include "cpu/soft/exec/run.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/system/state.h"

namespace atl::soft {

RunExit SoftVcpu::run() {
  if (!thread_prepared_) {
    ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);  // HLT ends when the APIC timer is due, not up to 50 us later
    thread_prepared_ = true;
  }
  core_.debugger_hit.reset();
  return core_.debugger.single_step ? run_one() : soft::run(core_);
}

/// Interrupts wait while the debugger steps: it wants to see the program, not the timer's handler. HLT ends at once.
RunExit SoftVcpu::run_one() {
  if (core_.attention.fetch_and(~u32{kAttendKick}) & kAttendKick) return RunExit::Kicked;
  if (core_.mp_state == MpState::Halted) core_.mp_state = MpState::Runnable;
  return step_one(core_) ? RunExit::Debug : RunExit::Reset;
}

Status SoftVcpu::set_debug(const DebugRequest& request) {
  const bool points_change = !request.points.empty() || !core_.debugger.points.empty();
  core_.debugger = request;
  if (points_change) {
    core_.blocks->clear();
    flush_tlb(core_, false);  // pages with watchpoints leave the fast path
  }
  return {};
}

Result<VcpuState> SoftVcpu::get_state() {
  VcpuState state;
  export_state(core_, state);
  return state;
}

Status SoftVcpu::set_state(const VcpuState& state) { return import_state(core_, state); }

Status SoftVcpu::inject_nmi() {
  core_.apic->nmi_input();
  return {};
}

std::optional<GuestAddr> SoftVcpu::translate(u64 linear) {
  GuestAddr physical = 0;
  if (!debug_translate(core_, linear, physical)) return std::nullopt;
  return physical;
}

Counters SoftVcpu::counters() const {
  auto read = [](u64& counter) { return std::atomic_ref(counter).load(std::memory_order_relaxed); };
  auto& s = core_.stats;
  Counters counters = {{"instructions", read(s.instructions)},
          {"blocks_decoded", read(s.blocks_decoded)},
          {"exceptions", read(s.exceptions)},
          {"irq_injections", read(s.interrupts)},
          {"page_walks", read(s.page_walks)},
          {"mmio_exits", read(s.mmio)},
          {"io_exits", read(s.pio)},
          {"halt_exits", read(s.halts)},
          {"tlb_flush", read(s.tlb_flushes)},
          {"code_invalidations", read(s.code_invalidations)}};
  if (core_.translation) core_.translation->add_counters(counters);
  if (core_.direct) core_.direct->add_counters(counters);
  return counters;
}

}  // namespace atl::soft
