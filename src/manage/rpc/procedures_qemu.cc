// Procedures of libvirt's QEMU program: a VM's own monitor, raw.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/agent.h"
#include "manage/monitor_filter.h"
#include "manage/rpc/domain_rows.h"

namespace atl::manage {
namespace {

constexpr u64 kAnswer_ns = 60'000'000'000;

Result<std::string> pass(Call& call, Domain& domain, const std::string& command, u32 flags) {
  constexpr u32 kHmp = 1;
  TRY(check_flags(flags, kHmp, "virDomainQemuMonitorCommand"));
  auto monitor = TRY(domain.monitor());
  domain.set_tainted();
  if (flags & kHmp) {
    const nlohmann::json text = TRY(monitor->execute("human-monitor-command", {{"command-line", command}}, kAnswer_ns));
    return text.is_string() ? text.get<std::string>() : text.dump();
  }
  const int fd = call.fds.empty() ? -1 : call.fds[0].get();
  return monitor->pass_through(command, kAnswer_ns, fd);
}

Status monitor_command(Call& call) {
  std::string command;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, command, flags));
  call.write(TRY(pass(call, *domain, command, flags)));
  return {};
}

Status agent_command(Call& call) {
  std::string command;
  i32 timeout = 0;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, command, timeout, flags));
  TRY(check_flags(flags, 0, "virDomainQemuAgentCommand"));
  if (!domain->active()) return operation_invalid("domain is not running");
  if (timeout < kAgentBlock) return invalid_arg(fmt::format("guest agent timeout '{}' is less than the minimum '{}'", timeout, kAgentBlock));
  call.write(std::optional(TRY(pass_to_agent(*domain, command, timeout))));
  return {};
}

/// Arguments: the only domain and the only event that are of interest, if any. Reply: the registration's number.
Status register_event(Call& call) {
  std::optional<DomainRef> only;
  std::optional<std::string> name;
  u32 flags = 0;
  TRY(call.read(only, name, flags));
  constexpr u32 kRegex = 1, kNoCase = 2;
  TRY(check_flags(flags, kRegex | kNoCase, "virConnectDomainQemuMonitorEventRegister"));
  if (flags & kRegex) TRY(MonitorEventFilter::check(name.value_or("")));
  const MonitorEventFilter filter{only ? Events::key_of(only->uuid) : "", name.value_or(""), (flags & kRegex) != 0, (flags & kNoCase) != 0};
  Events::Registration registration{Events::Family::QemuMonitor, 0, call.session().next_callback_id(), false, filter.text()};
  Events& events = call.daemon().events();
  call.after_reply([&events, session = call.shared_session(), registration] { events.add(session, registration); });
  call.write(registration.callback_id);
  return {};
}

Status deregister_event(Call& call) {
  i32 id = 0;
  TRY(call.read(id));
  if (call.daemon().events().remove(call.session(), Events::Family::QemuMonitor, id)) return {};
  return Error(Code::InternalError, fmt::format("qemu monitor event callback {} not registered", id), Part::Rpc);
}

constexpr QemuProcedure kRows[] = {
    {QemuProc::DOMAIN_MONITOR_COMMAND, Access::Write, monitor_command},
    {QemuProc::DOMAIN_AGENT_COMMAND, Access::Write, agent_command},
    {QemuProc::CONNECT_DOMAIN_MONITOR_EVENT_REGISTER, Access::Write, register_event, Where::Loop},
    {QemuProc::CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER, Access::Write, deregister_event, Where::Loop},
};

}  // namespace

std::span<const QemuProcedure> qemu_procedures() { return kRows; }

}  // namespace atl::manage
