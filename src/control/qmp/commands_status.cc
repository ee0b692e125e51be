// Queries about the VM as a whole, and its life cycle.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/machine_types.h"
#include "control/cmdline/handlers.h"
#include "control/hmp/execute.h"
#include "control/qmp/command.h"
#include "control/version.h"
#include "cpu/cpu_features.h"
#include "cpu/cpuid.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Reply = Result<Json>;
using machine::RunState;

/// What most commands return.
Reply done(Status status) {
  if (!status) return std::move(status).error();
  return Json::object();
}

Reply query_status(QmpContext& c, const Json&) {
  RunState state = c.vm.machine().state();
  return Json{{"status", machine::run_state_name(state)}, {"running", state == RunState::Running}, {"singlestep", false}};
}

Reply query_version(QmpContext&, const Json&) {
  return Json{{"qemu", {{"major", kQemuMajor}, {"minor", kQemuMinor}, {"micro", kQemuMicro}}}, {"package", kPackage}};
}

/// Where a vCPU sits.
Json place_of(QmpContext& c, const machine::CpuInfo& cpu) {
  Json place = {{"socket-id", cpu.socket}, {"core-id", cpu.core}, {"thread-id", cpu.thread}};
  const auto& nodes = c.vm.config().numa;
  for (size_t node = 0; node < nodes.size(); ++node)
    if (std::ranges::find(nodes[node].cpus, cpu.index) != nodes[node].cpus.end()) place["node-id"] = node;
  return place;
}

Reply query_cpus_fast(QmpContext& c, const Json&) {
  Json list = Json::array();
  for (const auto& cpu : c.vm.machine().cpus())
    list.push_back({{"cpu-index", cpu.index}, {"qom-path", fmt::format("/machine/unattached/device[{}]", cpu.index)},
                    {"thread-id", cpu.thread_id}, {"target", "x86_64"},
                    {"props", place_of(c, cpu)}});
  return list;
}

Reply query_hotpluggable_cpus(QmpContext& c, const Json&) {
  if (c.vm.config().board == machine::BoardKind::None) return Error(ErrorKind::Unsupported, "The feature 'query-hotpluggable-cpus' is not enabled");
  Json list = Json::array();
  for (const auto& cpu : c.vm.machine().cpus())
    list.push_back({{"type", fmt::format("{}-x86_64-cpu", c.vm.config().cpu.model)}, {"vcpus-count", 1},
                    {"qom-path", fmt::format("/machine/unattached/device[{}]", cpu.index)},
                    {"props", place_of(c, cpu)}});
  return list;
}

Reply query_name(QmpContext& c, const Json&) {
  const auto& name = c.vm.config().name;
  return name.empty() ? Json::object() : Json{{"name", name}};
}

Reply query_uuid(QmpContext& c, const Json&) {
  const auto& uuid = c.vm.config().uuid;
  return Json{{"UUID", uuid.empty() ? "00000000-0000-0000-0000-000000000000" : uuid}};
}

Reply query_kvm(QmpContext& c, const Json&) {
  return Json{{"enabled", c.vm.machine().accelerator() == "kvm"}, {"present", true}};
}

Reply query_target(QmpContext&, const Json&) { return Json{{"arch", "x86_64"}}; }

Reply query_machines(QmpContext&, const Json&) {
  Json list = Json::array();
  for (const MachineType& board : machine_types()) {
    Json entry = {{"name", board.name}, {"cpu-max", board.board == MachineType::Board::None ? 1 : 255}, {"hotpluggable-cpus", false},
                  {"numa-mem-supported", false}, {"deprecated", false}};
    if (!board.alias.empty()) entry["alias"] = board.alias;
    if (board.is_default) entry["is-default"] = true;
    list.push_back(std::move(entry));
  }
  return list;
}

Reply query_cpu_definitions(QmpContext&, const Json&) {
  Json list = Json::array();
  for (const auto& name : cpu::cpu_model_names())
    list.push_back({{"name", name}, {"typename", name + "-x86_64-cpu"}, {"static", false}, {"deprecated", false},
                    {"migration-safe", name != "host" && name != "max"}});
  return list;
}

Reply query_current_machine(QmpContext& c, const Json&) { return Json{{"wakeup-suspend-support", c.vm.machine().can_suspend()}}; }

