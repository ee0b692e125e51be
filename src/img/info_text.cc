#include "img/info_text.h"

#include <fmt/format.h>
#include <fmt/printf.h>

#include <algorithm>
#include <cmath>


namespace atl::img {
namespace {

std::string scalar_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::string labelled(std::string label, const Json& value, int depth) {
  std::string line(static_cast<size_t>(depth) * 4, ' ');
  bool nested = value.is_structured();
  line += std::move(label) + (nested ? ":\n" : ": ");
  return line + (nested ? human_lines(value, depth + 1) : scalar_text(value) + "\n");
}

}  // namespace

std::string human_lines(const Json& value, int depth) {
  std::string out;
  if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) out += labelled(fmt::format("[{}]", i), value[i], depth);
    return out;
  }
  for (const std::string& key : ordered_keys(value)) {
    std::string label = key;
    std::replace(label.begin(), label.end(), '-', ' ');
    out += labelled(std::move(label), value[key], depth);
  }
  return out;
}

std::string size_text(u64 bytes) {
  static constexpr const char* kUnits[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  // A unit is taken from 1000 of the smaller one on, so that three digits are enough.
  int exponent = 0;
  std::frexp(static_cast<double>(bytes) / (1000.0 / 1024.0), &exponent);
  int unit = std::max(exponent - 1, 0) / 10;
  return fmt::format("{} {}B", fmt::sprintf("%0.3g", std::ldexp(static_cast<double>(bytes), -10 * unit)),
                     kUnits[static_cast<size_t>(unit)]);
}

}  // namespace atl::img
