#include "manage/nwfilter/connection_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/strings.h"
#include "manage/nwfilter/match_text.h"

namespace atl::manage {
namespace {

constexpr std::string_view kWithPorts = "{ tcp, udp, sctp, udplite }";
constexpr std::string_view kNeither = "{ tcp, udp, sctp, udplite, icmp, icmpv6 }";

Error unsupported(std::string text) { return {Code::ConfigUnsupported, std::move(text), Part::Nwfilter}; }

bool is_v6(const FilterRule& rule) { return rule.protocol->layer == FilterLayer::Ip6; }

/// How one chain looks at packets.
struct View {
  bool v6;
  bool from_guest;  // whose packets the chain sees
  bool turned;      // source and target of the rule are exchanged
  std::string family() const { return v6 ? "ip6" : "ip"; }
  std::string address(bool source) const { return family() + (source != turned ? " saddr" : " daddr"); }
  std::string_view port(bool source) const { return source != turned ? "th sport" : "th dport"; }
};

Result<std::string> match(const FilterRule& rule, const View& view) {
  MatchText text(rule);
  text.compare_mac(view.turned ? "ether daddr" : "ether saddr", "srcmacaddr", "");
  text.add(fmt::format("ether type {} ", view.family()));
  if (!rule.protocol->number.empty()) text.add(fmt::format("meta l4proto {} ", rule.protocol->number));
  TRY(text.compare_ip(view.address(true), "srcipaddr", "srcipmask"));
  TRY(text.compare_ip(view.address(false), "dstipaddr", "dstipmask"));
  text.compare_address_range(view.address(true), "srcipfrom", "srcipto");
  text.compare_address_range(view.address(false), "dstipfrom", "dstipto");
  text.compare(view.family() + " dscp", "dscp");
  text.compare_range(view.port(true), "srcportstart", "srcportend");
  text.compare_range(view.port(false), "dstportstart", "dstportend");
  const std::string icmp = view.v6 ? "icmpv6" : "icmp";
  text.compare(icmp + " type", "type");
  text.compare(icmp + " code", "code");
  if (const std::string* option = rule.value("option"))
    text.add(fmt::format("tcp option {} {} ", filter_number(*option).value_or(0), rule.negated ? "missing" : "exists"));
  if (const std::string* flags = rule.value("flags")) {
    const size_t slash = flags->find('/');
    text.equal(fmt::format("tcp flags & {:#x}", tcp_flag_bits(flags->substr(0, slash))),
               fmt::format("{:#x}", tcp_flag_bits(flags->substr(slash + 1))));
  }
  return text.text();
}

/// Packets that are remembered alike: those with ports and those without.
struct Kind {
  std::string condition;
  bool has_ports;
  std::string_view timeout;
  std::string_view answer = "";  // what more an answer must be
};

/// ICMP has no ports: an answer is known by its type (RFC 792, RFC 950, RFC 4443, RFC 4620).
std::string_view icmp_answer(const FilterRule& rule) {
  return is_v6(rule) ? "icmpv6 type { 129, 140 } " : "icmp type { 0, 14, 16, 18 } ";
}

std::vector<Kind> kinds_of(const FilterRule& rule) {
  const std::string_view number = rule.protocol->number;
  if (number.empty())
    return {{"meta l4proto tcp ", true, "5d"},
            {fmt::format("meta l4proto {} ", kWithPorts), true, "3m"},
            {is_v6(rule) ? "meta l4proto icmpv6 " : "meta l4proto icmp ", false, "3m", icmp_answer(rule)},
            {fmt::format("meta l4proto != {} ", kNeither), false, "3m"}};
  if (number == "1" || number == "58") return {{"", false, "3m", icmp_answer(rule)}};
  const bool has_ports = number == "6" || number == "17" || number == "132" || number == "136";
  return {{"", has_ports, number == "6" ? "5d" : "3m"}};
}

/// The guest's side first, whoever sent the packet.
std::string key(const View& view, const Kind& kind) {
  const std::string family = view.family();
  const bool from = view.from_guest;
  std::string hosts =
      fmt::format("{0} {1} . {0} {2} . meta l4proto", family, from ? "saddr" : "daddr", from ? "daddr" : "saddr");
  if (!kind.has_ports) return hosts;
  return fmt::format("{} . th {} . th {}", hosts, from ? "sport" : "dport", from ? "dport" : "sport");
}

std::string set_name(const View& view, const Kind& kind) {
  return fmt::format("{}{}", kind.has_ports ? "flows" : "talks", view.v6 ? "6" : "4");
}

/// What a rule asks of the connection.
struct States {
  bool is_given = false, is_new = true, established = true, related = false;
};

Result<States> read_states(const FilterRule& rule) {
  const std::string* text = rule.value("state");
  if (!text || *text == "NONE" || !rule.tracks) return States{};
  States states{true, false, false, false};
  for (std::string_view state : split(*text, ',')) {
    if (state == "INVALID") return unsupported("the state INVALID of a connection is not supported");
    states.is_new |= state == "NEW";
    states.established |= state == "ESTABLISHED";
    states.related |= state == "RELATED";
  }
  const bool has_errors = rule.protocol->number.empty();
  if (states.related && !has_errors && !states.is_new && !states.established)
    return unsupported(
        fmt::format("connections RELATED to others are not supported for protocol {}", rule.protocol->name));
  states.related &= has_errors;
  return states;
}

std::string state_condition(const States& states, const View& view, const Kind& kind) {
  if (states.is_new && states.established) return {};
  return fmt::format("{}{} @{} ", key(view, kind), states.is_new ? " !=" : "", set_name(view, kind));
}

/// Accepts, and remembers.
Result<std::string> accepting(const FilterRule& rule, const View& view, const States& states) {
  std::string lines;
  const std::string text = TRY(match(rule, view));
  if (states.is_new || states.established)
    for (const Kind& kind : kinds_of(rule))
      lines += fmt::format("    {}{}{}{}update @{} {{ {} timeout {} }} accept\n", text, kind.condition,
                           states.is_new ? "" : kind.answer, state_condition(states, view, kind), set_name(view, kind),
                           key(view, kind), kind.timeout);
  if (states.related)
    lines += fmt::format("    {}{} accept\n", text, view.v6 ? "icmpv6 type { 1, 2, 3, 4 }" : "icmp type { 3, 11, 12 }");
  return lines;
}

/// Accepts what answers a known packet.
Result<std::string> answering(const FilterRule& rule, const View& view) {
  std::string lines;
  const std::string text = TRY(match(rule, view));
  for (const Kind& kind : kinds_of(rule))
    lines += fmt::format("    {}{}{}{}accept\n", text, kind.condition, kind.answer,
                         state_condition({true, false, true, false}, view, kind));
  return lines;
}

Result<std::string> plain(const FilterRule& rule, const View& view) {
  constexpr std::string_view kVerdicts[] = {"drop", "accept", "drop", "return", "continue"};
  return fmt::format("    {}{}\n", TRY(match(rule, view)), kVerdicts[static_cast<size_t>(rule.action)]);
}

Status check(const FilterRule& rule) {
  for (const char* name : {"connlimit-above", "ipset"})
    if (rule.value(name)) return unsupported(fmt::format("rules with '{}' are not supported", name));
  return {};
}

}  // namespace

Result<ConnectionLines> connection_lines(const FilterRule& rule) {
  TRY(check(rule));
  const States states = TRY(read_states(rule));
  const bool v6 = is_v6(rule), is_out = rule.direction == FilterDirection::Out;
  const View from_guest{v6, true, !is_out}, to_guest{v6, false, is_out};
  ConnectionLines lines;
  if (rule.direction == FilterDirection::Both || !rule.tracks) {
    const bool asks = rule.action == FilterAction::Accept && states.is_given;
    lines.from_guest = asks ? TRY(accepting(rule, from_guest, states)) : TRY(plain(rule, from_guest));
    lines.to_guest = asks ? TRY(accepting(rule, to_guest, states)) : TRY(plain(rule, to_guest));
    return lines;
  }
  std::string& own = is_out ? lines.from_guest : lines.to_guest;
  std::string& other = is_out ? lines.to_guest : lines.from_guest;
  const View &own_view = is_out ? from_guest : to_guest, &other_view = is_out ? to_guest : from_guest;
  const bool is_accept = rule.action == FilterAction::Accept;
  own = is_accept ? TRY(accepting(rule, own_view, states)) : TRY(plain(rule, own_view));
  // An ICMP type names one direction; a state that was asked for, too.
  if (rule.value("type") || states.is_given) return lines;
  other = is_accept ? TRY(answering(rule, other_view)) : TRY(plain(rule, other_view));
  return lines;
}

std::string connection_sets(const std::string& lines) {
  constexpr std::string_view kPorts = " . inet_service . inet_service";
  std::string sets;
  for (std::string_view name : {"flows4", "flows6", "talks4", "talks6"}) {
    if (lines.find(fmt::format("@{} ", name)) == std::string::npos) continue;
    std::string_view address = name.ends_with('6') ? "ipv6_addr" : "ipv4_addr";
    sets += fmt::format("  set {} {{ type {} . {} . inet_proto{}; flags dynamic,timeout; size 65535; }}\n", name,
                        address, address, name.starts_with("flows") ? kPorts : "");
  }
  return sets;
}

}  // namespace atl::manage
