// What the gdb stub needs of a machine.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "cpu/vm.h"

namespace atl::control {

/// Control thread. States and memory are only asked for while the machine is stopped.
class GdbTarget {
 public:
  virtual ~GdbTarget() = default;
  virtual u32 cpu_count() const = 0;
  virtual Result<cpu::VcpuState> state(u32 cpu) = 0;
  virtual Status set_state(u32 cpu, const cpu::VcpuState& state) = 0;
  /// Linear addresses of the vCPU.
  virtual Result<std::vector<u8>> read(u32 cpu, u64 address, u64 size_bytes) = 0;
  virtual Status write(u32 cpu, u64 address, std::span<const u8> data) = 0;
  /// Break- and watchpoints of every vCPU, replacing the earlier ones.
  virtual Status set_points(const std::vector<cpu::DebugRequest::Point>& points) = 0;
  /// Runs every vCPU, or lets one execute a single instruction. A stop is told by GdbServer::stopped().
  virtual Status resume(std::optional<u32> step_cpu) = 0;
  /// Stops the machine; stopped() follows.
  virtual Status interrupt() = 0;
  /// The debugger says goodbye, or kills.
  virtual void quit() = 0;
};

}  // namespace atl::control
