// What a VM tells by itself: QMP events into states, events of clients, and what the definition wants done at the end.
#include <unistd.h>

#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "manage/domain/aliases.h"
#include "manage/domain/backup.h"
#include "manage/domain/block_jobs.h"
#include "manage/domain/channel_state.h"
#include "manage/domain/core_dump.h"
#include "manage/domain/disk_chain.h"
#include "manage/domain/domains.h"
#include "manage/domain/hooks.h"
#include "manage/domain/hotplug.h"
#include "manage/domain/viewer_events.h"

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

// Types and states of block jobs as in libvirt-domain.h.
constexpr i32 kJobCompleted = 0, kJobFailed = 1, kJobCancelled = 2, kJobReady = 3;

void tell_of_job(Events& events, const Domain& domain, const Element& disk, const std::string& kind, i32 status) {
  const i32 type = static_cast<i32>(disk_job_type(disk, kind));
  events.domain(DomainEvent::BlockJob, domain.ref(), source_path(disk), type, status);
  events.domain(DomainEvent::BlockJob2, domain.ref(), at(disk, "target", "dev"), type, status);
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
  if (before.state == RunState::Running || before.state == RunState::Crashed) return;
  const bool booting = before == make_state(RunState::Paused, PausedReason::StartingUp);
  t.domain->set_running_state(make_state(RunState::Running, booting ? RunningReason::Booted : RunningReason::Unpaused));
  t.events.domain_lifecycle(t.domain->ref(), static_cast<i32>(LifecycleEvent::Resumed), lifecycle_detail::kResumedUnpaused);
}

/// The guest sleeps (S3). Detail 0: its memory stays.
void on_guest_suspend(const Told& t) {
  t.domain->set_running_state({RunState::PmSuspended, 0});
  t.events.domain_lifecycle(t.domain->ref(), static_cast<i32>(LifecycleEvent::PmSuspended), 0);
}

void on_wakeup(const Told& t) {
  constexpr i32 kRunningAwake = 8, kStartedAwake = 4;  // VIR_DOMAIN_RUNNING_WAKEUP, VIR_DOMAIN_EVENT_STARTED_WAKEUP
  t.domain->set_running_state({RunState::Running, kRunningAwake});
  t.events.domain_lifecycle(t.domain->ref(), static_cast<i32>(LifecycleEvent::Started), kStartedAwake);
}

void on_reset(const Told& t) {
  if (t.domain->facts().state.state == RunState::PmSuspended)
    t.domain->set_running_state(make_state(RunState::Running, RunningReason::Booted));
  t.events.domain(DomainEvent::Reboot, t.domain->ref());
}

void on_rtc_change(const Told& t) {
  if (t.data.is_object()) t.events.domain(DomainEvent::RtcChange, t.domain->ref(), t.data.value("offset", i64{0}));
}

