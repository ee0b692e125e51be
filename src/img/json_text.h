// JSON and the lines of `info` in the order in which QEMU's tools print them.
#pragma once

#include <string>
#include <vector>

#include "block/image.h"

namespace atl::img {

using block::Json;

/// An object's keys in QEMU's order: that of the 512 buckets of its dictionaries (qobject/qdict.c). Scripts should not care,
/// but people compare outputs.
std::vector<std::string> ordered_keys(const Json& object);
/// Indented by 4, a key or element a line.
std::string pretty_json(const Json& value);
/// "    compat: 1.1\n    encrypt:\n        ...", from `depth` levels on.
std::string human_lines(const Json& value, int depth);
/// As "10 GiB": three digits and a binary unit.
std::string size_text(u64 bytes);

}  // namespace atl::img
