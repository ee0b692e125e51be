#include "control/qmp/command.h"

#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

std::array<std::span<const QmpCommand>, 10> all_tables() {
  return {status_commands(), device_commands(), memory_commands(),   screen_commands(),
          block_commands(),  job_commands(),    snapshot_commands(), bitmap_commands(),
          export_commands(), media_commands()};
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

struct Parameter {
  std::string_view name;
  bool optional;
  char type;
};

Parameter parse_parameter(std::string_view text) {
  size_t colon = text.rfind(':');
  std::string_view name = text.substr(0, colon);
  bool optional = name.ends_with('?');
  if (optional) name.remove_suffix(1);
  return {name, optional, text[colon + 1]};
}

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Status check_parameter(const Parameter& parameter, const Json& arguments, size_t& known) {
  auto at = arguments.find(parameter.name);
  if (at == arguments.end()) {
    if (parameter.optional) return {};
    return invalid(fmt::format("Parameter '{}' is missing", parameter.name));
  }
  ++known;
  if (has_type(*at, parameter.type)) return {};
  return invalid(fmt::format("Invalid parameter type for '{}', expected: {}", parameter.name, type_name(parameter.type)));
}

Status refuse_unknown(std::string_view list, const Json& arguments) {
  for (const auto& [key, value] : arguments.items()) {
    bool known = false;
    for (auto text : split(list, ' ')) known |= !text.empty() && parse_parameter(text).name == key;
    if (!known) return invalid(fmt::format("Parameter '{}' is unexpected", key));
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

std::vector<std::string_view> qmp_command_names() {
  std::vector<std::string_view> names = {"qmp_capabilities"};
  for (auto table : all_tables())
    for (const auto& command : table) names.push_back(command.name);
  return names;
}

Status check_arguments(const QmpCommand& command, const Json& arguments) {
  if (command.arguments == "*") return {};
  size_t known = 0;
  for (auto text : split(command.arguments, ' '))
    if (!text.empty()) TRY(check_parameter(parse_parameter(text), arguments, known));
  return known == arguments.size() ? Status() : refuse_unknown(command.arguments, arguments);
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
