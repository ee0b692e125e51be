#include "control/guest_dump.h"

namespace atl::control {

Status GuestDump::start(machine::Machine& machine, Request request) {
  if (state_ == State::Active) return Error(ErrorKind::Busy, "There is a dump in process, please wait.");
  was_running_ = machine.state() == machine::RunState::Running;
  if (was_running_) TRY(machine.pause());
  states_.clear();
  for (const auto& cpu : machine.cpus()) states_.push_back(TRY(machine.cpu_state(cpu.index)));
  memory_ = machine.guest_memory();
  progress_.completed = progress_.total = 0;
  state_ = State::Active;
  if (!request.detach) return finish(machine, write(request));
  thread_.join();
  thread_ = TRY(Thread::start("dump", [this, &machine, held = std::make_shared<Request>(std::move(request)), alive = std::weak_ptr(alive_)] {
    auto written = std::make_shared<Status>(write(*held));
    loop_.post([this, &machine, written, alive] {
      if (alive.lock()) static_cast<void>(finish(machine, *written));  // the report tells of an error
    });
  }));
  return {};
}

/// Any thread.
Status GuestDump::write(const Request& request) {
  return write_core_dump(request.file, *memory_, states_, request.range, progress_);
}

Status GuestDump::finish(machine::Machine& machine, const Status& written) {
  state_ = written ? State::Completed : State::Failed;
  memory_.reset();
  const u64 done = written ? progress_.total.load() : progress_.completed.load();
  progress_.completed = done;
  if (was_running_ && machine.state() == machine::RunState::Paused) TRY(machine.resume());
  report_(done, progress_.total, written);
  return written;
}

}  // namespace atl::control
