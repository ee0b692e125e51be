// Waking and halting vCPU threads: `Core::attention` is the futex they sleep on.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "cpu/soft/core.h"
#include "cpu/soft/direct/tier.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

namespace {

u32* futex_word(std::atomic<u32>& word) {
  static_assert(sizeof(std::atomic<u32>) == sizeof(u32) && std::atomic<u32>::is_always_lock_free);
  return reinterpret_cast<u32*>(&word);
}

/// Sleeps while `word` holds `expected`, until CLOCK_MONOTONIC shows `until_ns` (0: for ever).
void futex_wait(std::atomic<u32>& word, u32 expected, u64 until_ns) {
  timespec until{.tv_sec = static_cast<time_t>(until_ns / 1'000'000'000), .tv_nsec = static_cast<long>(until_ns % 1'000'000'000)};
  ::syscall(SYS_futex, futex_word(word), FUTEX_WAIT_BITSET_PRIVATE, expected, until_ns ? &until : nullptr, nullptr,
            FUTEX_BITSET_MATCH_ANY);
}

void futex_wake(std::atomic<u32>& word) { ::syscall(SYS_futex, futex_word(word), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0); }

/// CLOCK_MONOTONIC time of the vCPU's next APIC timer interrupt, 0 if none is due within a day.
u64 wake_up_time(const Core& core) {
  constexpr u64 kDayNs = u64{86400} * 1'000'000'000;
  u64 deadline_ns = core.apic->timer_deadline_ns();
  const VmClock& clock = core.vm->clock;
  if (!clock.running() || deadline_ns >= clock.now_ns() + kDayNs) return 0;
  return std::max<u64>(clock.to_monotonic_ns(deadline_ns), 1);
}

/// Bits that do not end the wait: they stay set until the vCPU gets into a state in which it can serve them.
u32 deferred(const Core& core) {
  bool waits_for_sipi = core.mp_state == MpState::Uninitialized || core.mp_state == MpState::InitReceived;
  if (waits_for_sipi) return kAttendMode | kAttendNmi | kAttendInterrupt | kAttendSmi;
  const u32 in_smm = core.smm ? u32{kAttendSmi | kAttendInit | kAttendSipi} : 0;
  return kAttendMode | in_smm | (core.nmi_masked ? u32{kAttendNmi} : 0);
}

/// Looks for a wanted bit for as long as recent halts say that it pays. False: none has come.
bool poll(Core& core, u32 wanted, u64 begin_ns) {
  const u64 wake_up_ns = wake_up_time(core);
  const u64 end_ns = std::min(begin_ns + core.halt_poll.limit_ns(), wake_up_ns ? wake_up_ns : ~u64{0});
  while (!(core.attention.load(std::memory_order_acquire) & wanted)) {
    if (monotonic_ns() >= end_ns) return false;
    for (int i = 0; i < 8; ++i) __builtin_ia32_pause();
  }
  return true;
}

void sleep(Core& core, u32 wanted) {
  core.apic->set_asleep(true);
  for (u32 bits = core.attention.load(); !(bits & wanted); bits = core.attention.load()) {
    futex_wait(core.attention, bits, wake_up_time(core));
    core.apic->fire_timer_if_due();
  }
  core.apic->set_asleep(false);
}

}  // namespace

void request_attention(Core& core, u32 reason) {
  core.attention.fetch_or(reason, std::memory_order_seq_cst);
  // The sleeper sets its flag before it looks at the bits, we set bits before we look at the flag: one of us sees the other.
  if (!core.apic || core.apic->asleep()) futex_wake(core.attention);
  if (core.direct) core.direct->kick();
}

void wait_for_attention(Core& core) {
  if (!core.apic) return;
  const u32 wanted = ~deferred(core);
  const u64 begin_ns = monotonic_ns();
  if (!poll(core, wanted, begin_ns)) sleep(core, wanted);
  core.halt_poll.halted(monotonic_ns() - begin_ns);
}

}  // namespace atl::soft
