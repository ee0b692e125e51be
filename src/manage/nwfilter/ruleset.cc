#include "manage/nwfilter/ruleset.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "manage/nwfilter/connection_rules.h"
#include "manage/nwfilter/link_rules.h"
#include "manage/nwfilter/match_text.h"

namespace atl::manage {
namespace {

constexpr std::string_view kVerdicts[] = {"drop", "accept", "drop", "return", "continue"};
constexpr size_t kMostRules = 20'000, kMostReferences = 1'000;

Error failure(std::string text) { return {Code::InternalError, std::move(text), Part::Nwfilter}; }

struct PlacedRule {
  FilterRule rule;
  std::string chain;
  i32 chain_priority;
};

/// Puts the rules of a filter, and of those that it refers to, into one list.
class Collector {
 public:
  explicit Collector(const FilterLookup& lookup) : lookup_(lookup) {}

  Status add(const std::string& name, const FilterVariables& variables) {
    const Filter* filter = lookup_(name);
    if (!filter) return failure(fmt::format("referenced filter '{}' is missing", name));
    if (++references_ > kMostReferences) return failure("a filter refers to too many others");
    for (const auto& entry : filter->entries) {
      if (const auto* rule = std::get_if<FilterRule>(&entry)) TRY(add_rule(*filter, *rule, variables));
      if (const auto* reference = std::get_if<FilterReference>(&entry)) TRY(add_reference(*reference, variables));
    }
    return {};
  }
  std::vector<PlacedRule> take() {
    std::ranges::stable_sort(rules_, {}, [](const PlacedRule& placed) { return placed.rule.priority; });
    return std::move(rules_);
  }

 private:
  Status add_rule(const Filter& filter, const FilterRule& rule, const FilterVariables& variables) {
    for (FilterRule& one : TRY(expand_rule(rule, variables))) {
      if (rules_.size() == kMostRules) return failure("a filter with too many rules");
      rules_.push_back({std::move(one), filter.chain, filter.priority});
    }
    return {};
  }
  /// What the card says goes before what a reference says.
  Status add_reference(const FilterReference& reference, const FilterVariables& variables) {
    FilterVariables inner = variables;
    for (const auto& [name, value] : reference.parameters)
      if (!variables.contains(name)) inner[name].push_back(value);
    return add(reference.filter, inner);
  }

  const FilterLookup& lookup_;
  std::vector<PlacedRule> rules_;
  size_t references_ = 0;
};

bool applies(const FilterRule& rule, FilterDirection direction) {
  return rule.direction == FilterDirection::Both || rule.direction == direction;
}
bool is_on_frames(const FilterRule& rule) { return !rule.protocol || rule.protocol->layer == FilterLayer::Link; }

/// A colon may be in a chain's name, but not in nft's; a slash the other way round.
std::string chain_name(FilterDirection direction, std::string_view chain) {
  std::string name = fmt::format("{}_{}", direction == FilterDirection::Out ? "from" : "to", chain);
  std::ranges::replace(name, ':', '/');
  return name;
}

/// The chains on frames of one direction; the root's lines go into the base chain.
class FrameChains {
 public:
  FrameChains(FilterDirection direction, const std::vector<PlacedRule>& rules) : direction_(direction) {
    for (const PlacedRule& placed : rules)
      if (is_on_frames(placed.rule) && applies(placed.rule, direction)) placed_.push_back(&placed);
  }

  Status build() {
    std::map<std::string, std::string> texts;
    std::vector<std::pair<i32, std::string>> root;
    for (const PlacedRule* placed : placed_) {
      std::string line =
          fmt::format("    {}{}\n", TRY(link_match(placed->rule)), kVerdicts[static_cast<size_t>(placed->rule.action)]);
      if (placed->chain == "root") {
        root.emplace_back(placed->rule.priority, std::move(line));
        continue;
      }
      auto [chain, is_new] = texts.emplace(placed->chain, "");
      chain->second += line;
      if (is_new) root.emplace_back(placed->chain_priority, jump(placed->chain));
    }
    std::ranges::stable_sort(root, {}, &std::pair<i32, std::string>::first);
    for (const auto& [priority, line] : root) root_ += line;
    for (const auto& [chain, text] : texts)
      chains_ += fmt::format("  chain {} {{\n{}  }}\n", chain_name(direction_, chain), text);
    return {};
  }
  const std::string& root() const { return root_; }
  const std::string& chains() const { return chains_; }

 private:
  std::string jump(const std::string& chain) const {
    return fmt::format("    {}jump {}\n", chain_kind(chain)->match, chain_name(direction_, chain));
  }

