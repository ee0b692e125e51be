// One vCPU of a software VM: a Core with its parts, as cpu::Vcpu.
#pragma once

#include <memory>

#include "cpu/soft/core.h"
#include "cpu/soft/direct/tier.h"
#include "cpu/soft/exec/block_cache.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/soft/translate/core_memory.h"
#include "cpu/soft/translate/runtime.h"

namespace atl::soft {

/// A Core and what hangs on it. Owned by the VM, because timers and other vCPUs reach it as long as that lives.
struct CoreParts {
  CpuidTable cpuid;
  CorePtr memory = allocate_core();
  Core& core = *memory;
  std::unique_ptr<LocalApic> apic;  // none in an instruction stepper
  std::unique_ptr<BlockCache> blocks;
  std::unique_ptr<translate::Runtime> translation;  // none if everything is interpreted
  std::unique_ptr<direct::Tier> direct;             // none unless asked for
};

std::unique_ptr<CoreParts> make_core(SoftVm& vm, u32 index, const CpuidTable& cpuid);

class SoftVcpu final : public Vcpu {
 public:
  explicit SoftVcpu(Core& core) : core_(core) {}

  RunExit run() override;
  void kick() override { request_attention(core_, kAttendKick); }
  Result<VcpuState> get_state() override;
  Status set_state(const VcpuState& state) override;
  Status inject_nmi() override;
  Status set_debug(const DebugRequest& request) override;
  std::optional<DebugRequest::Point> debug_hit() const override { return core_.debugger_hit; }
  std::string failure() const override { return {}; }
  std::optional<GuestAddr> translate(u64 linear) override;
  Counters counters() const override;

 private:
  RunExit run_one();

  Core& core_;
  bool thread_prepared_ = false;
};

}  // namespace atl::soft
