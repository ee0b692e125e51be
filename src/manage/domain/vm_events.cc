// What a VM tells by itself: QMP events into states, events of clients, and what the definition wants done at the end.
#include <unistd.h>

#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "manage/domain/aliases.h"
#include "manage/domain/domains.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;

std::string text_of(const Json& data, const char* key) {
  auto at = data.is_object() ? data.find(key) : data.end();
  return data.is_object() && at != data.end() && at->is_string() ? at->get<std::string>() : std::string();
}

/// The disk whose device or node an event names.
const Element* find_disk(const Element& tree, const std::string& device, const std::string& node) {
  for (const Element* disk : devices_of(tree).children("disk"))
    if ((!device.empty() && alias_of(*disk) == device) || (!node.empty() && disk_node(*disk) == node)) return disk;
  return nullptr;
}

std::string source_path(const Element& disk) {
  const std::string file = at(disk, "source", "file");
  return file.empty() ? at(disk, "source", "dev") : file;
}

}  // namespace

QmpClient::Callbacks Domains::callbacks(const DomainPtr& domain, const std::shared_ptr<RunningVm>& vm) {
  std::weak_ptr<Domain> weak = domain;
  std::weak_ptr<RunningVm> weak_vm = vm;
  QmpClient::Callbacks callbacks;
  callbacks.event = [this, weak](const std::string& name, const Json& data, i64 seconds, u32 micros) {
    DomainPtr self = weak.lock();
    if (!self) return;
    events_.qemu_monitor(self->ref(), name, seconds, micros, data.is_null() ? std::nullopt : std::optional(data.dump()));
    take_event(self, name, data);
  };
  callbacks.closed = [this, weak, weak_vm] {
    DomainPtr self = weak.lock();
    if (!self) return;
    errands_.run("vm ended", [this, self, weak_vm] {
      auto ended = weak_vm.lock();
      if (!ended || self->running() != ended) return;
      // Whoever starts or destroys it clears up behind it, and knows the reason.
      auto job = self->begin_job();
      if (self->running() != ended) return;
      const bool shut_down = self->facts().state.state == RunState::Shutdown;
      finish(*self, shut_down ? ShutoffReason::Shutdown : ShutoffReason::Crashed);
    });
  };
  return callbacks;
}

void Domains::guest_ended(const DomainPtr& domain, const Json& data) {
  const bool guest = data.is_object() && data.value("guest", false);
  if (!guest && domain->facts().state.state == RunState::Shutdown) return;  // the end of what the guest began
  domain->set_running_state(make_state(RunState::Shutdown, ShutdownReason::Unknown));
  events_.domain_lifecycle(domain->ref(), static_cast<i32>(LifecycleEvent::Shutdown),
                           guest ? lifecycle_detail::kShutdownGuest : lifecycle_detail::kShutdownHost);
  // Ended from outside, the process goes by itself.
  const std::string reason = text_of(data, "reason");
  if (!guest && (reason == "host-signal" || reason == "host-qmp-quit")) return;
  // With -no-reboot a reset is an end, too.
  const bool reset = reason == "guest-reset";
  errands_.run("guest ended", [this, domain, reset] { settle_shutdown(domain, reset); });
}

/// The guest has powered off and the VM waits: on_poweroff decides, or a reboot that was asked for through ACPI.
void Domains::settle_shutdown(const DomainPtr& domain, bool for_good) {
  auto job = domain->begin_job();
  auto vm = domain->running();
  auto tree = domain->live();
  if (!job || !vm || !tree || !vm->monitor) return;
  const bool expected = domain->take_expected_reboot();
  const bool again = !for_good && (expected || text_at(*tree, "on_poweroff").ends_with("restart"));
  if (!again && !for_good && text_at(*tree, "on_poweroff") == "preserve") {
    domain->set_running_state(make_state(RunState::Paused, PausedReason::ShuttingDown));
    return save_status(*domain);
  }
  if (again && vm->monitor->execute("system_reset", Json::object(), kAnswer_ns) && vm->monitor->execute("cont", Json::object(), kAnswer_ns)) {
    domain->set_running_state(make_state(RunState::Running, RunningReason::Booted));
    return save_status(*domain);
  }
  (void)vm->monitor->execute("quit", Json::object(), kAnswer_ns);
  wait_for_end(vm->process, kAnswer_ns);
  finish(*domain, ShutoffReason::Shutdown);
}

