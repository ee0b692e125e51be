// Base64: RFC 4648 section 4.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace atl {

/// Padded, in one line.
std::string encode_base64(std::string_view bytes);
/// White space is skipped. Nothing if a character or the end is wrong.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace atl
