// JSON as QEMU's programs print it: members in the order of its dictionaries. Scripts should not care, but people compare outputs.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace atl {

/// An object's keys in the order of the 512 buckets of QEMU's dictionaries (qobject/qdict.c).
std::vector<std::string> ordered_keys(const nlohmann::json& object);
/// On one line, a space after ':' and ',', everything outside ASCII escaped. `pretty`: indented by four spaces.
std::string json_text(const nlohmann::json& value, bool pretty = false);

}  // namespace atl