/// What a model is made of on this accelerator: every feature, on or off.
Reply query_cpu_model_expansion(QmpContext& c, const Json& arguments) {
  const auto& type = arguments["type"].get_ref<const std::string&>();
  if (type != "static" && type != "full") return Error(ErrorKind::Invalid, fmt::format("Parameter 'type' does not accept value '{}'", type));
  const Json& model = arguments["model"];
  if (!model.contains("name") || !model["name"].is_string()) return Error(ErrorKind::Invalid, "Parameter 'model.name' is missing");
  cpu::CpuRequest request{.model = model["name"].get<std::string>()};
  const Json properties_given = model.value("props", Json::object());
  for (const auto& [name, value] : properties_given.items()) {
    if (!value.is_boolean()) return Error(ErrorKind::Invalid, fmt::format("Invalid parameter type for '{}', expected: boolean", name));
    request.features.emplace_back(name, value.get<bool>());
  }
  const auto tables = TRY(cpu::build_cpuid(request, c.vm.machine().cpuid_limits(), {}));
  const cpu::FeatureSet features(tables.front());
  Json properties = Json::object();
  for (const auto& feature : cpu::all_features()) properties[feature.name] = features.has(feature);
  return Json{{"model", {{"name", type == "static" ? "base" : request.model}, {"props", std::move(properties)}}}};
}

Reply query_balloon(QmpContext& c, const Json&) {
  u64 bytes = TRY(c.vm.machine().balloon_bytes());
  return Json{{"actual", bytes}};
}

Reply balloon(QmpContext& c, const Json& arguments) {
  auto value = arguments["value"].get<i64>();
  if (value <= 0) return Error(ErrorKind::Invalid, "Parameter 'target' expects a size");
  return done(c.vm.machine().set_balloon(static_cast<u64>(value)));
}

Reply stop(QmpContext& c, const Json&) { return done(c.vm.machine().pause()); }
Reply resume(QmpContext& c, const Json&) { return done(c.vm.resume()); }
Reply powerdown(QmpContext& c, const Json&) { return done(c.vm.machine().powerdown()); }
Reply wake_up(QmpContext& c, const Json&) { return done(c.vm.machine().wake_up()); }
Reply reset(QmpContext& c, const Json&) { return done(c.vm.machine().reset()); }
Reply inject_nmi(QmpContext& c, const Json&) { return done(c.vm.machine().inject_nmi()); }

Reply watchdog_set_action(QmpContext& c, const Json& arguments) {
  c.vm.machine().set_watchdog_action(TRY(watchdog_action(arguments["action"].get_ref<const std::string&>())));
  return Json::object();
}

/// `reboot` and `shutdown` are settled at start.
Reply set_action(QmpContext& c, const Json& arguments) {
  for (const char* fixed : {"reboot", "shutdown"}) {
    if (arguments.contains(fixed)) return Error(ErrorKind::Unsupported, fmt::format("Parameter '{}' can be set by -action only", fixed));
  }
  if (arguments.contains("panic")) c.vm.machine().set_panic_action(TRY(panic_action(text_argument(arguments, "panic"))));
  if (arguments.contains("watchdog")) c.vm.machine().set_watchdog_action(TRY(watchdog_action(text_argument(arguments, "watchdog"))));
  return Json::object();
}

Reply quit(QmpContext& c, const Json&) {
  c.vm.quit("host-qmp-quit");
  return Json::object();
}

Reply human_monitor_command(QmpContext& c, const Json& arguments) {
  u32 cpu = static_cast<u32>(number_argument(arguments, "cpu-index").value_or(0));
  if (cpu >= c.vm.config().topology.cpus) return Error(ErrorKind::Invalid, "Parameter 'cpu-index' expects a CPU number");
  return Json(hmp_execute(c.vm, arguments["command-line"].get_ref<const std::string&>(), cpu));
}

constexpr QmpCommand kCommands[] = {
    {"query-status", "", query_status},
    {"query-version", "", query_version},
    {"query-cpus-fast", "", query_cpus_fast},
    {"query-hotpluggable-cpus", "", query_hotpluggable_cpus},
    {"query-name", "", query_name},
    {"query-uuid", "", query_uuid},
    {"query-kvm", "", query_kvm},
    {"query-target", "", query_target},
    {"query-machines", "", query_machines},
    {"query-cpu-definitions", "", query_cpu_definitions},
    {"query-current-machine", "", query_current_machine},
    {"query-cpu-model-expansion", "type:s model:o", query_cpu_model_expansion},
    {"query-balloon", "", query_balloon, "DeviceNotActive"},
    {"balloon", "value:i", balloon, "DeviceNotActive"},
    {"stop", "", stop},
    {"cont", "", resume},
    {"system_powerdown", "", powerdown},
    {"system_reset", "", reset},
    {"system_wakeup", "", wake_up},
    {"inject-nmi", "", inject_nmi},
    {"watchdog-set-action", "action:s", watchdog_set_action},
    {"set-action", "reboot?:s shutdown?:s panic?:s watchdog?:s", set_action},
    {"quit", "", quit},
    {"human-monitor-command", "command-line:s cpu-index?:i", human_monitor_command},
};

}  // namespace

std::span<const QmpCommand> status_commands() { return kCommands; }

}  // namespace atl::control