void on_balloon_change(const Told& t) {
  if (!t.data.is_object()) return;
  const u64 kib = t.data.value("actual", u64{0}) / kKiB;
  t.domain->change_live([&](Element& tree) { ensure(tree, "currentMemory").set_text(std::to_string(kib)); });
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

/// Its disk may be pivoted to what it was copied to.
void on_job_ready(const Told& t) {
  const std::string job = text_of(t.data, "device"), kind = text_of(t.data, "type");
  t.domain->change_live([&](Element& tree) {
    for (Element* disk : each(devices_of(tree), "disk"))
      if (Element* mirror = disk->child("mirror"); mirror && job == disk_job_name(at(*disk, "target", "dev"))) mirror->set("ready", "yes");
  });
  auto tree = t.domain->live();
  for (const Element* disk : tree ? devices_of(*tree).children("disk") : std::vector<const Element*>())
    if (job == disk_job_name(at(*disk, "target", "dev"))) tell_of_job(t.events, *t.domain, *disk, kind, kJobReady);
}

void on_threshold(const Told& t) {
  auto tree = t.domain->live();
  const std::string node = text_of(t.data, "node-name");
  const u64 threshold = t.data.value("write-threshold", u64{0}), excess = t.data.value("amount-exceeded", u64{0});
  for (const Element* disk : tree ? devices_of(*tree).children("disk") : std::vector<const Element*>()) {
    if (disk_node(*disk) != node && storage_node(at(*disk, "source", "index")) != node) continue;
    t.events.domain(DomainEvent::BlockThreshold, t.domain->ref(), at(*disk, "target", "dev"), std::optional(source_path(*disk)), threshold, excess);
  }
}

void on_tray(const Told& t) {
  const i32 reason = t.data.value("tray-open", false) ? 0 : 1;
  const std::string id = text_of(t.data, "id");
  t.events.domain(DomainEvent::TrayChange, t.domain->ref(), id.substr(id.rfind('/') + 1), reason);
}

/// A channel that somebody in the guest has opened, or nobody has open any more.
void on_port(const Told& t) {
  if (!t.data.is_object()) return;
  const std::string alias = text_of(t.data, "id");
  const bool open = t.data.value("open", false);
  std::string name;
  t.domain->change_live([&](Element& tree) { name = set_channel_state(tree, alias, open); });
  tell_of_agent(t.events, *t.domain, name, open, AgentReason::Channel);
}

void on_viewer_connected(const Told& t) { tell_of_viewer(t.events, *t.domain, t.data, ViewerPhase::Connected); }
void on_viewer_initialized(const Told& t) { tell_of_viewer(t.events, *t.domain, t.data, ViewerPhase::Initialized); }
void on_viewer_disconnected(const Told& t) { tell_of_viewer(t.events, *t.domain, t.data, ViewerPhase::Disconnected); }

void on_unplug_refused(const Told& t) { t.events.domain(DomainEvent::DeviceRemovalFailed, t.domain->ref(), text_of(t.data, "device")); }

void on_watchdog(const Told& t) {
  constexpr std::array<std::string_view, 7> kActions = {"none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi"};
  const std::string action = text_of(t.data, "action");
  for (size_t i = 0; i < kActions.size(); ++i)
    if (kActions[i] == action) t.events.domain(DomainEvent::Watchdog, t.domain->ref(), static_cast<i32>(i));
}

/// The VM has paused; it is dumped, and goes on.
bool wants_dump(const Domain& domain) {
  const auto tree = domain.live();
  return tree && at(devices_of(*tree), "watchdog", "action") == "dump";
}

struct Handler {
  std::string_view name;
  void (*handle)(const Told&);
};
constexpr Handler kHandlers[] = {{"STOP", on_stop},
                                 {"RESUME", on_resume},
                                 {"RESET", on_reset},
                                 {"SUSPEND", on_guest_suspend},
                                 {"WAKEUP", on_wakeup},
                                 {"RTC_CHANGE", on_rtc_change},
                                 {"BALLOON_CHANGE", on_balloon_change},
                                 {"BLOCK_IO_ERROR", on_io_error},
                                 {"BLOCK_JOB_READY", on_job_ready},
                                 {"BLOCK_WRITE_THRESHOLD", on_threshold},
                                 {"DEVICE_TRAY_MOVED", on_tray},
                                 {"DEVICE_UNPLUG_GUEST_ERROR", on_unplug_refused},
                                 {"VSERPORT_CHANGE", on_port},
                                 {"VNC_CONNECTED", on_viewer_connected},
                                 {"VNC_INITIALIZED", on_viewer_initialized},
                                 {"VNC_DISCONNECTED", on_viewer_disconnected},
                                 {"WATCHDOG", on_watchdog}};

}  // namespace

void Domains::take_event(const DomainPtr& domain, const std::string& name, const Json& data) {
  if (name == "SHUTDOWN") return guest_ended(domain, data);
  if (name == "DEVICE_DELETED") return device_gone(domain, text_of(data, "device"));
  if (name == "BLOCK_JOB_COMPLETED") return disk_job_ended(domain, data, data.contains("error") ? kJobFailed : kJobCompleted);
  if (name == "BLOCK_JOB_CANCELLED") return disk_job_ended(domain, data, kJobCancelled);
  if (name == "GUEST_PANICKED") return guest_panicked(domain);
  if (name == "WATCHDOG" && wants_dump(*domain))
    errands_.run("watchdog", [this, domain] {
      auto job = domain->begin_job();
      auto vm = domain->running();
      if (!job || !vm || !vm->monitor) return;
      dump_by_itself(*domain);
      (void)vm->monitor->execute("cont", Json::object(), kAnswer_ns);
    });
  for (const auto& handler : kHandlers)
    if (handler.name == name) handler.handle({events_, domain, data});
}

