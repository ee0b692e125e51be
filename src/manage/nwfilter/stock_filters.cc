#include "manage/nwfilter/stock_filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/strings.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

// The first address that is used becomes the known one: the set takes no second, and then the rule is left.
constexpr std::string_view kOneAddress =
    "ip saddr 0.0.0.0 udp dport 67 accept\n"
    "ip saddr @known accept\n"
    "ip saddr != 0.0.0.0 add @known { ip saddr } accept\n"
    "ether type ip drop\n";
constexpr std::string_view kOneArpAddress =
    "arp saddr ip @known accept\n"
    "arp saddr ip != 0.0.0.0 add @known { arp saddr ip } accept\n"
    "ether type arp drop\n";

constexpr StockFilter kFilters[] = {
    {"no-mac-spoofing",
     "mac-no-spoof",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60001",
     {},
     "mac",
     "srcmacaddr=$MAC",
     "ether saddr != {mac} drop\n"},
    {"no-ip-spoofing",
     "ipv4-ip-spoofing",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60002",
     {},
     "ip",
     "srcipaddr=$IP",
     kOneAddress},
    {"no-arp-mac-spoofing",
     "arp-mac",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60003",
     {},
     "arp",
     "arpsrcmacaddr=$MAC",
     "arp saddr ether != {mac} drop\n"},
    {"no-arp-ip-spoofing",
     "arp-ip",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60004",
     {},
     "arp",
     "arpsrcipaddr=$IP",
     kOneArpAddress},
    {"no-arp-spoofing",
     "root",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60005",
     {"no-arp-mac-spoofing", "no-arp-ip-spoofing"},
     "",
     "",
     ""},
    {"no-other-l2-traffic",
     "root",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60006",
     {},
     "mac",
     "",
     "ether type != { ip, arp, 0x8035 } drop\n"},
    {"no-ip-multicast",
     "ipv4",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60007",
     {},
     "ip",
     "dstipaddr=224.0.0.0 dstipmask=4",
     "ip daddr 224.0.0.0/4 drop\n"},
    {"no-mac-broadcast",
     "mac",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60008",
     {},
     "mac",
     "dstmacaddr=ff:ff:ff:ff:ff:ff",
     "ether daddr ff:ff:ff:ff:ff:ff drop\n"},
    {"clean-traffic",
     "root",
     "6d2a4c10-93c1-4c0e-8d7c-54f1c3a60009",
     {"no-mac-spoofing", "no-other-l2-traffic", "no-arp-spoofing", "no-ip-spoofing"},
     "",
     "",
     ""},
};

/// The order in which rules must stand: those that only drop come before those that accept an address.
constexpr std::string_view kOrder[] = {"no-mac-spoofing",     "no-mac-broadcast",    "no-ip-multicast",
                                       "no-other-l2-traffic", "no-arp-mac-spoofing", "no-arp-ip-spoofing",
                                       "no-ip-spoofing"};

void collect(const StockFilter& filter, std::set<std::string_view>& names) {
  names.insert(filter.name);
  for (std::string_view part : filter.parts)
    for (const StockFilter& other : kFilters)
      if (other.name == part) collect(other, names);
}

std::string address_set(const std::vector<IpAddress>& addresses) {
  if (addresses.empty()) return "  set known { type ipv4_addr; flags dynamic; size 1; }\n";
  std::string list;
  for (const IpAddress& address : addresses) list += (list.empty() ? "" : ", ") + ip_text(address);
  return fmt::format("  set known {{ type ipv4_addr; flags dynamic; size {}; elements = {{ {} }} }}\n",
                     addresses.size(), list);
}

Element& add_rule(Element& tree, std::string_view action, const StockFilter& filter) {
  return tree.add("rule").set("action", action).set("direction", "out").set("priority", "500").add(filter.protocol);
}

}  // namespace

std::span<const StockFilter> stock_filters() { return kFilters; }

Result<const StockFilter*> find_stock_filter(std::string_view name) {
  auto found = std::ranges::find(kFilters, name, &StockFilter::name);
  if (found == std::end(kFilters)) return no_nwfilter(name);
  return &*found;
}

std::string stock_filter_xml(const StockFilter& filter) {
  Element tree("filter");
  tree.set("name", filter.name).set("chain", filter.chain);
  tree.add("uuid", filter.uuid);
  for (std::string_view part : filter.parts)
    if (!part.empty()) tree.add("filterref").set("filter", part);
  if (filter.protocol.empty()) return xml::write(tree);
  // A guest's own address goes on to the next filter, others are dropped; what is no variable is dropped itself.
  bool is_own = filter.attributes.find('$') != std::string_view::npos;
  if (!filter.attributes.empty()) {
    Element& match = add_rule(tree, is_own ? "return" : "drop", filter);
    for (std::string_view pair : split(filter.attributes, ' '))
      match.set(pair.substr(0, pair.find('=')), pair.substr(pair.find('=') + 1));
  }
  if (is_own || filter.attributes.empty()) add_rule(tree, "drop", filter);
  return xml::write(tree);
}

Result<std::string> filter_rules(const std::string& tap, const std::string& mac, std::string_view name,
                                 const std::vector<IpAddress>& addresses) {
  const StockFilter* filter = TRY(find_stock_filter(name));
  std::set<std::string_view> names;
  collect(*filter, names);
  std::string rules;
  for (std::string_view part : kOrder)
    if (names.contains(part)) rules += TRY(find_stock_filter(part))->rules;
  for (size_t at; (at = rules.find("{mac}")) != std::string::npos;) rules.replace(at, 5, mac);
  return filter_removal(tap) + fmt::format(
                                   "table bridge atoll-{0} {{\n{1}  chain from_guest {{\n"
                                   "    type filter hook prerouting priority -200; policy accept;\n"
                                   "    iifname != \"{0}\" accept\n{2}  }}\n}}\n",
                                   tap, address_set(addresses), rules);
}

std::string filter_removal(const std::string& tap) {
  return fmt::format("table bridge atoll-{0} {{}}\ndelete table bridge atoll-{0}\n", tap);
}

}  // namespace atl::manage
