// The VM behind the gdb stub: -gdb and -s. Control thread.
#pragma once

#include "control/gdb/server.h"
#include "control/vm_control.h"

namespace atl::control {

class MachineTarget final : public GdbTarget {
 public:
  explicit MachineTarget(VmControl& control) : control_(control) {}

  u32 cpu_count() const override { return static_cast<u32>(machine().cpus().size()); }
  Result<cpu::VcpuState> state(u32 cpu) override { return machine().cpu_state(cpu); }
  Status set_state(u32 cpu, const cpu::VcpuState& state) override { return machine().set_cpu_state(cpu, state); }
  Result<std::vector<u8>> read(u32 cpu, u64 address, u64 size_bytes) override {
    return machine().read_memory(false, cpu, address, size_bytes);
  }
  Status write(u32 cpu, u64 address, std::span<const u8> data) override { return machine().write_memory(cpu, address, data); }
  Status set_points(const std::vector<cpu::DebugRequest::Point>& points) override {
    return machine().set_debug_points(points);
  }
  Status resume(std::optional<u32> step_cpu) override { return step_cpu ? machine().step_cpu(*step_cpu) : machine().resume(); }
  Status interrupt() override { return machine().pause(); }
  void quit() override { control_.quit("host-ui"); }

 private:
  machine::Machine& machine() const { return control_.machine(); }

  VmControl& control_;
};

/// A debugger's connection to a VM whose machine exists. VmControl owns it and tells it the news.
class GdbStub {
 public:
  GdbStub(VmControl& control, CharBackend& backend);

  void on_event(const machine::Event& event);

 private:
  MachineTarget target_;
  GdbServer server_;
};

}  // namespace atl::control
