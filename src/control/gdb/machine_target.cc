#include "control/gdb/machine_target.h"

namespace atl::control {

GdbStub::GdbStub(VmControl& control, CharBackend& backend) : target_(control), server_(backend, target_) {}

void GdbStub::on_event(const machine::Event& event) {
  using Kind = machine::Event::Kind;
  if (event.kind == Kind::Shutdown) server_.exited();
  if (event.kind != Kind::Stop) return;
  if (event.debug) server_.stopped(event.debug->cpu, event.debug->point);
  else server_.stopped(std::nullopt, std::nullopt);
}

}  // namespace atl::control