namespace {

/// What a handler may use.
struct Told {
  Events& events;
  const DomainPtr& domain;
  const Json& data;
};

void on_stop(const Told& t) {
  if (t.domain->facts().state.state != RunState::Running) return;
  t.domain->set_running_state(make_state(RunState::Paused, PausedReason::User));
  t.events.domain_lifecycle(t.domain->ref(), static_cast<i32>(LifecycleEvent::Suspended), lifecycle_detail::kSuspendedPaused);
}

void on_resume(const Told& t) {
  const DomainState before = t.domain->facts().state;
  if (before.state == RunState::Running) return;
  const bool booting = before == make_state(RunState::Paused, PausedReason::StartingUp);
  t.domain->set_running_state(make_state(RunState::Running, booting ? RunningReason::Booted : RunningReason::Unpaused));
  t.events.domain_lifecycle(t.domain->ref(), static_cast<i32>(LifecycleEvent::Resumed), lifecycle_detail::kResumedUnpaused);
}

void on_reset(const Told& t) { t.events.domain(DomainEvent::Reboot, t.domain->ref()); }

void on_rtc_change(const Told& t) {
  if (t.data.is_object()) t.events.domain(DomainEvent::RtcChange, t.domain->ref(), t.data.value("offset", i64{0}));
}

void on_balloon_change(const Told& t) {
  if (!t.data.is_object()) return;
  const u64 kib = t.data.value("actual", u64{0}) / kKiB;
  if (auto live = t.domain->live()) {
    Element tree = *live;
    ensure(tree, "currentMemory").set_text(std::to_string(kib));
    t.domain->set_live(std::move(tree));
  }
  t.events.domain(DomainEvent::BalloonChange, t.domain->ref(), kib);
}

void on_io_error(const Told& t) {
  auto tree = t.domain->live();
  const Element* disk = tree ? find_disk(*tree, text_of(t.data, "device"), text_of(t.data, "node-name")) : nullptr;
  if (!disk) return;
  const std::string what = text_of(t.data, "action");
  const i32 action = what == "report" ? 2 : what == "stop" ? 1 : 0;  // VIR_DOMAIN_EVENT_IO_ERROR_*
  const std::string path = source_path(*disk), alias = alias_of(*disk);
  const std::string reason = t.data.value("nospace", false) ? "enospc" : "";
  t.events.domain(DomainEvent::IoError, t.domain->ref(), path, alias, action);
  t.events.domain(DomainEvent::IoErrorReason, t.domain->ref(), path, alias, action, reason);
  if (action == 1) {
    t.domain->set_running_state(make_state(RunState::Paused, PausedReason::IoError));
    t.events.domain_lifecycle(t.domain->ref(), static_cast<i32>(LifecycleEvent::Suspended), lifecycle_detail::kSuspendedIoError);
  }
}

/// Block jobs have the name of their disk ("vda"); types and states as in libvirt-domain.h.
void on_block_job(const Told& t, i32 status) {
  auto tree = t.domain->live();
  const std::string job = text_of(t.data, "device"), kind = text_of(t.data, "type");
  if (!tree) return;
  for (const Element* disk : devices_of(*tree).children("disk")) {
    const std::string target = at(*disk, "target", "dev");
    if (job != "job-" + target) continue;
    const i32 type = kind == "stream" ? 1 : kind == "mirror" ? 2 : kind == "commit" ? 3 : kind == "backup" ? 5 : 0;
    const bool failed = status == 0 && t.data.contains("error");
    t.events.domain(DomainEvent::BlockJob, t.domain->ref(), source_path(*disk), type, failed ? 1 : status);
    t.events.domain(DomainEvent::BlockJob2, t.domain->ref(), target, type, failed ? 1 : status);
  }
}
void on_job_completed(const Told& t) { on_block_job(t, 0); }
void on_job_cancelled(const Told& t) { on_block_job(t, 2); }
void on_job_ready(const Told& t) { on_block_job(t, 3); }

void on_watchdog(const Told& t) {
  constexpr std::array<std::string_view, 7> kActions = {"none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi"};
  const std::string action = text_of(t.data, "action");
  for (size_t i = 0; i < kActions.size(); ++i)
    if (kActions[i] == action) t.events.domain(DomainEvent::Watchdog, t.domain->ref(), static_cast<i32>(i));
}

struct Handler {
  std::string_view name;
  void (*handle)(const Told&);
};
constexpr Handler kHandlers[] = {{"STOP", on_stop},
                                 {"RESUME", on_resume},
                                 {"RESET", on_reset},
                                 {"RTC_CHANGE", on_rtc_change},
                                 {"BALLOON_CHANGE", on_balloon_change},
                                 {"BLOCK_IO_ERROR", on_io_error},
                                 {"BLOCK_JOB_COMPLETED", on_job_completed},
                                 {"BLOCK_JOB_CANCELLED", on_job_cancelled},
                                 {"BLOCK_JOB_READY", on_job_ready},
                                 {"WATCHDOG", on_watchdog}};

}  // namespace

