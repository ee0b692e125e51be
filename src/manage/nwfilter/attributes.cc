#include "manage/nwfilter/attributes.h"

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "manage/network/ip.h"
#include "manage/xml/values.h"

namespace atl::manage {
namespace {

using enum ValueKind;

/// The attributes of a protocol, put together from those that several share.
template <size_t... kSizes>
constexpr auto joined(const FilterAttribute (&... parts)[kSizes]) {
  std::array<FilterAttribute, (kSizes + ...)> all{};
  size_t at = 0;
  auto put = [&](const auto& part) {
    for (const FilterAttribute& attribute : part) all[at++] = attribute;
  };
  (put(parts), ...);
  return all;
}

constexpr FilterAttribute kSource[] = {{"srcmacaddr", Mac}};
constexpr FilterAttribute kSourceMask[] = {{"srcmacmask", MacMask}};
constexpr FilterAttribute kTarget[] = {{"dstmacaddr", Mac}, {"dstmacmask", MacMask}};
constexpr FilterAttribute kAddresses4[] = {
    {"srcipaddr", Ip4}, {"srcipmask", Ip4Mask}, {"dstipaddr", Ip4}, {"dstipmask", Ip4Mask}};
constexpr FilterAttribute kAddresses6[] = {
    {"srcipaddr", Ip6}, {"srcipmask", Ip6Mask}, {"dstipaddr", Ip6}, {"dstipmask", Ip6Mask}};
constexpr FilterAttribute kRanges4[] = {{"srcipfrom", Ip4}, {"srcipto", Ip4}, {"dstipfrom", Ip4}, {"dstipto", Ip4}};
constexpr FilterAttribute kRanges6[] = {{"srcipfrom", Ip6}, {"srcipto", Ip6}, {"dstipfrom", Ip6}, {"dstipto", Ip6}};
constexpr FilterAttribute kProtocolNumber[] = {{"protocol", IpProtocol}};
constexpr FilterAttribute kPorts[] = {
    {"srcportstart", U16}, {"srcportend", U16}, {"dstportstart", U16}, {"dstportend", U16}};
constexpr FilterAttribute kDscp[] = {{"dscp", Dscp}};
constexpr FilterAttribute kConnection[] = {{"connlimit-above", U16}, {"state", States}};
constexpr FilterAttribute kSet[] = {{"ipset", Text}, {"ipsetflags", Text}};
constexpr FilterAttribute kTcpOnly[] = {{"option", U8}, {"flags", TcpFlags}};
constexpr FilterAttribute kIcmpOnly[] = {{"type", U8}, {"code", U8}};
constexpr FilterAttribute kIcmpRanges[] = {{"type", U8}, {"typeend", U8}, {"code", U8}, {"codeend", U8}};
constexpr FilterAttribute kEtherTypeOnly[] = {{"protocolid", EtherType}};
constexpr FilterAttribute kVlanOnly[] = {{"vlanid", VlanId}, {"encap-protocol", EtherType}};
constexpr FilterAttribute kStpOnly[] = {
    {"type", U8},
    {"flags", U8},
    {"root-priority", U16},
    {"root-priority-hi", U16},
    {"root-address", Mac},
    {"root-address-mask", MacMask},
    {"root-cost", U32},
    {"root-cost-hi", U32},
    {"sender-priority", U16},
    {"sender-priority-hi", U16},
    {"sender-address", Mac},
    {"sender-address-mask", MacMask},
    {"port", U16},
    {"port-hi", U16},
    {"age", U16},
    {"age-hi", U16},
    {"max-age", U16},
    {"max-age-hi", U16},
    {"hello-time", U16},
    {"hello-time-hi", U16},
    {"forward-delay", U16},
    {"forward-delay-hi", U16},
};
constexpr FilterAttribute kArpOnly[] = {
    {"hwtype", U16},           {"protocoltype", U16}, {"opcode", ArpOperation},  {"arpsrcmacaddr", Mac},
    {"arpdstmacaddr", Mac},    {"arpsrcipaddr", Ip4}, {"arpsrcipmask", Ip4Mask}, {"arpdstipaddr", Ip4},
    {"arpdstipmask", Ip4Mask}, {"gratuitous", YesNo},
};
constexpr FilterAttribute kComment[] = {{"comment", Text}};

constexpr auto kMac = joined(kSource, kSourceMask, kTarget, kEtherTypeOnly, kComment);
constexpr auto kVlan = joined(kSource, kSourceMask, kTarget, kVlanOnly, kComment);
constexpr auto kStp = joined(kSource, kSourceMask, kStpOnly, kComment);
constexpr auto kArp = joined(kSource, kSourceMask, kTarget, kArpOnly, kComment);
constexpr auto kIp = joined(kSource, kSourceMask, kTarget, kAddresses4, kProtocolNumber, kPorts, kDscp, kComment);
constexpr auto kIpv6 =
    joined(kSource, kSourceMask, kTarget, kAddresses6, kProtocolNumber, kPorts, kIcmpRanges, kComment);
constexpr auto kPlain4 = joined(kSource, kAddresses4, kRanges4, kDscp, kConnection, kComment);
constexpr auto kPlain6 = joined(kSource, kAddresses6, kRanges6, kDscp, kConnection, kComment);
constexpr auto kPorts4 = joined(kSource, kAddresses4, kRanges4, kDscp, kConnection, kPorts, kComment);
constexpr auto kPorts6 = joined(kSource, kAddresses6, kRanges6, kDscp, kConnection, kPorts, kComment);
constexpr auto kTcp4 = joined(kSource, kAddresses4, kRanges4, kDscp, kConnection, kPorts, kTcpOnly, kComment);
constexpr auto kTcp6 = joined(kSource, kAddresses6, kRanges6, kDscp, kConnection, kPorts, kTcpOnly, kComment);
constexpr auto kIcmp4 = joined(kSource, kAddresses4, kRanges4, kDscp, kConnection, kIcmpOnly, kComment);
constexpr auto kIcmp6 = joined(kSource, kAddresses6, kRanges6, kDscp, kConnection, kIcmpOnly, kComment);
constexpr auto kAll4 = joined(kSource, kAddresses4, kRanges4, kDscp, kConnection, kSet, kComment);
constexpr auto kAll6 = joined(kSource, kAddresses6, kRanges6, kDscp, kConnection, kSet, kComment);

constexpr FilterProtocol kProtocols[] = {
    {"mac", FilterLayer::Link, "", kMac},
    {"vlan", FilterLayer::Link, "", kVlan},
    {"stp", FilterLayer::Link, "", kStp},
    {"arp", FilterLayer::Link, "", kArp},
    {"rarp", FilterLayer::Link, "", kArp},
    {"ip", FilterLayer::Link, "", kIp},
    {"ipv6", FilterLayer::Link, "", kIpv6},
    {"tcp", FilterLayer::Ip4, "6", kTcp4},
    {"tcp-ipv6", FilterLayer::Ip6, "6", kTcp6},
    {"udp", FilterLayer::Ip4, "17", kPorts4},
    {"udp-ipv6", FilterLayer::Ip6, "17", kPorts6},
    {"sctp", FilterLayer::Ip4, "132", kPorts4},
    {"sctp-ipv6", FilterLayer::Ip6, "132", kPorts6},
    {"udplite", FilterLayer::Ip4, "136", kPlain4},
    {"udplite-ipv6", FilterLayer::Ip6, "136", kPlain6},
    {"icmp", FilterLayer::Ip4, "1", kIcmp4},
    {"icmpv6", FilterLayer::Ip6, "58", kIcmp6},
    {"igmp", FilterLayer::Ip4, "2", kPlain4},
    {"esp", FilterLayer::Ip4, "50", kPlain4},
    {"esp-ipv6", FilterLayer::Ip6, "50", kPlain6},
    {"ah", FilterLayer::Ip4, "51", kPlain4},
    {"ah-ipv6", FilterLayer::Ip6, "51", kPlain6},
    {"all", FilterLayer::Ip4, "", kAll4},
    {"all-ipv6", FilterLayer::Ip6, "", kAll6},
};

struct NamedNumber {
  std::string_view name;
  u64 number;
};
constexpr NamedNumber kEtherTypes[] = {
    {"ipv4", 0x0800}, {"ipv6", 0x86dd}, {"arp", 0x0806}, {"rarp", 0x8035}, {"vlan", 0x8100}};
constexpr NamedNumber kIpProtocols[] = {{"tcp", 6},  {"udp", 17}, {"udplite", 136}, {"esp", 50},   {"ah", 51},
                                        {"icmp", 1}, {"igmp", 2}, {"sctp", 132},    {"icmpv6", 58}};
constexpr NamedNumber kArpOperations[] = {{"Request", 1},       {"Reply", 2},         {"Request_Reverse", 3},
                                          {"Reply_Reverse", 4}, {"DRARP_Request", 5}, {"DRARP_Reply", 6},
                                          {"DRARP_Error", 7},   {"InARP_Request", 8}, {"ARP_NAK", 9}};
constexpr NamedNumber kTcpFlags[] = {{"FIN", 1}, {"SYN", 2}, {"RST", 4}, {"PSH", 8}, {"ACK", 16}, {"URG", 32}};
constexpr u64 kAllTcpFlags = 0x3f;

/// The name of a number if it has one; the text as it came otherwise.
std::optional<std::string> named(std::span<const NamedNumber> names, std::string_view text, u64 limit) {
  for (const NamedNumber& row : names)
    if (iequals(row.name, text)) return std::string(row.name);
  auto number = filter_number(text);
  if (!number || *number > limit) return std::nullopt;
  for (const NamedNumber& row : names)
    if (row.number == *number) return std::string(row.name);
  return std::string(text);
}

u64 number_of(std::span<const NamedNumber> names, std::string_view value) {
  for (const NamedNumber& row : names)
    if (row.name == value) return row.number;
  return filter_number(value).value_or(0);
}

std::optional<std::string> limited(std::string_view text, u64 limit) {
  auto number = filter_number(text);
  return number && *number <= limit ? std::optional(std::string(text)) : std::nullopt;
}

std::optional<std::string> mac_value(std::string_view text, bool is_mask) {
  auto mac = xml::parse_mac(text);
  if (!mac) return std::nullopt;
  // Of a mask the ones come first.
  if (is_mask) {
    u64 bits = 0;
    for (u8 byte : *mac) bits = bits << 8 | byte;
    const u64 inverse = ~bits & 0xffff'ffff'ffff;
    if ((inverse & (inverse + 1)) != 0) return std::nullopt;
  }
  return xml::mac_text(*mac);
}

std::optional<std::string> ip_value(std::string_view text, bool v6) {
  auto address = parse_ip(text);
  return address && address->v6 == v6 ? std::optional(ip_text(*address)) : std::nullopt;
}

std::optional<std::string> mask_value(std::string_view text, bool v6) {
  if (auto length = parse_u64(text))
    return *length <= (v6 ? 128 : 32) ? std::optional(std::string(text)) : std::nullopt;
  auto mask = parse_ip(text);
  if (!mask || mask->v6 != v6) return std::nullopt;
  auto prefix = prefix_of_mask(*mask);
  return prefix ? std::optional(std::to_string(*prefix)) : std::nullopt;
}

std::optional<std::string> flag_names(std::string_view text) {
  if (text == "NONE" || text == "ALL") return std::string(text);
  u64 bits = 0;
  for (std::string_view name : split(text, ',')) {
    auto row = std::ranges::find(kTcpFlags, name, &NamedNumber::name);
    if (row == std::end(kTcpFlags)) return std::nullopt;
    bits |= row->number;
  }
  std::string names;
  for (const NamedNumber& row : kTcpFlags)
    if (bits & row.number) names += (names.empty() ? "" : ",") + std::string(row.name);
  return names;
}

std::optional<std::string> tcp_flags(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  auto mask = flag_names(text.substr(0, slash)), set = flag_names(text.substr(slash + 1));
  return mask && set ? std::optional(*mask + "/" + *set) : std::nullopt;
}

std::optional<std::string> states(std::string_view text) {
  constexpr std::string_view kStates[] = {"NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE"};
  std::string found;
  auto given = split(text, ',');
  for (std::string_view state : given)
    if (std::ranges::find(kStates, state) == std::end(kStates)) return std::nullopt;
  if (std::ranges::find(given, "NONE") != given.end()) return "NONE";
  for (std::string_view state : kStates)
    if (std::ranges::find(given, state) != given.end()) found += (found.empty() ? "" : ",") + std::string(state);
  return found;
}

std::optional<std::string> yes_no(std::string_view text) {
  if (text == "true" || text == "yes" || text == "1") return "true";
  if (text == "false" || text == "no" || text == "0") return "false";
  return std::nullopt;
}

}  // namespace

const FilterProtocol* find_filter_protocol(std::string_view name) {
  auto found = std::ranges::find(kProtocols, name, &FilterProtocol::name);
  return found == std::end(kProtocols) ? nullptr : &*found;
}

std::optional<u64> filter_number(std::string_view text) {
  if (!text.starts_with("0x") && !text.starts_with("0X")) return parse_u64(text);
  text.remove_prefix(2);
  u64 value = 0;
  if (text.empty() || text.size() > 8) return std::nullopt;
  for (char c : text) {
    const size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
    if (digit == std::string_view::npos) return std::nullopt;
    value = value << 4 | digit;
  }
  return value;
}

std::optional<std::string> normal_value(ValueKind kind, std::string_view text) {
  switch (kind) {
    case Mac:
    case MacMask: return mac_value(text, kind == MacMask);
    case Ip4:
    case Ip6: return ip_value(text, kind == Ip6);
    case Ip4Mask:
    case Ip6Mask: return mask_value(text, kind == Ip6Mask);
    case U8: return limited(text, 0xff);
    case U16: return limited(text, 0xffff);
    case U32: return limited(text, 0xffff'ffff);
    case VlanId: return limited(text, 4095);
    case Dscp: return limited(text, 63);
    case EtherType: return named(kEtherTypes, text, 0xffff);
    case IpProtocol: return named(kIpProtocols, text, 0xff);
    case ArpOperation: return named(kArpOperations, text, 0xffff);
    case YesNo: return yes_no(text);
    case TcpFlags: return tcp_flags(text);
    case States: return states(text);
    case Text: return text.size() <= 256 ? std::optional(std::string(text)) : std::nullopt;
  }
  return std::nullopt;
}

u64 ether_type_number(std::string_view value) { return number_of(kEtherTypes, value); }
u64 ip_protocol_number(std::string_view value) { return number_of(kIpProtocols, value); }
u64 arp_operation_number(std::string_view value) { return number_of(kArpOperations, value); }

u64 tcp_flag_bits(std::string_view names) {
  if (names == "ALL") return kAllTcpFlags;
  u64 bits = 0;
  for (std::string_view name : split(names, ',')) bits |= number_of(kTcpFlags, name);
  return bits;
}

}  // namespace atl::manage
