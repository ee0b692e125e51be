// Keys by the names that QEMU's monitors use ("ret", "ctrl", "kp_enter") and their numbers: the scan code of set 1, with
// bit 7 for the prefix 0xe0.
#pragma once

#include <optional>
#include <string_view>

#include "base/types.h"

namespace atl::display {

std::optional<u8> key_number(std::string_view name);
/// "" if no key has this number.
std::string_view key_name(u8 number);

}  // namespace atl::display
