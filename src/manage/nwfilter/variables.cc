#include "manage/nwfilter/variables.h"

#include <fmt/format.h>

#include <optional>

#include "base/strings.h"

namespace atl::manage {
namespace {

constexpr size_t kMostRules = 4096;  // of one rule: values are a client's

/// "$NAME[@2]" or "$NAME[3]".
struct Access {
  std::string name;
  std::optional<u64> element;  // a fixed one
  u64 iterator = 0;
};

Error unresolvable(std::string_view name) {
  return {Code::InternalError,
          fmt::format("Cannot instantiate filter due to unresolvable variables or unavailable list elements: {}", name),
          Part::Nwfilter};
}

Result<Access> read_access(std::string_view text) {
  const size_t bracket = text.find('[');
  Access access{std::string(text.substr(1, bracket == std::string_view::npos ? bracket : bracket - 1)), {}, 0};
  if (bracket == std::string_view::npos) return access;
  std::string_view index = text.substr(bracket + 1, text.size() - bracket - 2);
  const bool is_iterator = index.starts_with('@');
  auto number = parse_u64(is_iterator ? index.substr(1) : index);
  if (!number) return unresolvable(text.substr(1));
  if (is_iterator)
    access.iterator = *number;
  else
    access.element = *number;
  return access;
}

/// How many values each iterator steps through.
Result<std::map<u64, size_t>> iterators_of(const FilterRule& rule, const FilterVariables& variables) {
  std::map<u64, size_t> sizes;
  for (const FilterMatch& match : rule.matches) {
    if (!match.value.starts_with('$') || match.attribute->kind == ValueKind::Text) continue;
    Access access = TRY(read_access(match.value));
    auto values = variables.find(access.name);
    if (values == variables.end()) {
      if (match.value == kLearnedAddress && match.attribute->kind == ValueKind::Ip4) continue;
      return unresolvable(access.name);
    }
    const size_t size = values->second.size();
    if (access.element && *access.element >= size) return unresolvable(match.value.substr(1));
    if (access.element) continue;
    auto [entry, is_new] = sizes.emplace(access.iterator, size);
    if (!is_new && entry->second != size)
      return Error(
          Code::InternalError,
          fmt::format("Cardinality of list items must be the same for processing them in parallel: {}", access.name),
          Part::Nwfilter);
  }
  return sizes;
}

Status fill_in(FilterRule& rule, const FilterVariables& variables, const std::map<u64, size_t>& at) {
  for (FilterMatch& match : rule.matches) {
    if (!match.value.starts_with('$') || match.attribute->kind == ValueKind::Text) continue;
    Access access = TRY(read_access(match.value));
    auto values = variables.find(access.name);
    if (values == variables.end()) continue;  // learned
    const std::string& text = values->second[access.element ? *access.element : at.at(access.iterator)];
    auto value = normal_value(match.attribute->kind, text);
    if (!value)
      return Error(Code::InternalError, fmt::format("{} has illegal value {}", match.attribute->name, text),
                   Part::Nwfilter);
    match.value = *std::move(value);
  }
  return {};
}

/// The next combination; false after the last.
bool step(std::map<u64, size_t>& at, const std::map<u64, size_t>& sizes) {
  for (auto& [iterator, position] : at) {
    if (++position < sizes.at(iterator)) return true;
    position = 0;
  }
  return false;
}

}  // namespace

Result<std::vector<FilterRule>> expand_rule(const FilterRule& rule, const FilterVariables& variables) {
  const std::map<u64, size_t> sizes = TRY(iterators_of(rule, variables));
  std::map<u64, size_t> at;
  for (const auto& [iterator, size] : sizes) at.emplace(iterator, 0);
  std::vector<FilterRule> rules;
  do {
    if (rules.size() == kMostRules)
      return Error(Code::InternalError, "a rule has too many combinations of values", Part::Nwfilter);
    FilterRule& one = rules.emplace_back(rule);
    TRY(fill_in(one, variables, at));
  } while (step(at, sizes));
  return rules;
}

}  // namespace atl::manage
