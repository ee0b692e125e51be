#include "base/key_values.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/strings.h"

namespace atl {
namespace {

Error bad_value(std::string_view key, std::string_view value, std::string_view expected) {
  return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' expects {}, not '{}'", key, expected, value));
}

/// Cuts a value off the front of `text`, up to a single comma, which goes too; doubled commas become one.
std::string cut_value(std::string_view& text) {
  std::string value;
  while (!text.empty()) {
    char c = text.front();
    text.remove_prefix(1);
    if (c == ',') {
      if (!text.starts_with(',')) break;
      text.remove_prefix(1);
    }
    value += c;
  }
  return value;
}

}  // namespace

Result<KeyValues> KeyValues::parse(std::string_view text, std::string_view implied_key) {
  KeyValues list;
  bool first = true;
  while (!text.empty()) {
    size_t key_end = std::min(text.find_first_of("=,"), text.size());
    bool bare = key_end == text.size() || text[key_end] == ',';
    if (bare && first && !implied_key.empty()) {
      list.entries_.push_back({std::string(implied_key), cut_value(text), false});
    } else {
      std::string key(text.substr(0, key_end));
      text.remove_prefix(std::min(key_end + 1, text.size()));
      if (key.empty()) return Error(ErrorKind::Invalid, "a parameter without a name");
      std::string value = bare ? "on" : cut_value(text);
      list.entries_.push_back({std::move(key), std::move(value), bare});
    }
    first = false;
  }
  return list;
}

const std::string* KeyValues::find(std::string_view key) const {
  auto at = std::find_if(entries_.rbegin(), entries_.rend(), [&](const Entry& e) { return e.key == key; });
  return at == entries_.rend() ? nullptr : &at->value;
}

std::string KeyValues::get(std::string_view key, std::string_view fallback) const {
  const std::string* value = find(key);
  return value ? *value : std::string(fallback);
}

bool KeyValues::asks_help() const {
  auto is_help = [](std::string_view text) { return text == "help" || text == "?"; };
  if (!entries_.empty() && is_help(entries_.front().value)) return true;
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.bare && is_help(e.key); });
}

void KeyValues::set(std::string key, std::string value) {
  entries_.push_back({std::move(key), std::move(value), false});
}

std::vector<std::string> KeyValues::take_all(std::string_view key) {
  std::vector<std::string> values;
  std::erase_if(entries_, [&](Entry& e) {
    if (e.key != key) return false;
    values.push_back(std::move(e.value));
    return true;
  });
  return values;
}

std::optional<std::string> KeyValues::take(std::string_view key) {
  auto values = take_all(key);
  if (values.empty()) return std::nullopt;
  return std::move(values.back());
}

Result<std::string> KeyValues::take_required(std::string_view key) {
  auto value = take(key);
  if (!value) return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' is missing", key));
  return *std::move(value);
}

Result<u64> KeyValues::take_u64(std::string_view key, u64 fallback, u64 max) {
  auto text = take(key);
  if (!text) return fallback;
  auto value = parse_u64(*text);
  if (!value) return bad_value(key, *text, "a number");
  if (*value > max) return bad_value(key, *text, fmt::format("a number up to {}", max));
  return *value;
}

Result<u64> KeyValues::take_size(std::string_view key, u64 fallback, char default_suffix) {
  auto text = take(key);
  if (!text) return fallback;
  auto value = parse_size(*text, default_suffix);
  if (!value) return bad_value(key, *text, "a size below 2^64, optionally with a suffix k, M, G or T");
  return *value;
}

Result<bool> KeyValues::take_bool(std::string_view key, bool fallback) {
  std::string negated = fmt::format("no{}", key);
  for (auto& entry : entries_) {
    if (entry.bare && entry.key == negated) entry = {std::string(key), "off", false};
  }
  auto text = take(key);
  if (!text) return fallback;
  auto value = parse_bool(*text);
  if (!value) return bad_value(key, *text, "'on' or 'off'");
  return *value;
}

Result<size_t> KeyValues::take_choice(std::string_view key, std::span<const std::string_view> choices,
                                      size_t fallback) {
  auto text = take(key);
  if (!text) return fallback;
  auto at = std::find(choices.begin(), choices.end(), *text);
  if (at == choices.end()) return bad_value(key, *text, fmt::format("one of {}", fmt::join(choices, ", ")));
  return static_cast<size_t>(at - choices.begin());
}

KeyValues KeyValues::take_prefix(std::string_view prefix) {
  KeyValues taken;
  std::erase_if(entries_, [&](Entry& e) {
    if (!e.key.starts_with(prefix)) return false;
    e.key.erase(0, prefix.size());
    taken.entries_.push_back(std::move(e));
    return true;
  });
  return taken;
}

Status KeyValues::expect_empty() const {
  if (entries_.empty()) return {};
  return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", entries_.front().key));
}

std::optional<bool> parse_bool(std::string_view text) {
  for (std::string_view yes : {"on", "yes", "true", "y"})
    if (text == yes) return true;
  for (std::string_view no : {"off", "no", "false", "n"})
    if (text == no) return false;
  return std::nullopt;
}

}  // namespace atl
