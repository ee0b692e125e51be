// Option trees: nesting of flat keys, and readers that refuse by name what nobody took.
#include <fmt/format.h>

#include "base/key_values.h"
#include "base/strings.h"
#include "block/driver.h"

namespace atl::block {
namespace {

constexpr size_t kMaxDepth = 64;

/// Puts `value` at a path of keys. Two values for one place are an error.
Status place(Json& tree, std::string_view path, Json value, size_t depth) {
  if (depth > kMaxDepth) return Error(ErrorKind::Invalid, "options are nested too deeply");
  size_t dot = path.find('.');
  std::string key(path.substr(0, dot));
  if (dot != path.npos) {
    Json& inner = tree[key];
    if (inner.is_null()) inner = Json::object();
    if (!inner.is_object()) return Error(ErrorKind::Invalid, fmt::format("option '{}' is both a value and a group", key));
    return place(inner, path.substr(dot + 1), std::move(value), depth + 1);
  }
  auto found = tree.find(key);
  if (found == tree.end()) {
    tree[key] = std::move(value);
    return {};
  }
  if (!found->is_object() || !value.is_object())
    return Error(ErrorKind::Invalid, fmt::format("option '{}' is given twice", key));
  for (auto& [name, item] : value.items()) TRY(place(*found, name, std::move(item), depth + 1));
  return {};
}

Json lists_from_indexes(Json tree, size_t depth) {
  if (!tree.is_object() || depth > kMaxDepth) return tree;
  for (auto& item : tree) item = lists_from_indexes(std::move(item), depth + 1);
  if (tree.empty()) return tree;
  Json list = Json::array();
  for (size_t i = 0; i < tree.size(); ++i) {
    auto item = tree.find(std::to_string(i));
    if (item == tree.end()) return tree;
    list.push_back(*item);
  }
  return list;
}

Result<Json> nest(Json options, size_t depth) {
  if (!options.is_object()) return options;
  if (depth > kMaxDepth) return Error(ErrorKind::Invalid, "options are nested too deeply");
  Json tree = Json::object();
  for (auto& [key, value] : options.items()) {
    Json inner = TRY(nest(std::move(value), depth + 1));
    TRY(place(tree, key, std::move(inner), 0));
  }
  return tree;
}

}  // namespace

Result<Preallocation> parse_preallocation(const std::string& name) {
  constexpr const char* kNames[] = {"off", "metadata", "falloc", "full"};
  for (u8 i = 0; i < 4; ++i)
    if (name == kNames[i]) return static_cast<Preallocation>(i);
  return Error(ErrorKind::Invalid, fmt::format("Parameter 'preallocation' does not accept value '{}'", name));
}

Result<Json> nest_options(Json options) {
  Json tree = TRY(nest(std::move(options), 0));
  return lists_from_indexes(std::move(tree), 0);
}

OptionReader::OptionReader(Json options, std::string driver) : options_(std::move(options)), driver_(std::move(driver)) {
  if (!options_.is_object()) options_ = Json::object();
}

/// The value at the key itself, or at its path.
Json* OptionReader::locate(std::string_view key) {
  auto whole = options_.find(std::string(key));
  if (whole != options_.end()) return &*whole;
  Json* at = &options_;
  for (std::string_view part : split(key, '.')) {
    if (!at->is_object()) return nullptr;
    auto found = at->find(std::string(part));
    if (found == at->end()) return nullptr;
    at = &*found;
  }
  return at;
}

bool OptionReader::has(std::string_view key) const { return const_cast<OptionReader*>(this)->locate(key) != nullptr; }

Json OptionReader::take(std::string_view key) {
  Json* found = locate(key);
  if (!found) return nullptr;
  Json value = std::move(*found);
  if (options_.erase(std::string(key))) return value;
  // Groups that have become empty go with their last member.
  size_t dot = key.rfind('.');
  std::string_view group = key.substr(0, dot);
  locate(group)->erase(std::string(key.substr(dot + 1)));
  while (!group.empty()) {
    Json* rest = locate(group);
    if (!rest || !rest->empty()) break;
    dot = group.rfind('.');
    std::string last(group.substr(dot == group.npos ? 0 : dot + 1));
    group = dot == group.npos ? std::string_view() : group.substr(0, dot);
    (group.empty() ? options_ : *locate(group)).erase(last);
  }
  return value;
}

Error OptionReader::invalid(std::string_view key, std::string_view expects) const {
  return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' of driver '{}' expects {}", key, driver_, expects));
}

Result<std::string> OptionReader::string(std::string_view key, std::string fallback) {
  if (!has(key)) return fallback;
  Json value = take(key);
  if (const auto* text = value.get_ptr<const std::string*>()) return *text;
  if (value.is_number() || value.is_boolean()) return value.dump();
  return invalid(key, "a string");
}

Result<std::string> OptionReader::required_string(std::string_view key) {
  if (!has(key)) return Error(ErrorKind::Invalid, fmt::format("A block device of driver '{}' needs the option '{}'", driver_, key));
  return string(key, {});
}

Result<u64> OptionReader::number(std::string_view key, u64 fallback) {
  if (!has(key)) return fallback;
  Json value = take(key);
  if (const auto* number = value.get_ptr<const Json::number_unsigned_t*>()) return *number;
  if (const auto* number = value.get_ptr<const Json::number_integer_t*>(); number && *number >= 0)
    return static_cast<u64>(*number);
  if (const auto* text = value.get_ptr<const std::string*>())
    if (auto number = parse_u64(*text)) return *number;
  return invalid(key, "a number");
}

Result<u64> OptionReader::size(std::string_view key, u64 fallback) {
  const Json* value = locate(key);
  const auto* text = value ? value->get_ptr<const std::string*>() : nullptr;
  if (!text) return number(key, fallback);
  auto bytes = parse_size(*text);
  take(key);
  if (!bytes) return invalid(key, "a size");
  return *bytes;
}

Result<bool> OptionReader::boolean(std::string_view key, bool fallback) {
  if (!has(key)) return fallback;
  Json value = take(key);
  if (const auto* flag = value.get_ptr<const bool*>()) return *flag;
  if (const auto* text = value.get_ptr<const std::string*>())
    if (auto flag = parse_bool(*text)) return *flag;
  return invalid(key, "'on' or 'off'");
}

Json OptionReader::child(std::string_view key) { return take(key); }

Json OptionReader::rest(std::string_view prefix) {
  Json group = take(prefix);
  if (!group.is_object()) group = Json::object();
  std::string dotted = std::string(prefix) + ".";
  for (auto it = options_.begin(); it != options_.end();) {
    if (!it.key().starts_with(dotted)) {
      ++it;
      continue;
    }
    group[it.key().substr(dotted.size())] = std::move(it.value());
    it = options_.erase(it);
  }
  return group;
}

Status OptionReader::finish() const {
  if (options_.empty()) return {};
  return Error(ErrorKind::Invalid,
               fmt::format("Block format '{}' does not support the option '{}'", driver_, options_.begin().key()));
}

}  // namespace atl::block
