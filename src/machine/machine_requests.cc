// What vCPU threads and devices ask of the machine: reset, power off, sleep, and what is done when the guest has failed.
#include "base/log.h"
#include "machine/machine_impl.h"

namespace atl::machine {

void MachineImpl::request_reset() {
  reset_requested_ = true;
  if (threads_) threads_->request_pause();
  post([this] { handle_requests(); });
}

void MachineImpl::request_power_off() {
  power_off_requested_ = true;
  if (threads_) threads_->request_pause();
  post([this] { handle_requests(); });
}

void MachineImpl::request_suspend() {
  suspend_requested_ = true;
  if (threads_) threads_->request_pause();
  post([this] { handle_requests(); });
}

void MachineImpl::request_hibernate() {
  hibernate_requested_ = true;
  if (threads_) threads_->request_pause();
  post([this] { handle_requests(); });
}

void MachineImpl::report_alarm() {
  post([this] {
    if (state_ == RunState::Suspended) wake(devices::WakeReason::Clock);
  });
}

void MachineImpl::request_exit(int status) {
  int none = -1;
  exit_requested_.compare_exchange_strong(none, status);
  if (threads_) threads_->request_pause();
  post([this] { handle_requests(); });
}

void MachineImpl::report_panic(bool crash_kernel) {
  post([this, crash_kernel] {
    if (crash_kernel) emit({.kind = Event::Kind::GuestCrashLoaded, .action = "run"});
    else guest_panicked();
  });
}

void MachineImpl::report_watchdog() {
  post([this] { watchdog_expired(); });
}

void MachineImpl::stop_in(RunState state) {
  if (state_ != RunState::Running) return;
  if (auto stopped = stop_everything(); !stopped) log_warning("{}", stopped.error().text());
  set_state(state);
  emit({.kind = Event::Kind::Stop});
}

void MachineImpl::guest_panicked() {
  if (state_ != RunState::Running) return;
  const bool pause = panic_action_ == PanicAction::Pause || (panic_action_ == PanicAction::Shutdown && config_.no_shutdown);
  if (panic_action_ == PanicAction::None) return emit({.kind = Event::Kind::GuestPanicked, .action = "run"});
  emit({.kind = Event::Kind::GuestPanicked, .action = pause ? "pause" : "poweroff"});
  stop_in(RunState::GuestPanicked);
  if (pause) return;
  if (panic_action_ == PanicAction::ExitFailure) exit_code_ = 1;
  set_state(RunState::Shutdown);
  emit({.kind = Event::Kind::Shutdown, .guest = true, .reason = "guest-panic"});
}

void MachineImpl::watchdog_expired() {
  static constexpr const char* kNames[] = {"reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"};
  emit({.kind = Event::Kind::Watchdog, .action = kNames[static_cast<size_t>(watchdog_action_)]});
  switch (watchdog_action_) {
    case WatchdogAction::Reset: return request_reset();
    case WatchdogAction::Shutdown: return board_->press_power_button();
    case WatchdogAction::PowerOff: return request_power_off();
    case WatchdogAction::Pause: return stop_in(RunState::Watchdog);
    case WatchdogAction::Debug: return log_warning("watchdog: timer fired");
    case WatchdogAction::None: return;
    case WatchdogAction::InjectNmi:
      if (auto sent = inject_nmi(); !sent) log_warning("watchdog: {}", sent.error().text());
      return;
  }
}

void MachineImpl::on_vcpu_exit(u32 index, cpu::RunExit exit) {
  if (exit == cpu::RunExit::Reset) return request_reset();
  threads_->request_pause();
  if (exit == cpu::RunExit::Debug) return post([this, index] { debug_stopped(index); });
  post([this, index] { vcpu_failed(index); });
}

void MachineImpl::vcpu_failed(u32 index) {
  if (state_ != RunState::Running) return;
  if (auto stopped = stop_everything(); !stopped) log_warning("{}", stopped.error().text());
  log_error("vCPU {}: {}", index, threads_->vcpu(index).failure());
  set_state(RunState::InternalError);
  emit({.kind = Event::Kind::Stop});
}

void MachineImpl::handle_requests() {
  if (state_ != RunState::Running) return;
  const int exit_status = exit_requested_.exchange(-1);
  if (exit_status >= 0) {
    exit_code_ = exit_status;
    return enter_shutdown(true, "guest-shutdown");
  }
  if (power_off_requested_.exchange(false)) return enter_shutdown(true, "guest-shutdown");
  if (hibernate_requested_.exchange(false)) {
    emit({.kind = Event::Kind::SuspendDisk});
    return enter_shutdown(true, "guest-shutdown");
  }
  if (suspend_requested_.exchange(false)) return fall_asleep();
  if (!reset_requested_.exchange(false)) return;
  if (config_.no_reboot) return enter_shutdown(true, "guest-reset");
  Status done = stop_everything();
  if (done) done = power_on().context("reset");
  if (!done) {
    log_error("{}", done.error().text());
    set_state(RunState::InternalError);
    return emit({.kind = Event::Kind::Stop});
  }
  emit({.kind = Event::Kind::Reset, .guest = true, .reason = "guest-reset"});
  run_everything();
}

void MachineImpl::enter_shutdown(bool guest, std::string reason) {
  if (auto stopped = stop_everything(); !stopped) log_warning("{}", stopped.error().text());
  set_state(RunState::Shutdown);
  emit({.kind = Event::Kind::Shutdown, .guest = guest, .reason = std::move(reason)});
}

}  // namespace atl::machine
