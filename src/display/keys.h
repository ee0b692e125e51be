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

/// Linux's code of a key (linux/input-event-codes.h), and back; 0 if there is none.
u16 linux_code_of_key(u8 number);
u8 key_of_linux_code(u32 code);

}  // namespace atl::display