void Domains::take_event(const DomainPtr& domain, const std::string& name, const Json& data) {
  if (name == "SHUTDOWN") return guest_ended(domain, data);
  if (name == "DEVICE_DELETED") return device_gone(domain, text_of(data, "device"));
  for (const auto& handler : kHandlers)
    if (handler.name == name) handler.handle({events_, domain, data});
}

void Domains::device_gone(const DomainPtr& domain, const std::string& alias) {
  auto live = domain->live();
  auto vm = domain->running();
  if (!live || !vm || alias.empty()) return;
  Element tree = *live;
  bool found = false;
  devices_of(tree).content().remove_if([&](const Element& device) {
    if (device.is_text() || alias_of(device) != alias) return false;
    if (device.name() == "interface") unplug(device);
    if (device.name() == "disk") release_disk(*vm, device);
    return found = true;
  });
  if (!found) return;
  domain->set_live(std::move(tree));
  save_status(*domain);
  events_.domain(DomainEvent::DeviceRemoved, domain->ref(), alias);
}

/// A VM that an earlier daemon started.
void Domains::reconnect(const DomainPtr& domain, const std::shared_ptr<RunningVm>& vm) {
  constexpr u64 kPatience_ns = 5'000'000'000;
  while (!errands_.is_ending() && is_alive(vm->process)) {
    auto monitor = QmpClient::connect(*monitors_, vm->folder + "/monitor.sock", callbacks(domain, vm), kPatience_ns);
    if (!monitor) {
      ::usleep(100'000);
      continue;
    }
    auto status = (*monitor)->execute("query-status", Json::object(), kAnswer_ns);
    domain->adopt_monitor(std::move(*monitor));
    if (status) take_reported_state(domain, status->value("status", ""));
    if (Status learned = learn_details(*domain, *vm); !learned) log_error("domain '{}': {}", domain->name(), learned.error().message());
    return save_status(*domain);
  }
  if (errands_.is_ending()) return;
  auto job = domain->begin_job();
  const bool shut_down = domain->facts().state.state == RunState::Shutdown;
  finish(*domain, shut_down ? ShutoffReason::Shutdown : ShutoffReason::Crashed);
}

void Domains::take_reported_state(const DomainPtr& domain, const std::string& status) {
  const DomainState known = domain->facts().state;
  if (status == "running" && known.state != RunState::Running)
    domain->set_running_state(make_state(RunState::Running, RunningReason::Unpaused));
  else if (status == "shutdown")
    guest_ended(domain, {{"guest", true}});
  else if (status == "io-error")
    domain->set_running_state(make_state(RunState::Paused, PausedReason::IoError));
  else if (status != "running" && known.state == RunState::Running)
    domain->set_running_state(make_state(RunState::Paused, PausedReason::Unknown));
}

}  // namespace atl::manage
