// What this monitor understands, for clients that look before they ask.
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/cmdline/help.h"
#include "control/qmp/command.h"
#include "control/qmp/schema.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Reply = Result<Json>;

Reply query_commands(QmpContext&, const Json&) {
  Json list = Json::array();
  for (auto name : qmp_command_names()) list.push_back({{"name", name}});
  return list;
}

Json option_group_json(const OptionGroup& group) {
  Json parameters = Json::array();
  for (auto text : split(group.parameters, ' ')) {
    const size_t colon = text.find(':');
    if (colon != std::string_view::npos) parameters.push_back({{"name", text.substr(0, colon)}, {"type", text.substr(colon + 1)}});
  }
  return {{"option", group.name}, {"parameters", std::move(parameters)}};
}

Reply query_command_line_options(QmpContext&, const Json& arguments) {
  const std::string wanted = text_argument(arguments, "option");
  Json list = Json::array();
  for (const OptionGroup& group : option_groups())
    if (wanted.empty() || wanted == group.name) list.push_back(option_group_json(group));
  if (list.empty()) return Error(ErrorKind::Invalid, fmt::format("invalid option name: {}", wanted));
  return list;
}

Reply query_schema(QmpContext&, const Json&) { return qmp_schema(); }

/// There is no migration (no "migrate"), but management programs look here before they start a VM, and want its events told, of
/// which there are none.
constexpr std::string_view kMigrationEvents = "events";

Reply query_migrate_capabilities(QmpContext&, const Json&) {
  return Json::array({{{"capability", kMigrationEvents}, {"state", true}}});
}

Reply migrate_set_capabilities(QmpContext&, const Json& arguments) {
  for (const Json& entry : arguments["capabilities"]) {
    if (!entry.is_object() || !entry.contains("capability") || !entry.contains("state"))
      return Error(ErrorKind::Invalid, "Parameter 'capabilities' expects objects with 'capability' and 'state'");
    if (entry["capability"] != kMigrationEvents)
      return Error(ErrorKind::Unsupported, fmt::format("migration capability {} is not available: there is no migration", entry["capability"].dump()));
    if (entry["state"] != true) return Error(ErrorKind::Unsupported, "migration capability \"events\" is always on");
  }
  return Json::object();
}

constexpr QmpCommand kCommands[] = {
    {"query-commands", "", query_commands},
    {"query-command-line-options", "option?:s", query_command_line_options},
    {"migrate-set-capabilities", "capabilities:a", migrate_set_capabilities},
    {"query-migrate-capabilities", "", query_migrate_capabilities},
    {"query-qmp-schema", "", query_schema},
};

}  // namespace

std::span<const QmpCommand> introspection_commands() { return kCommands; }

}  // namespace atl::control
