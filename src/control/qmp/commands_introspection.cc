// What this monitor understands, for clients that look before they ask.
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/cmdline/help.h"
#include "control/qmp/command.h"
#include "control/qmp/events.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Reply = Result<Json>;

Reply query_commands(QmpContext&, const Json&) {
  Json list = Json::array();
  for (auto name : qmp_command_names()) list.push_back({{"name", name}});
  return list;
}

Reply query_command_line_options(QmpContext&, const Json& arguments) {
  const std::string wanted = text_argument(arguments, "option");
  Json list = Json::array();
  for (auto name : option_names())
    if (wanted.empty() || wanted == name) list.push_back({{"option", name}, {"parameters", Json::array()}});
  if (list.empty()) return Error(ErrorKind::Invalid, fmt::format("invalid option name: {}", wanted));
  return list;
}

/// The builtin types that signatures use.
struct Builtin {
  char letter;
  std::string_view name, json_type;
};
constexpr Builtin kBuiltins[] = {{'s', "str", "string"}, {'i', "int", "int"}, {'b', "bool", "boolean"}};

/// Objects, arrays and alternatives are told as "any": their handlers check what is in them.
std::string_view schema_type(char letter) {
  for (const Builtin& type : kBuiltins)
    if (type.letter == letter) return type.name;
  return "any";
}

Json schema_member(const QmpParameter& p) {
  Json member = {{"name", p.name}, {"type", schema_type(p.type)}};
  if (p.optional) member["default"] = nullptr;
  return member;
}

/// A command and the type of its arguments.
void add_command(const QmpCommand& command, Json& schema) {
  std::string type = "q_empty";
  if (command.arguments == "*") {
    type = "any-object";
  } else if (!command.arguments.empty()) {
    type = fmt::format("q_obj_{}-arg", command.name);
    Json members = Json::array();
    for (const QmpParameter& p : parameters_of(command)) members.push_back(schema_member(p));
    schema.push_back({{"name", type}, {"meta-type", "object"}, {"members", std::move(members)}});
  }
  schema.push_back({{"name", command.name}, {"meta-type", "command"}, {"arg-type", type}, {"ret-type", "any"}});
}

/// Commands and events as QEMU's introspection has them (docs/devel/qapi-code-gen). Result types are "any".
Reply query_schema(QmpContext&, const Json&) {
  Json schema = Json::array();
  for (const Builtin& type : kBuiltins)
    schema.push_back({{"name", type.name}, {"meta-type", "builtin"}, {"json-type", type.json_type}});
  schema.push_back({{"name", "any"}, {"meta-type", "builtin"}, {"json-type", "value"}});
  for (const char* name : {"q_empty", "any-object"})
    schema.push_back({{"name", name}, {"meta-type", "object"}, {"members", Json::array()}});
  for (const QmpCommand* command : qmp_commands()) add_command(*command, schema);
  for (auto name : event_names()) schema.push_back({{"name", name}, {"meta-type", "event"}, {"arg-type", "any-object"}});
  return schema;
}

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
