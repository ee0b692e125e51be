// Local APICs and chips for unit tests: cores that never run, with the clock under the test's control.
#pragma once

#include <memory>
#include <vector>

#include "cpu/apic_spec.h"
#include "cpu/soft/core.h"
#include "cpu/soft/irq/interrupt_chips.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

class TestChips {
 public:
  explicit TestChips(u32 cores, cpu::IrqChip kind = cpu::IrqChip::Full) {
    vm.memory = &memory;
    vm.ports = &ports;
    chips = MUST(InterruptChips::create(vm, kind));  // the spaces are empty
    vm.cores.resize(cores);
    for (u32 i = 0; i < cores; ++i) {
      cores_.push_back(std::make_unique<Core>());
      cores_[i]->index = i;
      cores_[i]->vm = &vm;
      cores_[i]->cpuid = &cpuid;
      apics_.push_back(std::make_unique<LocalApic>(*cores_[i], vm, chips->timers()));
      cores_[i]->apic = apics_[i].get();
      vm.cores[i] = cores_[i].get();
    }
    cpuid.set({.leaf = 0, .eax = 1});
    cpuid.set({.leaf = 1, .ecx = 1u << 21});  // x2APIC
  }
  ~TestChips() {
    chips->timers().stop();
    apics_.clear();
  }

  Core& core(u32 i) { return *cores_[i]; }
  LocalApic& apic(u32 i) { return *apics_[i]; }
  void enable(u32 i) { apic(i).write(kApicSvr, kSvrEnable | 0xff); }
  bool attends(u32 i, u32 reason) { return core(i).attention.load() & reason; }
  /// Moves the paused clock.
  void set_time(u64 ns) { vm.clock.set_ns(ns); }

  memory::AddressSpace memory{"memory", u64{1} << 40};
  memory::AddressSpace ports{"ports", 1 << 16};
  cpu::CpuidTable cpuid;
  SoftVm vm;
  std::unique_ptr<InterruptChips> chips;

 private:
  std::vector<std::unique_ptr<Core>> cores_;
  std::vector<std::unique_ptr<LocalApic>> apics_;
};

}  // namespace atl::soft
