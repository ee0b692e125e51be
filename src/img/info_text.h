// The lines of `info` in the order in which QEMU's tools print them. (JSON: base/json_text.h.)
#pragma once

#include <string>

#include "base/json_text.h"
#include "block/image.h"

namespace atl::img {

using block::Json;

/// "    compat: 1.1\n    encrypt:\n        ...", from `depth` levels on.
std::string human_lines(const Json& value, int depth);
/// As "10 GiB": three digits and a binary unit.
std::string size_text(u64 bytes);

}  // namespace atl::img
