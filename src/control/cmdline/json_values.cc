#include "control/cmdline/json_values.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/qmp/json_text.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

void flatten(const std::string& key, const Json& value, KeyValues& out) {
  if (value.is_object()) {
    for (const auto& [name, member] : value.items()) flatten(key.empty() ? name : key + "." + name, member, out);
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) flatten(fmt::format("{}.{}", key, i), value[i], out);
  } else if (value.is_string()) {
    out.set(key, value.get_ref<const std::string&>());
  } else if (value.is_boolean()) {
    out.set(key, value.get<bool>() ? "on" : "off");
  } else if (value.is_number()) {
    out.set(key, value.dump());
  }
}

}  // namespace

KeyValues key_values_from_json(const Json& object) {
  KeyValues list;
  flatten("", object, list);
  return list;
}

Result<KeyValues> parse_option_value(std::string_view text, std::string_view implied_key) {
  if (!text.starts_with('{')) return KeyValues::parse(text, implied_key);
  Json object = TRY(parse_json(text));
  if (!object.is_object()) return Error(ErrorKind::Invalid, "a JSON object is expected");
  return key_values_from_json(object);
}

}  // namespace atl::control