  const FilterDirection direction_;
  std::vector<const PlacedRule*> placed_;
  std::string root_, chains_;
};

struct Hook {
  std::string_view name, hook, device;
  int priority;
};
constexpr Hook kFromGuest = {"from_guest", "prerouting", "iifname", -200};
constexpr Hook kToGuest = {"to_guest", "postrouting", "oifname", -200};
constexpr Hook kFromGuestConnections = {"from_guest_connections", "prerouting", "iifname", -150};
constexpr Hook kToGuestConnections = {"to_guest_connections", "postrouting", "oifname", -150};

std::string base_chain(const Hook& hook, const std::string& port, const std::string& lines) {
  if (lines.empty()) return {};
  return fmt::format(
      "  chain {} {{\n    type filter hook {} priority {}; policy accept;\n    {} != \"{}\" accept\n{}  }}\n",
      hook.name, hook.hook, hook.priority, hook.device, port, lines);
}

enum class Learning : u8 { Any, Dhcp, None };

Result<Learning> learning_of(const FilterVariables& variables) {
  auto found = variables.find("CTRL_IP_LEARNING");
  if (found == variables.end() || found->second.front() == "any") return Learning::Any;
  if (found->second.front() == "dhcp") return Learning::Dhcp;
  if (found->second.front() == "none") return Learning::None;
  return failure(fmt::format("filter parameter CTRL_IP_LEARNING has the value '{}'", found->second.front()));
}

/// Lines that fill the set of known addresses; they stand first.
struct LearningLines {
  std::string set, from_guest, to_guest;
};

Result<LearningLines> learning_lines(const FilterVariables& variables, const std::string& rules) {
  if (rules.find(kKnownSet) == std::string::npos) return LearningLines{};
  LearningLines lines{"  set known { type ipv4_addr; flags dynamic; size 1; }\n", "", ""};
  switch (TRY(learning_of(variables))) {
    case Learning::None:
      return failure("Cannot instantiate filter due to unresolvable variables or unavailable list elements: IP");
    case Learning::Any:
      lines.from_guest =
          "    ether type arp arp saddr ip != 0.0.0.0 add @known { arp saddr ip }\n"
          "    ether type ip ip saddr != 0.0.0.0 add @known { ip saddr }\n";
      break;
    case Learning::Dhcp:
      // RFC 2131 section 2: a reply (2) has the client's address 16 bytes behind the UDP header.
      lines.to_guest =
          "    ether type ip udp sport 67 udp dport 68 @th,64,8 2 @th,192,32 != 0 add @known { @th,192,32 }\n";
      break;
  }
  return lines;
}

FilterVariables variables_of(const FilterBinding& binding) {
  FilterVariables variables;
  for (const auto& [name, value] : binding.parameters) variables[name].push_back(value);
  if (!variables.contains("MAC")) variables["MAC"] = {binding.mac};
  return variables;
}

bool reaches(const std::string& filter, const std::string& name, const FilterLookup& lookup,
             std::set<std::string>& seen) {
  if (filter == name) return true;
  if (!seen.insert(filter).second) return false;
  const Filter* found = lookup(filter);
  if (!found) return false;
  for (const auto& entry : found->entries)
    if (const auto* reference = std::get_if<FilterReference>(&entry);
        reference && reaches(reference->filter, name, lookup, seen))
      return true;
  return false;
}

}  // namespace

Result<std::string> binding_rules(const FilterBinding& binding, const FilterLookup& lookup) {
  const FilterVariables variables = variables_of(binding);
  Collector collector(lookup);
  TRY(collector.add(binding.filter, variables));
  const std::vector<PlacedRule> rules = collector.take();
  FrameChains from(FilterDirection::Out, rules), to(FilterDirection::In, rules);
  TRY(from.build());
  TRY(to.build());
  ConnectionLines connections;
  for (const PlacedRule& placed : rules) {
    if (is_on_frames(placed.rule)) continue;
    ConnectionLines lines = TRY(connection_lines(placed.rule));
    connections.from_guest += lines.from_guest;
    connections.to_guest += lines.to_guest;
  }
  const std::string sub_chains = from.chains() + to.chains();
  const std::string connection_text = connections.from_guest + connections.to_guest;
  LearningLines learning = TRY(learning_lines(variables, from.root() + to.root() + sub_chains + connection_text));
  std::string text = binding_removal(binding.port) + fmt::format("table bridge atoll-{} {{\n", binding.port);
  text += learning.set + connection_sets(connection_text) + sub_chains;
  text += base_chain(kFromGuest, binding.port, learning.from_guest + from.root());
  text += base_chain(kToGuest, binding.port, learning.to_guest + to.root());
  text += base_chain(kFromGuestConnections, binding.port, connections.from_guest);
  text += base_chain(kToGuestConnections, binding.port, connections.to_guest);
  return text + "}\n";
}

std::string binding_removal(const std::string& port) {
  return fmt::format("table bridge atoll-{0} {{}}\ndelete table bridge atoll-{0}\n", port);
}

bool filter_uses(const std::string& filter, const std::string& name, const FilterLookup& lookup) {
  std::set<std::string> seen;
  return reaches(filter, name, lookup, seen);
}

}  // namespace atl::manage
