#include "img/json_text.h"

#include <fmt/format.h>
#include <fmt/printf.h>

#include <algorithm>
#include <cmath>

namespace atl::img {
namespace {

constexpr u32 kBuckets = 512;

/// The hash of trivial databases (TDB), which QEMU's dictionaries use.
u32 bucket_of(std::string_view key) {
  u32 sum = 0x238F13AF * static_cast<u32>(key.size());
  for (u32 i = 0; i < key.size(); ++i) sum += u32{static_cast<u8>(key[i])} << (i * 5 % 24);
  return (1103515243 * sum + 12345) % kBuckets;
}

void append_newline(std::string& out, int depth) { out += "\n" + std::string(static_cast<size_t>(depth) * 4, ' '); }

void append(std::string& out, const Json& value, int depth);

void append_object(std::string& out, const Json& object, int depth) {
  out += '{';
  const char* separator = "";
  for (const std::string& key : ordered_keys(object)) {
    out += separator;
    separator = ",";
    append_newline(out, depth + 1);
    out += Json(key).dump() + ": ";
    append(out, object[key], depth + 1);
  }
  append_newline(out, depth);
  out += '}';
}

void append_array(std::string& out, const Json& array, int depth) {
  out += '[';
  const char* separator = "";
  for (const Json& element : array) {
    out += separator;
    separator = ",";
    append_newline(out, depth + 1);
    append(out, element, depth + 1);
  }
  append_newline(out, depth);
  out += ']';
}

void append(std::string& out, const Json& value, int depth) {
  if (value.is_object()) return append_object(out, value, depth);
  if (value.is_array()) return append_array(out, value, depth);
  // Hostile names need not be UTF-8.
  out += value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string scalar_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

std::string labelled(std::string label, const Json& value, int depth) {
  std::string line(static_cast<size_t>(depth) * 4, ' ');
  bool nested = value.is_structured();
  line += std::move(label) + (nested ? ":\n" : ": ");
  return line + (nested ? human_lines(value, depth + 1) : scalar_text(value) + "\n");
}

}  // namespace

std::vector<std::string> ordered_keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  std::stable_sort(keys.begin(), keys.end(), [](auto& a, auto& b) { return bucket_of(a) < bucket_of(b); });
  return keys;
}

std::string pretty_json(const Json& value) {
  std::string out;
  append(out, value, 0);
  return out;
}

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
