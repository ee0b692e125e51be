// JSON objects as option lists, so that -device {...}, QMP arguments and -device a=b reach the same translators.
#pragma once

#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/key_values.h"

namespace atl::control {

/// Nested members get dotted keys ("file.filename"), array elements numbers ("a.0"). null members are left out.
KeyValues key_values_from_json(const nlohmann::json& object);
/// An option's value: JSON if it begins with '{', else a list like "a=b,c=d".
Result<KeyValues> parse_option_value(std::string_view text, std::string_view implied_key);

}  // namespace atl::control
