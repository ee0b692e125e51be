#include "base/strings.h"

#include <cctype>
#include <charconv>

#include "base/math.h"

namespace atl {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::optional<u64> parse_digits(std::string_view text, int base) {
  u64 value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The power of 1024 that a suffix stands for; nothing if it is none.
std::optional<unsigned> suffix_shift(char suffix) {
  constexpr std::string_view kSuffixes = "bkmgtpe";
  size_t at = kSuffixes.find(lower(suffix));
  if (at == std::string_view::npos) return std::nullopt;
  return static_cast<unsigned>(10 * at);
}

/// `digits` after the decimal point, as a share of 1 << shift, rounded down.
std::optional<u64> fraction_bytes(std::string_view digits, unsigned shift) {
  constexpr size_t kMaxDigits = 18;  // so that the products below fit 128 bits
  if (digits.empty() || digits.size() > kMaxDigits) return std::nullopt;
  auto value = parse_digits(digits, 10);
  if (!value) return std::nullopt;
  u64 scale = 1;
  for (size_t i = 0; i < digits.size(); ++i) scale *= 10;
  return static_cast<u64>((u128{*value} << shift) / scale);
}

}  // namespace

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool iequals(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::optional<u64> parse_hex(std::string_view digits) { return parse_digits(digits, 16); }

std::optional<u64> parse_u64(std::string_view text) {
  if (text.starts_with("0x") || text.starts_with("0X")) return parse_digits(text.substr(2), 16);
  return parse_digits(text, 10);
}

std::optional<i64> parse_i64(std::string_view text) {
  bool negative = text.starts_with('-');
  auto magnitude = parse_u64(negative ? text.substr(1) : text);
  u64 limit = u64{1} << 63;
  if (!magnitude || *magnitude > limit - (negative ? 0 : 1)) return std::nullopt;
  return static_cast<i64>(negative ? 0 - *magnitude : *magnitude);
}

std::optional<u64> parse_size(std::string_view text, char default_suffix) {
  if (text.starts_with("0x") || text.starts_with("0X"))
    return parse_u64(text);  // hexadecimal takes no suffix: b and e are digits
  if (text.empty()) return std::nullopt;
  char suffix = default_suffix;
  if (std::isalpha(static_cast<unsigned char>(text.back()))) {
    suffix = text.back();
    text.remove_suffix(1);
  }
  auto shift = suffix_shift(suffix);
  size_t point = text.find('.');
  auto whole = parse_digits(text.substr(0, point), 10);
  if (!shift || !whole) return std::nullopt;
  auto bytes = checked_mul(*whole, u64{1} << *shift);
  if (!bytes || point == std::string_view::npos) return bytes;
  auto fraction = fraction_bytes(text.substr(point + 1), *shift);
  return fraction ? checked_add(*bytes, *fraction) : std::nullopt;
}

}  // namespace atl
