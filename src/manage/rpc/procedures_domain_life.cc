// Life of a domain: start, stop, pause, reboot.
#include <fcntl.h>

#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/agent.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u32 kStartPaused = 1, kStartAutodestroy = 2, kStartBypassCache = 4, kStartForceBoot = 8, kStartValidate = 16;

Result<StartOptions> start_options(u32 flags, std::string_view function) {
  TRY(check_flags(flags, kStartPaused | kStartAutodestroy | kStartBypassCache | kStartForceBoot | kStartValidate, function));
  if (flags & kStartAutodestroy) return operation_unsupported("automatic destruction at the end of a connection is not supported");
  return StartOptions{.paused = (flags & kStartPaused) != 0};
}

Status create_xml(Call& call) {
  std::string text;
  u32 flags = 0;
  TRY(call.read(text, flags));
  const StartOptions options = TRY(start_options(flags, "virDomainCreateXML"));
  auto domain = TRY(call.daemon().domains().create_transient(text, options));
  call.write(domain->ref());
  return {};
}

Status create(Call& call) {
  auto domain = TRY(read_domain(call));
  auto job = TRY(domain->begin_job());
  return call.daemon().domains().start(*domain, {});
}

Status create_with_flags(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  const StartOptions options = TRY(start_options(flags, "virDomainCreateWithFlags"));
  auto job = TRY(domain->begin_job());
  TRY(call.daemon().domains().start(*domain, options));
  call.write(domain->ref());
  return {};
}

Status destroy_with(Call& call, Domain& domain, bool graceful) {
  auto job = TRY(domain.begin_job());
  return call.daemon().domains().destroy(domain, graceful);
}

Status destroy(Call& call) {
  auto domain = TRY(read_domain(call));
  return destroy_with(call, *domain, false);
}

Status destroy_flags(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  constexpr u32 kGraceful = 1, kRemoveLogs = 2;
  TRY(check_flags(flags, kGraceful | kRemoveLogs, "virDomainDestroyFlags"));
  return destroy_with(call, *domain, (flags & kGraceful) != 0);
}

/// Ways to ask a guest to end, for shutdown and reboot alike.
constexpr u32 kByAcpi = 1, kByAgent = 2;

Status power_down(Domain& domain, u32 flags, bool reboot) {
  TRY(check_flags(flags, kByAcpi | kByAgent, reboot ? "virDomainReboot" : "virDomainShutdownFlags"));
  auto job = TRY(domain.begin_job());
  const DomainState state = domain.facts().state;
  if (!domain.active()) return operation_invalid("domain is not running");
  if (state.state != RunState::Running) return operation_invalid("domain is not running");
  if (flags & kByAgent) {
    Status told = tell_agent(domain, "guest-shutdown", {{"mode", reboot ? "reboot" : "powerdown"}});
    if (told || !(flags & kByAcpi)) return told;
  }
  domain.expect_reboot(reboot);
  TRY(ask(domain, "system_powerdown", Json::object()));
  return {};
}

Status shutdown(Call& call) {
  auto domain = TRY(read_domain(call));
  return power_down(*domain, 0, false);
}

Status shutdown_flags(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  return power_down(*domain, flags, false);
}

Status reboot(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  return power_down(*domain, flags, true);
}

Status reset(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, 0, "virDomainReset"));
  auto job = TRY(domain->begin_job());
  TRY(ask(*domain, "system_reset", Json::object()));
  return {};
}

Status suspend(Call& call) {
  auto domain = TRY(read_domain(call));
  auto job = TRY(domain->begin_job());
  if (!domain->active()) return operation_invalid("domain is not running");
  if (domain->facts().state.state == RunState::Paused) return {};
  TRY(ask(*domain, "stop", Json::object()));
  domain->set_running_state(make_state(RunState::Paused, PausedReason::User));
  call.daemon().domains().save_status(*domain);
  return {};
}

Status resume(Call& call) {
  auto domain = TRY(read_domain(call));
  auto job = TRY(domain->begin_job());
  if (!domain->active()) return operation_invalid("domain is not running");
  if (domain->facts().state.state == RunState::Running) return operation_invalid("domain is already running");
  TRY(ask(*domain, "cont", Json::object()));
  domain->set_running_state(make_state(RunState::Running, RunningReason::Unpaused));
  call.daemon().domains().save_status(*domain);
  return {};
}

Status inject_nmi(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, 0, "virDomainInjectNMI"));
  auto job = TRY(domain->begin_job());
  TRY(ask(*domain, "inject-nmi", Json::object()));
  return {};
}

