#include "manage/nwfilter/link_rules.h"

#include <fmt/format.h>

#include "manage/network/ip.h"
#include "manage/nwfilter/match_text.h"

namespace atl::manage {
namespace {

/// A field that nft has no name for, by its place in the frame.
struct RawField {
  std::string_view attribute;
  unsigned bit, bits;
};

// IEEE 802.1D-2004 section 9.3.1, behind the Ethernet header and three bytes of LLC.
constexpr unsigned kBpdu = (14 + 3) * 8;
constexpr RawField kStpNumbers[] = {
    {"type", kBpdu + 24, 8},
    {"flags", kBpdu + 32, 8},
    {"root-priority", kBpdu + 40, 16},
    {"root-cost", kBpdu + 104, 32},
    {"sender-priority", kBpdu + 136, 16},
    {"port", kBpdu + 200, 16},
    {"age", kBpdu + 216, 16},
    {"max-age", kBpdu + 232, 16},
    {"hello-time", kBpdu + 248, 16},
    {"forward-delay", kBpdu + 264, 16},
};
constexpr RawField kStpAddresses[] = {{"root-address", kBpdu + 56, 48}, {"sender-address", kBpdu + 152, 48}};

// RFC 826, for Ethernet and IPv4. RARP (RFC 903) has the same packets under another type, for which nft has no names.
struct ArpField {
  RawField raw;
  std::string_view name;
};
constexpr ArpField kArpNumbers[] = {{{"hwtype", 0, 16}, "arp htype"}, {{"protocoltype", 16, 16}, "arp ptype"}};
constexpr ArpField kArpMacs[] = {{{"arpsrcmacaddr", 64, 48}, "arp saddr ether"},
                                 {{"arpdstmacaddr", 144, 48}, "arp daddr ether"}};
constexpr ArpField kArpAddresses[] = {{{"arpsrcipaddr", 112, 32}, "arp saddr ip"},
                                      {{"arpdstipaddr", 192, 32}, "arp daddr ip"}};
constexpr RawField kArpOperation = {"opcode", 48, 16};

Error unsupported(std::string text) { return {Code::ConfigUnsupported, std::move(text), Part::Nwfilter}; }

std::string at_link(const RawField& field) { return fmt::format("@ll,{},{}", field.bit, field.bits); }
std::string at_network(const RawField& field) { return fmt::format("@nh,{},{}", field.bit, field.bits); }

void match_stp(const FilterRule& rule, MatchText& text) {
  text.add("ether daddr 01:80:c2:00:00:00 ");
  for (const RawField& field : kStpNumbers)
    text.compare_range(at_link(field), field.attribute, std::string(field.attribute) + "-hi");
  for (const RawField& field : kStpAddresses) {
    const std::string* address = rule.value(field.attribute);
    if (!address) continue;
    const std::string* mask = rule.value(std::string(field.attribute) + "-mask");
    const u64 kept = mask ? mac_number(*mask) : ~u64{0} >> 16;
    text.equal(fmt::format("{} & {:#x}", at_link(field), kept), fmt::format("{:#x}", mac_number(*address) & kept));
  }
}

Status match_rarp_addresses(const FilterRule& rule, MatchText& text) {
  for (const ArpField& field : kArpMacs)
    if (const std::string* mac = rule.value(field.raw.attribute))
      text.compare_number(at_network(field.raw), mac_number(*mac));
  for (const ArpField& field : kArpAddresses) {
    const std::string* value = rule.value(field.raw.attribute);
    if (!value) continue;
    auto address = parse_ip(*value);
    if (!address) return unsupported("a learned address in a rule of protocol rarp");
    const std::string* prefix = rule.value(field.raw.attribute == "arpsrcipaddr" ? "arpsrcipmask" : "arpdstipmask");
    const u64 length = prefix ? filter_number(*prefix).value_or(32) : 32;
    const u32 kept = length == 0 ? 0 : ~u32{0} << (32 - length);
    u32 number = 0;
    for (size_t i = 0; i < 4; ++i) number = number << 8 | address->bytes[i];
    text.equal(fmt::format("{} & {:#x}", at_network(field.raw), kept), fmt::format("{:#x}", number & kept));
  }
  return {};
}

Status match_arp(const FilterRule& rule, MatchText& text) {
  const bool is_arp = rule.protocol->name == "arp";
  if (const std::string* gratuitous = rule.value("gratuitous"); gratuitous && *gratuitous == "true")
    return unsupported("rules for gratuitous ARP are not supported");
  text.add(is_arp ? "ether type arp " : "ether type 0x8035 ");
  for (const ArpField& field : kArpNumbers)
    text.compare(is_arp ? std::string(field.name) : at_network(field.raw), field.raw.attribute);
  if (const std::string* operation = rule.value("opcode"))
    text.compare_number(is_arp ? "arp operation" : at_network(kArpOperation), arp_operation_number(*operation));
  if (!is_arp) return match_rarp_addresses(rule, text);
  for (const ArpField& field : kArpMacs) text.compare_mac(field.name, field.raw.attribute, "");
  TRY(text.compare_ip("arp saddr ip", "arpsrcipaddr", "arpsrcipmask"));
  return text.compare_ip("arp daddr ip", "arpdstipaddr", "arpdstipmask");
}

void match_vlan(const FilterRule& rule, MatchText& text) {
  text.add("ether type 8021q ");
  text.compare("vlan id", "vlanid");
  if (const std::string* type = rule.value("encap-protocol"))
    text.equal("vlan type", fmt::format("{:#x}", ether_type_number(*type)));
}

Status match_ip(const FilterRule& rule, MatchText& text) {
  const bool v6 = rule.protocol->name == "ipv6";
  const std::string family = v6 ? "ip6" : "ip";
  text.add(fmt::format("ether type {} ", family));
  TRY(text.compare_ip(family + " saddr", "srcipaddr", "srcipmask"));
  TRY(text.compare_ip(family + " daddr", "dstipaddr", "dstipmask"));
  if (const std::string* protocol = rule.value("protocol"))
    text.compare_number("meta l4proto", ip_protocol_number(*protocol));
  text.compare_range("th sport", "srcportstart", "srcportend");
  text.compare_range("th dport", "dstportstart", "dstportend");
  text.compare("ip dscp", "dscp");
  text.compare_range("icmpv6 type", "type", "typeend");
  text.compare_range("icmpv6 code", "code", "codeend");
  return {};
}

}  // namespace

Result<std::string> link_match(const FilterRule& rule) {
  MatchText text(rule);
  if (!rule.protocol) return std::string();
  const std::string_view protocol = rule.protocol->name;
  text.compare_mac("ether saddr", "srcmacaddr", "srcmacmask");
  text.compare_mac("ether daddr", "dstmacaddr", "dstmacmask");
  if (protocol == "mac") {
    if (const std::string* type = rule.value("protocolid"))
      text.equal("ether type", fmt::format("{:#x}", ether_type_number(*type)));
  } else if (protocol == "vlan") {
    match_vlan(rule, text);
  } else if (protocol == "stp") {
    match_stp(rule, text);
  } else if (protocol == "arp" || protocol == "rarp") {
    TRY(match_arp(rule, text));
  } else {
    TRY(match_ip(rule, text));
  }
  return text.text();
}

}  // namespace atl::manage
