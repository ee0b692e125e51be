#include "machine/property_reader.h"

#include <algorithm>

#include <fmt/core.h>

#include "base/key_values.h"
#include "base/strings.h"

namespace atl::machine {

const std::string* PropertyReader::find(std::string_view name) const {
  const std::string* value = nullptr;
  for (const auto& [key, text] : device_.properties) {
    if (key == name) value = &text;
  }
  return value;
}

std::string_view PropertyReader::text(std::string_view name) const {
  if (const std::string* value = find(name)) return *value;
  auto property = std::ranges::find(spec_.properties, name, &PropertySpec::name);
  CHECK(property != spec_.properties.end());
  return property->fallback;
}

bool PropertyReader::has(std::string_view name) const {
  return std::ranges::find(spec_.properties, name, &PropertySpec::name) != spec_.properties.end();
}

bool PropertyReader::flag(std::string_view name) const { return parse_bool(text(name)).value_or(false); }
u64 PropertyReader::number(std::string_view name) const { return parse_u64(text(name)).value_or(0); }
u64 PropertyReader::size(std::string_view name) const { return parse_size(text(name)).value_or(0); }

std::optional<u64> PropertyReader::optional_number(std::string_view name) const { return parse_u64(text(name)); }

Error PropertyReader::refuse(std::string_view name, std::string_view why) const {
  return Error(ErrorKind::Unsupported, fmt::format("Property '{}.{}': {}", device_.type, name, why));
}

}  // namespace atl::machine
