#include "manage/nwfilter/filter.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "manage/xml/parse.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

constexpr std::string_view kActions[] = {"drop", "accept", "reject", "return", "continue"};
constexpr std::string_view kDirections[] = {"in", "out", "inout"};
constexpr i32 kLowest = -1000, kHighest = 1000, kUsual = 500;
constexpr size_t kMostEntries = 10'000;
constexpr size_t kLongestChain = 12;  // libvirt's names of chains of ebtables have no more room

constexpr ChainKind kChains[] = {
    {"root", 0, ""},
    {"mac", -800, ""},
    {"vlan", -750, "ether type 8021q "},
    {"stp", -810, "ether daddr 01:80:c2:00:00:00 "},
    {"arp", -500, "ether type arp "},
    {"rarp", -400, "ether type 0x8035 "},
    {"ipv4", -700, "ether type ip "},
    {"ipv6", -600, "ether type ip6 "},
};

Error bad(std::string text) { return {Code::ConfigUnsupported, std::move(text), Part::Nwfilter}; }

bool is_name_character(char c) {
  return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
         std::string_view("_.:-").find(c) != std::string_view::npos;
}

/// Out of range means the usual one, as with libvirt.
std::optional<i32> read_priority(const Element& element) {
  const std::string* text = element.find_attribute("priority");
  if (!text) return std::nullopt;
  i32 value = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  bool fits = error == std::errc() && end == text->data() + text->size() && value >= kLowest && value <= kHighest;
  return fits ? std::optional(value) : std::nullopt;
}

template <size_t kCount>
std::optional<size_t> index_of(const std::string_view (&names)[kCount], const std::string& text) {
  auto found = std::ranges::find(names, text);
  if (found == std::end(names)) return std::nullopt;
  return static_cast<size_t>(found - std::begin(names));
}

/// "$NAME", "$NAME[2]", "$NAME[@1]".
bool is_variable(std::string_view text) {
  if (text.size() < 2 || text[0] != '$') return false;
  const size_t bracket = text.find('[');
  for (char c : text.substr(1, bracket == std::string_view::npos ? bracket : bracket - 1))
    if (!is_name_character(c)) return false;
  return bracket == std::string_view::npos || (bracket > 1 && text.ends_with(']'));
}

Status read_matches(const Element& element, FilterRule& rule) {
  for (const FilterAttribute& attribute : rule.protocol->attributes) {
    const std::string* text = element.find_attribute(attribute.name);
    if (!text || rule.value(attribute.name)) continue;
    std::optional<std::string> value;
    if (attribute.kind != ValueKind::Text && is_variable(*text))
      value = *text;
    else
      value = normal_value(attribute.kind, *text);
    if (!value)
      return Error(Code::InternalError, fmt::format("{} has illegal value {}", attribute.name, *text), Part::Nwfilter);
    rule.matches.push_back({&attribute, *std::move(value)});
  }
  return {};
}

Result<FilterRule> read_rule(const Element& element) {
  FilterRule rule;
  if (!element.has_attribute("action")) return bad("rule node requires action attribute");
  auto action = index_of(kActions, element.attribute("action"));
  if (!action) return bad("unknown rule action attribute value");
  if (!element.has_attribute("direction")) return bad("rule node requires direction attribute");
  auto direction = index_of(kDirections, element.attribute("direction"));
  if (!direction) return bad("unknown rule direction attribute value");
  rule.action = static_cast<FilterAction>(*action);
  rule.direction = static_cast<FilterDirection>(*direction);
  rule.priority = read_priority(element).value_or(kUsual);
  const std::string tracks = element.attribute("statematch");
  rule.tracks = tracks != "0" && tracks != "false";
  for (const Element* child : element.children()) {
    const FilterProtocol* protocol = find_filter_protocol(child->name());
    if (!protocol || (rule.protocol && rule.protocol != protocol)) continue;
    if (!rule.protocol) rule.negated = child->attribute("match") == "no";
    rule.protocol = protocol;
    TRY(read_matches(*child, rule));
  }
  return rule;
}

Result<FilterReference> read_reference(const Element& element) {
  FilterReference reference{element.attribute("filter"), {}};
  if (reference.filter.empty()) return bad("rule node requires action attribute");
  reference.parameters = TRY(read_filter_parameters(element));
  return reference;
}

