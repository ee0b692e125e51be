#include <algorithm>

#include <fmt/format.h>

#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

bool is_well_formed_id(std::string_view id) {
  if (id.empty() || id.size() > 127 || !is_letter(id[0])) return false;
  return std::all_of(id.begin(), id.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_'; });
}

Status check_id(std::string_view id) {
  if (is_well_formed_id(id)) return {};
  return Error(ErrorKind::Invalid, "Parameter 'id' expects an identifier: letters, digits, '-', '.', '_', starting with a letter");
}

}  // namespace atl::control
