// What the software vCPUs of one VM share.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/vm_clock.h"
#include "cpu/soft/code_pages.h"
#include "cpu/vm.h"

namespace atl::soft {

struct Core;
class InterruptChips;  // irq/interrupt_chips.h

struct SoftVm {
  memory::AddressSpace* memory = nullptr;
  memory::AddressSpace* ports = nullptr;
  VmClock clock;                    // guest time; the TSC counts its nanoseconds (1 GHz)
  CodePages code;                   // which guest pages hold decoded code
  std::vector<Core*> cores;         // fixed before the first vCPU runs
  std::mutex atomic_fallback;       // LOCKed accesses that no host instruction can do
  InterruptChips* chips = nullptr;
};

/// Makes `core`'s thread look at `reason` soon, waking it from HLT. Any thread.
void request_attention(Core& core, u32 reason);

}  // namespace atl::soft