Status read_chain(const Element& element, Filter& filter) {
  if (element.has_attribute("chain")) filter.chain = element.attribute("chain");
  const ChainKind* kind = chain_kind(filter.chain);
  if (!kind)
    return Error(Code::InvalidArg,
                 fmt::format("Invalid chain name '{}'. Please use a chain name called 'root' or any of the following "
                             "prefixes: mac, vlan, stp, arp, rarp, ipv4, ipv6",
                             filter.chain),
                 Part::Nwfilter);
  filter.priority = read_priority(element).value_or(kind->priority);
  return {};
}

Element rule_element(const FilterRule& rule) {
  Element element("rule");
  element.set("action", kActions[static_cast<size_t>(rule.action)]);
  element.set("direction", kDirections[static_cast<size_t>(rule.direction)]);
  element.set("priority", std::string_view(std::to_string(rule.priority)));
  if (!rule.tracks) element.set("statematch", "false");
  if (!rule.protocol) return element;
  Element& protocol = element.add(rule.protocol->name);
  if (rule.negated) protocol.set("match", "no");
  for (const FilterAttribute& attribute : rule.protocol->attributes)
    if (const std::string* value = rule.value(attribute.name)) protocol.set(attribute.name, *value);
  return element;
}

Element reference_element(const FilterReference& reference) {
  Element element("filterref");
  element.set("filter", reference.filter);
  add_filter_parameters(element, reference.parameters);
  return element;
}

}  // namespace

const std::string* FilterRule::value(std::string_view attribute) const {
  auto found =
      std::ranges::find_if(matches, [&](const FilterMatch& match) { return match.attribute->name == attribute; });
  return found == matches.end() ? nullptr : &found->value;
}

const ChainKind* chain_kind(std::string_view chain) {
  if (chain == "root") return &kChains[0];
  if (chain.size() > kLongestChain || !std::ranges::all_of(chain, is_name_character)) return nullptr;
  for (const ChainKind& kind : std::span(kChains).subspan(1))
    if (chain.starts_with(kind.prefix)) return &kind;
  return nullptr;
}

Result<FilterParameters> read_filter_parameters(const Element& element) {
  FilterParameters parameters;
  for (const Element* parameter : element.children("parameter")) {
    const std::string name = parameter->attribute("name"), value = parameter->attribute("value");
    bool is_good =
        !name.empty() && std::ranges::all_of(name, is_name_character) && !value.empty() && value.size() < 256;
    for (char c : value) is_good &= is_name_character(c) || c == '/';
    if (!is_good) return bad(fmt::format("parameter '{}' of a filter has the value '{}'", name, value));
    parameters.emplace_back(name, value);
  }
  return parameters;
}

void add_filter_parameters(Element& element, const FilterParameters& parameters) {
  FilterParameters sorted = parameters;
  std::ranges::stable_sort(sorted, {}, &std::pair<std::string, std::string>::first);
  for (const auto& [name, value] : sorted) element.add("parameter").set("name", name).set("value", value);
}

Result<Filter> parse_filter(std::string_view text) {
  Element element = TRY(xml::parse(text, "(nwfilter_definition)", "filter"));
  Filter filter;
  filter.name = element.attribute("name");
  if (filter.name.empty()) return Error(Code::InternalError, "filter has no name", Part::Nwfilter);
  TRY(xml::check_name(filter.name));
  filter.uuid = TRY(xml::uuid_child(element));
  TRY(read_chain(element, filter));
  for (const Element* child : element.children()) {
    if (child->name() == "rule") filter.entries.emplace_back(TRY(read_rule(*child)));
    if (child->name() == "filterref") filter.entries.emplace_back(TRY(read_reference(*child)));
    if (filter.entries.size() > kMostEntries) return bad("a filter with too many rules");
  }
  return filter;
}

std::string filter_xml(const Filter& filter) {
  Element element("filter");
  element.set("name", filter.name).set("chain", filter.chain);
  if (filter.priority != 0) element.set("priority", std::string_view(std::to_string(filter.priority)));
  element.add("uuid", format_uuid(filter.uuid));
  for (const auto& entry : filter.entries) {
    if (const auto* rule = std::get_if<FilterRule>(&entry)) element.add(rule_element(*rule));
    if (const auto* reference = std::get_if<FilterReference>(&entry)) element.add(reference_element(*reference));
  }
  return xml::write(element);
}

}  // namespace atl::manage
