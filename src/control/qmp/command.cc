#include "control/qmp/command.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/qmp/schema.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

std::array<std::span<const QmpCommand>, 15> all_tables() {
  return {status_commands(),   device_commands(), hardware_commands(), chardev_commands(), memory_commands(), screen_commands(), block_commands(),  job_commands(),
          job_control_commands(), snapshot_commands(), bitmap_commands(), export_commands(), media_commands(),  object_commands(), introspection_commands()};
}

bool has_type(const Json& value, char type) {
  switch (type) {
    case 's': return value.is_string();
    case 'i': return value.is_number_integer();
    case 'b': return value.is_boolean();
    case 'o': return value.is_object();
    case 'a': return value.is_array();
    default: return true;
  }
}

std::string_view type_name(char type) {
  switch (type) {
    case 's': return "string";
    case 'i': return "integer";
    case 'b': return "boolean";
    case 'o': return "object";
    default: return "array";
  }
}

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Status check_parameter(const QmpParameter& parameter, const Json& arguments, size_t& known) {
  auto at = arguments.find(parameter.name);
  if (at == arguments.end()) {
    if (parameter.optional) return {};
    return invalid(fmt::format("Parameter '{}' is missing", parameter.name));
  }
  ++known;
  if (has_type(*at, parameter.type)) return {};
  return invalid(fmt::format("Invalid parameter type for '{}', expected: {}", parameter.name, type_name(parameter.type)));
}

Status refuse_unknown(std::span<const QmpParameter> parameters, const Json& arguments) {
  for (const auto& [key, value] : arguments.items()) {
    if (std::ranges::find(parameters, key, &QmpParameter::name) == parameters.end())
      return invalid(fmt::format("Parameter '{}' is unexpected", key));
  }
  return {};
}

}  // namespace

const QmpCommand* find_qmp_command(std::string_view name) {
  for (auto table : all_tables())
    for (const auto& command : table)
      if (command.name == name) return &command;
  return nullptr;
}

std::vector<const QmpCommand*> qmp_commands() {
  std::vector<const QmpCommand*> list;
  for (auto table : all_tables())
    for (const auto& command : table) list.push_back(&command);
  return list;
}

std::vector<std::string_view> qmp_command_names() {
  std::vector<std::string_view> names = {"qmp_capabilities"};
  for (const QmpCommand* command : qmp_commands()) names.push_back(command->name);
  return names;
}

QmpParameter parse_qmp_parameter(std::string_view text) {
  size_t colon = text.rfind(':');
  std::string_view name = text.substr(0, colon);
  bool optional = name.ends_with('?');
  if (optional) name.remove_suffix(1);
  return {name, optional, text[colon + 1]};
}

std::vector<QmpParameter> parameters_of(const QmpCommand& command) {
  std::vector<QmpParameter> list;
  for (auto text : split(command.arguments, ' '))
    if (!text.empty()) list.push_back(parse_qmp_parameter(text));
  return list;
}

Status check_arguments(const QmpCommand& command, const Json& arguments) {
  if (command.arguments == "*") return check_types(command.name, arguments);
  const auto parameters = parameters_of(command);
  size_t known = 0;
  for (const QmpParameter& parameter : parameters) TRY(check_parameter(parameter, arguments, known));
  if (known != arguments.size()) TRY(refuse_unknown(parameters, arguments));
  return check_types(command.name, arguments);
}

std::string text_argument(const Json& arguments, const char* name, std::string_view fallback) {
  auto at = arguments.find(name);
  return at == arguments.end() || !at->is_string() ? std::string(fallback) : at->get_ref<const std::string&>();
}

std::optional<u64> number_argument(const Json& arguments, const char* name) {
  auto at = arguments.find(name);
  if (at == arguments.end() || !at->is_number_integer()) return std::nullopt;
  return at->get<u64>();
}

}  // namespace atl::control
