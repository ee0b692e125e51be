// What a debugger does to a machine.
#include <algorithm>

#include <fmt/core.h>

#include "base/log.h"
#include "machine/machine_impl.h"

namespace atl::machine {

Status MachineImpl::check_cpu(u32 index) const {
  if (index < threads_->count()) return {};
  return Error(ErrorKind::Invalid, fmt::format("CPU {} does not exist", index));
}

Status MachineImpl::set_cpu_state(u32 index, const cpu::VcpuState& state) {
  TRY(check_cpu(index));
  return while_paused([&] { return threads_->vcpu(index).set_state(state); });
}

Status MachineImpl::write_memory(u32 cpu_index, u64 address, std::span<const u8> data) {
  TRY(check_cpu(cpu_index));
  return while_paused([&]() -> Status {
    const auto memory = memory_.guest_memory();
    while (!data.empty()) {
      const auto piece = data.first(std::min<u64>(data.size(), kPageSize - address % kPageSize));
      const auto at = threads_->vcpu(cpu_index).translate(address);
      if (!at || !memory->write(*at, piece)) {
        return Error(ErrorKind::Invalid, fmt::format("Cannot access memory at address {:#x}", address));
      }
      address += piece.size();
      data = data.subspan(piece.size());
    }
    return {};
  });
}

Status MachineImpl::set_debug_points(const std::vector<cpu::DebugRequest::Point>& points) {
  return while_paused([&]() -> Status {
    for (u32 i = 0; i < threads_->count(); ++i) TRY(threads_->vcpu(i).set_debug({.points = points}));
    debug_points_ = points;
    return {};
  });
}

Status MachineImpl::step_cpu(u32 index) {
  TRY(check_cpu(index));
  if (state_ == RunState::Running) return Error(ErrorKind::Invalid, "the machine is running");
  TRY(threads_->vcpu(index).set_debug({.single_step = true, .points = debug_points_}));
  return go_on(index);
}

void MachineImpl::debug_stopped(u32 index) {
  if (state_ != RunState::Running) return;
  if (auto stopped = stop_everything(); !stopped) log_warning("{}", stopped.error().text());
  cpu::Vcpu& vcpu = threads_->vcpu(index);
  const DebugStop stop{.cpu = index, .point = vcpu.debug_hit()};
  if (auto reset = vcpu.set_debug({.points = debug_points_}); !reset) log_warning("{}", reset.error().text());
  set_state(RunState::Debug);
  emit({.kind = Event::Kind::Stop, .debug = stop});
}

}  // namespace atl::machine
