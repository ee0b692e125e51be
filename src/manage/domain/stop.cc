// The end of a VM, however it comes.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <fmt/format.h>

#include "base/log.h"
#include "manage/domain/backup.h"
#include "manage/domain/domains.h"
#include "manage/domain/hooks.h"
#include "manage/domain/snapshots.h"
#include "manage/domain/tpm.h"

namespace atl::manage {
namespace {

constexpr i32 kStoppedFromSnapshot = 6;       // VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT
constexpr u64 kQuiet_ns = 10'000'000'000;  // for a VM to end when it is asked to
constexpr u64 kHelper_ns = 2'000'000'000;  // for a helper whose VM has gone
constexpr u64 kGone_ns = 20'000'000'000;   // for one that was killed

i32 stopped_detail(ShutoffReason reason) {
  switch (reason) {
    case ShutoffReason::Shutdown: return lifecycle_detail::kStoppedShutdown;
    case ShutoffReason::Destroyed: return lifecycle_detail::kStoppedDestroyed;
    case ShutoffReason::Failed: return lifecycle_detail::kStoppedFailed;
    case ShutoffReason::FromSnapshot: return kStoppedFromSnapshot;
    default: return lifecycle_detail::kStoppedCrashed;
  }
}

}  // namespace

Status Domains::destroy(Domain& domain, bool graceful) {
  auto vm = domain.running();
  if (!vm) return operation_invalid("domain is not running");
  (void)signal_process(vm->process, SIGTERM);  // gone already: fine
  if (!wait_for_end(vm->process, kQuiet_ns)) {
    if (graceful) return Error(Code::OperationFailed, fmt::format("Failed to terminate process {} with SIGTERM", vm->process.pid));
    (void)signal_process(vm->process, SIGKILL);
    if (!wait_for_end(vm->process, kGone_ns))
      return Error(Code::SystemError, fmt::format("Failed to terminate process {} with SIGKILL: Device or resource busy", vm->process.pid));
  }
  finish(domain, ShutoffReason::Destroyed);
  return {};
}

namespace {

/// Helpers beside the VM (its TPM) end with it; one that does not is ended.
void end_helpers(const ControlGroup& group) {
  for (const pid_t pid : group.processes()) {
    auto process = identify_process(pid);
    if (!process) continue;
    if (wait_for_end(*process, kHelper_ns)) continue;
    (void)signal_process(*process, SIGKILL);
    wait_for_end(*process, kGone_ns);
  }
}

}  // namespace

void Domains::clear_up(RunningVm& vm, const Element& tree) {
  if (vm.monitor) vm.monitor->close();
  for (const Element* card : devices_of(tree).children("interface")) unplug(*card);
  vm.files.take_back();
  end_helpers(vm.group);
  vm.group.remove();
  std::error_code ignored;
  if (!vm.folder.empty()) std::filesystem::remove_all(vm.folder, ignored);
}

void Domains::finish(Domain& domain, ShutoffReason reason) {
  auto tree = domain.live();
  const DomainFacts before = domain.facts();
  auto vm = domain.end_running(make_state(RunState::Shutoff, reason));
  if (!vm) return;
  if (is_alive(vm->process) && !wait_for_end(vm->process, 1'000'000'000)) {
    (void)signal_process(vm->process, SIGKILL);
    wait_for_end(vm->process, kGone_ns);
  }
  wait_for_end(vm->process, 0);  // collects it
  drop_backup(*this, domain, *vm);
  if (tree) {
    tell_hook(config_.paths.config, *tree, "stopped", "end");
    clear_up(*vm, *tree);
    tell_hook(config_.paths.config, *tree, "release", "end");
  }
  if (Status removed = statuses_->remove(before.name); !removed) log_error("{}", removed.error().message());
  DomainRef ref = before.ref();
  ref.id = -1;
  if (!before.persistent) SnapshotStore(config_.paths.state, before.name).remove_all();
  if (!before.persistent) SnapshotStore::of_checkpoints(config_.paths.state, before.name).remove_all();
  if (!before.persistent && (!tree || at(*tree, "devices/tpm/backend", "persistent_state") != "yes")) forget_tpm(config_, before.uuid);
  if (!before.persistent) forget(domain);
  events_.domain_lifecycle(ref, static_cast<i32>(LifecycleEvent::Stopped), stopped_detail(reason));
}

}  // namespace atl::manage
