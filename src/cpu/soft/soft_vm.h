// What the software vCPUs of one VM share.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/vm_clock.h"
#include "cpu/soft/code_pages.h"
#include "cpu/soft/tsc_clock.h"
#include "cpu/vm.h"

namespace atl::soft {

struct Core;
class InterruptChips;  // irq/interrupt_chips.h
namespace translate {
class CodeCache;       // translate/code_cache.h
}

struct SoftVm {
  memory::AddressSpace* memory = nullptr;
  memory::AddressSpace* ports = nullptr;
  /// Guest time; the TSC counts its nanoseconds (1 GHz): a vCPU's TSC is tsc.now_ns() + core.msr.tsc_offset.
  VmClock clock;
  TscClock tsc{clock};
  CodePages code;                   // which guest pages hold decoded code
  std::atomic<u64> code_epoch{0};   // raised for each page that begins to hold code; see Core::code_epoch_seen
  std::vector<Core*> cores;         // fixed before the first vCPU runs
  std::mutex atomic_fallback;       // LOCKed accesses that no host instruction can do
  InterruptChips* chips = nullptr;
  translate::CodeCache* translations = nullptr;   // none: everything is interpreted
};

// How vCPU threads learn of events. `core.attention` is a set of bits that any thread may set; the vCPU's own thread takes
// them at block boundaries: it clears a bit first and looks at its cause (the local APIC, say) afterwards, so that an event
// that comes in between sets the bit again. A cause that cannot be served yet (interrupt with IF = 0) is not set again by
// the sender: whoever makes it possible (STI, POPF, IRET, end of the shadow) sets kAttendInterrupt if interrupt_pending().
//
// mmu: accesses to the local APIC's page never reach the bus. The MMIO path (read_slow, write_slow, string instructions)
// first offers each access of 1 to 8 bytes to apic_read() or apic_write() of irq/local_apic.h, and uses core.memory_bus
// only if they return false. The page may move (IA32_APIC_BASE), but never over RAM that a TLB entry already maps.

/// Makes `core`'s thread look at `reason` (bits of Attention) soon, waking it from HLT. Any thread.
void request_attention(Core& core, u32 reason);

/// Blocks until core.attention has a bit other than kAttendMode; fires the vCPU's own APIC timer when it is due meanwhile.
/// For HLT and wait-for-SIPI. Own thread. The caller then takes the bits and, if none of them ends the halt, calls again.
void wait_for_attention(Core& core);

}  // namespace atl::soft
