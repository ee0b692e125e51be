// Small text helpers: splitting, comparing, and numbers as command lines spell them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace atl {

/// The parts of `text` between separators; "" gives one empty part.
std::vector<std::string_view> split(std::string_view text, char separator);
/// Equal but for the case of ASCII letters.
bool iequals(std::string_view a, std::string_view b);
inline bool starts(std::string_view text, std::string_view prefix) { return text.starts_with(prefix); }
std::string_view trim(std::string_view text);

/// A whole number, decimal or with 0x; nothing else around it.
std::optional<u64> parse_u64(std::string_view text);
/// The same with an optional minus sign.
std::optional<i64> parse_i64(std::string_view text);
/// Hexadecimal digits without 0x.
std::optional<u64> parse_hex(std::string_view digits);
/// Bytes: a number, decimal fractions allowed, and an optional suffix B, K, M, G, T, P or E (either case, powers of 1024).
/// Without a suffix `default_suffix` counts. Nothing if malformed or 2^64 and more.
std::optional<u64> parse_size(std::string_view text, char default_suffix = 'B');

}  // namespace atl
