#include "img/numbers.h"

#include <fmt/format.h>

#include "base/strings.h"

namespace atl::img {

Result<u64> parse_amount(std::string_view what, std::string_view text, u64 low, u64 high) {
  text = trim(text);
  // What is too large for 64 bits still was a number.
  bool is_number = !text.empty() && text.find_first_not_of("0123456789") == text.npos;
  auto value = parse_size(text);
  if (!value && !is_number && !(text.size() > 1 && text.back() >= 'A' && parse_u64(text.substr(0, text.size() - 1)) &&
                                std::string_view("bkmgtpeBKMGTPE").find(text.back()) != std::string_view::npos)) {
    return Error(ErrorKind::Invalid,
                 fmt::format("Invalid {} specified. You may use k, M, G, T, P or E suffixes for\fkilobytes, "
                             "megabytes, gigabytes, terabytes, petabytes and exabytes.",
                             what));
  }
  if (!value || *value < low || *value > high) {
    std::string range = high == ~u64{0} ? fmt::format("at least {}", low) : fmt::format("between {} and {}", low, high);
    return Error(ErrorKind::Invalid, fmt::format("Invalid {} specified. Must be {}.", what, range));
  }
  return *value;
}

Result<u64> parse_count(std::string_view text, u64 low, u64 high, std::string_view message) {
  auto value = parse_u64(text);
  if (!value || *value < low || *value > high) return Error(ErrorKind::Invalid, std::string(message));
  return *value;
}

}  // namespace atl::img