Status set_lifecycle_action(Call& call) {
  u32 type = 0, action = 0, flags = 0;
  auto domain = TRY(read_domain(call, type, action, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetLifecycleAction"));
  constexpr std::string_view kElements[] = {"on_poweroff", "on_reboot", "on_crash"};
  constexpr std::string_view kActions[] = {"destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"};
  if (type >= std::size(kElements) || action >= std::size(kActions)) return invalid_arg("no such lifecycle action");
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  if (impact.live && type == 1)  // whether a reset ends the VM is its own affair
    TRY(ask(*domain, "set-action", {{"reboot", kActions[action] == "destroy" ? "shutdown" : "reset"}}));
  auto edit = [&](Element& tree) -> Status {
    ensure(tree, kElements[type]).set_text(kActions[action]);
    return {};
  };
  if (impact.live) TRY(edit_live(call.daemon().domains(), *domain, edit));
  if (impact.config) TRY(edit_config(call.daemon().domains(), *domain, edit));
  return {};
}

// --- RAM on disk: not there yet

/// As of a driver that has no such function: suites and management programs then know that they need not ask.
Error no_ram_save(const char* function) { return {Code::NoSupport, function, Part::Domain}; }
Error no_managed_image() { return operation_invalid("domain does not have managed save image"); }

/// `save` and `managedsave` of what does not run fail as ever.
Status refuse_save(const Domain& domain, const char* function) {
  if (!domain.active()) return operation_invalid("domain is not running");
  return no_ram_save(function);
}

Status managed_save(Call& call) {
  u32 flags = 0;
  return refuse_save(*TRY(read_domain(call, flags)), "virDomainManagedSave");
}

Status has_managed_save(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  call.write(static_cast<i32>(domain->facts().managed_save));
  return {};
}

Status managed_save_remove(Call& call) {
  u32 flags = 0;
  TRY(read_domain(call, flags));
  return {};  // there is none
}

Status managed_save_xml(Call& call) {
  u32 flags = 0;
  TRY(read_domain(call, flags));
  return no_managed_image();
}

Status managed_save_define(Call& call) {
  std::optional<std::string> text;
  u32 flags = 0;
  TRY(read_domain(call, text, flags));
  return no_managed_image();
}

Status save(Call& call) { return refuse_save(*TRY(read_domain(call)), "virDomainSave"); }

Status save_flags(Call& call) {
  std::string path;
  std::optional<std::string> text;
  u32 flags = 0;
  return refuse_save(*TRY(read_domain(call, path, text, flags)), "virDomainSaveFlags");
}

Status save_params(Call& call) {
  TypedParams params;
  u32 flags = 0;
  return refuse_save(*TRY(read_domain(call, params, flags)), "virDomainSaveParams");
}

/// Images of saved domains: there can be none of ours, but a name that does not exist is told first.
Status refuse_image(const std::string& path) {
  if (auto file = open_file(path, O_RDONLY); !file)
    return Error::received(Code::SystemError, Part::Qemu, fmt::format("Failed to open file '{}': {}", path, ::strerror(file.error().os_errno())));
  return no_ram_save("virDomainRestore");
}

Status restore(Call& call) {
  std::string path;
  TRY(call.read(path));
  return refuse_image(path);
}

Status restore_params(Call& call) {
  TypedParams params;
  u32 flags = 0;
  TRY(call.read(params, flags));
  const TypedParam* file = find_param(params, "file");
  const std::string* path = file ? std::get_if<std::string>(&file->value) : nullptr;
  if (!path) return invalid_arg("a file to restore from is needed");
  return refuse_image(*path);
}

Status wake_up(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, 0, "virDomainPMWakeup"));
  auto job = TRY(domain->begin_job());
  if (!domain->active()) return operation_invalid("domain is not running");
  TRY(ask(*domain, "system_wakeup", Json::object()));
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_CREATE_XML, Access::Write, create_xml},
    {Proc::DOMAIN_CREATE, Access::Write, create},
    {Proc::DOMAIN_CREATE_WITH_FLAGS, Access::Write, create_with_flags},
    {Proc::DOMAIN_DESTROY, Access::Write, destroy},
    {Proc::DOMAIN_DESTROY_FLAGS, Access::Write, destroy_flags},
    {Proc::DOMAIN_SHUTDOWN, Access::Write, shutdown},
    {Proc::DOMAIN_SHUTDOWN_FLAGS, Access::Write, shutdown_flags},
    {Proc::DOMAIN_REBOOT, Access::Write, reboot},
    {Proc::DOMAIN_RESET, Access::Write, reset},
    {Proc::DOMAIN_SUSPEND, Access::Write, suspend},
    {Proc::DOMAIN_RESUME, Access::Write, resume},
    {Proc::DOMAIN_INJECT_NMI, Access::Write, inject_nmi},
    {Proc::DOMAIN_SET_LIFECYCLE_ACTION, Access::Write, set_lifecycle_action},
    {Proc::DOMAIN_MANAGED_SAVE, Access::Write, managed_save},
    {Proc::DOMAIN_HAS_MANAGED_SAVE_IMAGE, Access::Read, has_managed_save, Where::Quick},
    {Proc::DOMAIN_MANAGED_SAVE_REMOVE, Access::Write, managed_save_remove},
    {Proc::DOMAIN_SAVE, Access::Write, save},
    {Proc::DOMAIN_MANAGED_SAVE_GET_XML_DESC, Access::Read, managed_save_xml, Where::Quick},
    {Proc::DOMAIN_MANAGED_SAVE_DEFINE_XML, Access::Write, managed_save_define},
    {Proc::DOMAIN_SAVE_FLAGS, Access::Write, save_flags},
    {Proc::DOMAIN_SAVE_PARAMS, Access::Write, save_params},
    {Proc::DOMAIN_RESTORE, Access::Write, restore},
    {Proc::DOMAIN_RESTORE_FLAGS, Access::Write, restore},
    {Proc::DOMAIN_RESTORE_PARAMS, Access::Write, restore_params},
    {Proc::DOMAIN_SAVE_IMAGE_GET_XML_DESC, Access::Read, restore},
    {Proc::DOMAIN_SAVE_IMAGE_DEFINE_XML, Access::Write, restore},
    {Proc::DOMAIN_PM_WAKEUP, Access::Write, wake_up},
};

}  // namespace

std::span<const Procedure> domain_life_rows() { return kRows; }

}  // namespace atl::manage