/// Jobs are called "job-vda". Clients hear of the end once the trees know of it.
void Domains::disk_job_ended(const DomainPtr& domain, const Json& data, i32 status) {
  const std::string job = text_of(data, "device"), kind = text_of(data, "type");
  auto tree = domain->live();
  for (const Element* disk : tree ? devices_of(*tree).children("disk") : std::vector<const Element*>()) {
    if (job != disk_job_name(at(*disk, "target", "dev"))) continue;
    errands_.run("block job ended", [this, domain, before = *disk, kind, status, done = data.value("offset", u64{0})] {
      auto held = domain->begin_job();
      if (kind == "backup") {
        backup_disk_ended(*this, *domain, at(before, "target", "dev"), status == kJobFailed, done);
        if (status != kJobCancelled) tell_of_job(events_, *domain, before, kind, status);
        return;
      }
      if (Status followed = follow_medium(*this, *domain, at(before, "target", "dev")); !followed)
        log_error("domain '{}': {}", domain->name(), followed.error().message());
      tell_of_job(events_, *domain, before, kind, status);
    });
  }
}

/// Into a file that is named after the domain and the time.
void Domains::dump_by_itself(Domain& domain) {
  auto path = automatic_dump_path(config_, domain);
  Status dumped = path ? dump_core(*this, domain, *path) : Status(std::move(path).error());
  if (!dumped) log_error("domain '{}': no core dump: {}", domain.name(), dumped.error().message());
}

/// on_crash decides; until then clients see that it crashed.
void Domains::guest_panicked(const DomainPtr& domain) {
  domain->set_running_state(make_state(RunState::Crashed, CrashedReason::Panicked));
  events_.domain_lifecycle(domain->ref(), static_cast<i32>(LifecycleEvent::Crashed), lifecycle_detail::kCrashedPanicked);
  errands_.run("guest panicked", [this, domain] {
    auto job = domain->begin_job();
    auto vm = domain->running();
    auto tree = domain->live();
    if (!job || !vm || !tree || !vm->monitor) return;
    const std::string action = text_at(*tree, "on_crash");
    if (action == "preserve") return save_status(*domain);
    if (action.starts_with("coredump-")) dump_by_itself(*domain);
    if (action.ends_with("restart") && vm->monitor->execute("system_reset", Json::object(), kAnswer_ns) &&
        vm->monitor->execute("cont", Json::object(), kAnswer_ns)) {
      domain->set_running_state(make_state(RunState::Running, RunningReason::Booted));
      return save_status(*domain);
    }
    (void)vm->monitor->execute("quit", Json::object(), kAnswer_ns);
    wait_for_end(vm->process, kAnswer_ns);
    finish(*domain, ShutoffReason::Crashed);
  });
}

void Domains::device_gone(const DomainPtr& domain, const std::string& alias) {
  auto vm = domain->running();
  std::optional<Element> gone;
  if (!vm || alias.empty()) return;
  domain->change_live([&](Element& tree) {
    devices_of(tree).content().remove_if([&](const Element& device) {
      if (device.is_text() || alias_of(device) != alias) return false;
      gone = device;
      return true;
    });
  });
  if (!gone) return;
  // Its back end is the VM's still: whoever waits for the event finds the files free.
  errands_.run("device gone", [this, domain, vm, alias, device = std::move(*gone)] {
    if (vm->monitor) delete_back_end(*vm->monitor, device);
    if (device.name() == "interface") unplug(device);
    if (device.name() == "disk") release_disk(*vm, device);
    save_status(*domain);
    events_.domain(DomainEvent::DeviceRemoved, domain->ref(), alias);
  });
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
    if (auto tree = domain->live()) tell_hook(config_.paths.config, *tree, "reconnect", "begin");
    if (status) take_reported_state(domain, status->value("status", ""));
    if (Status learned = learn_details(*domain, *vm); !learned) log_error("domain '{}': {}", domain->name(), learned.error().message());
    if (auto job = domain->begin_job()) resume_backup(*this, *domain);
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
