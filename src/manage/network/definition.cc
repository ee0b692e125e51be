#include "manage/network/definition.h"

#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>

#include "base/strings.h"
#include "manage/xml/errors.h"
#include "manage/xml/parse.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

constexpr std::string_view kModes[] = {"", "nat", "route", "open", "bridge", "private", "vepa", "passthrough"};
// The children of <network> in the order in which libvirt prints them; all others are dropped, as libvirt does.
constexpr std::string_view kOrder[] = {
    "name", "uuid",      "title", "description", "metadata", "forward",   "bridge",         "mtu", "mac", "domain",
    "dns",  "bandwidth", "port",  "ip",          "route",    "portgroup", "dnsmasq:options"};

Error bad(std::string text) { return {Code::XmlError, std::move(text), Part::Network}; }
Error unsupported(std::string text) { return {Code::ConfigUnsupported, std::move(text), Part::Network}; }

Result<IpAddress> required_ip(const Element& element, std::string_view attribute) {
  std::string text = TRY(xml::required_attribute(element, attribute));
  auto address = parse_ip(text);
  if (!address) return bad(fmt::format("Invalid {} '{}' in <{}>", attribute, text, element.name()));
  return *address;
}

/// Names go into configuration files of dnsmasq: nothing that could begin another line or option.
Status check_word(std::string_view text, std::string_view what) {
  for (char c : text)
    if (static_cast<unsigned char>(c) <= ' ' || c == ',' || c == '#' || c == 0x7f)
      return bad(fmt::format("{} '{}' has a character that is not allowed", what, text));
  return {};
}

Status check_device_name(std::string_view name) {
  if (name.empty() || name.size() >= IFNAMSIZ || name.find('/') != std::string_view::npos)
    return bad(fmt::format("'{}' is not the name of a network device", name));
  for (char c : name)
    if (static_cast<unsigned char>(c) <= ' ' || c == '"')
      return bad("a device's name has a character that is not allowed");
  return {};
}

// --- <forward>

Status read_nat(const Element& nat, NetworkDefinition& network) {
  network.nat_ipv6 = TRY(xml::yes_no(nat, "ipv6", false));
  if (const Element* ports = nat.child("port")) {
    network.nat_port_start = TRY(xml::number(*ports, "start", 1024, 65535));
    network.nat_port_end = TRY(xml::number(*ports, "end", 65535, 65535));
    if (network.nat_port_start > network.nat_port_end) return bad("the <port> range of <nat> is the wrong way round");
  }
  if (const Element* range = nat.child("address")) {
    IpAddress start = TRY(required_ip(*range, "start")), end = TRY(required_ip(*range, "end"));
    if (start.v6 || !distance(start, end))
      return bad("the <address> range of <nat> must be IPv4, from lower to higher");
    network.nat_addresses.emplace(start, end);
  }
  return {};
}

Status read_forward(const Element& forward, NetworkDefinition& network) {
  std::string mode = forward.has_attribute("mode") ? forward.attribute("mode") : "nat";
  if (mode == "hostdev") return unsupported("networks of devices that are passed through (hostdev) are not supported");
  auto found = std::ranges::find(kModes, mode);
  if (mode.empty() || found == std::end(kModes)) return unsupported(fmt::format("unknown forwarding type '{}'", mode));
  network.mode = static_cast<ForwardMode>(found - std::begin(kModes));
  if (const std::string* dev = forward.find_attribute("dev")) network.forward_devices.push_back(*dev);
  for (const Element* interface : forward.children("interface")) {
    std::string dev = TRY(xml::required_attribute(*interface, "dev"));
    if (std::ranges::find(network.forward_devices, dev) == network.forward_devices.end())
      network.forward_devices.push_back(dev);
  }
  for (const std::string& dev : network.forward_devices) TRY(check_device_name(dev));
  if (network.mode == ForwardMode::Open && !network.forward_devices.empty())
    return bad("forward dev not allowed for network with forward mode='open'");
  if (forward.child("pf") || forward.child("address"))
    return unsupported("pools of virtual functions are not supported");
  if (const Element* nat = forward.child("nat")) {
    if (network.mode != ForwardMode::Nat) return bad(fmt::format("<nat> is not allowed with forward mode='{}'", mode));
    TRY(read_nat(*nat, network));
  }
  return {};
}

/// libvirt prints the mode and the ports of a NAT even if nobody chose them.
void complete_forward(Element& tree, const NetworkDefinition& network) {
  Element* forward = tree.child("forward");
  if (!forward) return;
  std::vector<std::pair<std::string, std::string>> attributes;
  if (!network.forward_devices.empty()) attributes.emplace_back("dev", network.forward_devices.front());
  attributes.emplace_back("mode", forward_mode_name(network.mode));
  for (const auto& attribute : forward->attributes())
    if (attribute.first != "dev" && attribute.first != "mode") attributes.push_back(attribute);
  forward->set_attributes(std::move(attributes));
  forward->remove("driver");
  if (!network.forward_devices.empty()) {
    if (!forward->child("interface")) forward->add("interface").set("dev", network.forward_devices.front());
    for (Element& interface : forward->content()) interface.remove_attribute("connections");
  }
  if (network.mode != ForwardMode::Nat) return;
  if (forward->child("nat")) return;
  forward->add("nat").add("port").set("start", network.nat_port_start).set("end", network.nat_port_end);
}

// --- <ip>

Result<DhcpRange> read_range(const Element& element, const IpSubnet& subnet) {
  DhcpRange range{TRY(required_ip(element, "start")), TRY(required_ip(element, "end")), ""};
  const std::string text = fmt::format("range {} - {}", ip_text(range.start), ip_text(range.end));
  auto wrong = [](std::string words) { return Error(Code::InternalError, std::move(words), Part::Network); };
  for (const IpAddress& address : {range.start, range.end})
    if (!contains(subnet.address, subnet.prefix, address))
      return wrong(
          fmt::format("{} is not entirely within network {}/{}", text, ip_text(subnet.address), subnet.prefix));
  if (!distance(range.start, range.end)) return wrong(text + " is reversed");
  if (const Element* lease = element.child("lease")) {
    u64 expiry = TRY(xml::number(*lease, "expiry", 0, 0xffff'ffff));
    size_t unit = TRY(xml::choice(*lease, "unit", {"seconds", "minutes", "hours"}, 1));
    range.lease = expiry == 0 ? "infinite" : fmt::format("{}{}", expiry, "smh"[unit]);
  }
  return range;
}

Result<DhcpHost> read_host(const Element& element, const IpSubnet& subnet, const std::string& name) {
  DhcpHost host{element.attribute("mac"), element.attribute("id"), element.attribute("name"), std::nullopt};
  if (!host.mac.empty()) {
    auto mac = xml::parse_mac(host.mac);
    if (!mac || subnet.address.v6)
      return bad(fmt::format("Cannot use MAC address '{}' in network '{}'", host.mac, ip_text(subnet.address)));
    if ((*mac)[0] & 1) return bad(fmt::format("expected unicast mac address, found multicast '{}'", host.mac));
    host.mac = xml::mac_text(*mac);
  }
  TRY(check_word(host.name, "DHCP host name"));
  TRY(check_word(host.id, "DHCP client id"));
  if (element.has_attribute("ip")) {
    host.ip = TRY(required_ip(element, "ip"));
    if (host.ip->v6 != subnet.address.v6)
      return bad(fmt::format("static DHCP host address {} is of another family than its network", ip_text(*host.ip)));
  }
  if (host.mac.empty() && host.id.empty() && host.name.empty())
    return bad(fmt::format("Static host definition in {} network '{}' must have {} or name attribute",
                           subnet.address.v6 ? "IPv6" : "IPv4", name, subnet.address.v6 ? "id" : "mac"));
  if (!host.ip && (host.name.empty() || subnet.address.v6)) return bad("Missing IP address in static host definition");
  return host;
}

Status read_dhcp(const Element& dhcp, IpSubnet& subnet, const std::string& name) {
  for (const Element* range : dhcp.children("range")) subnet.ranges.push_back(TRY(read_range(*range, subnet)));
  for (const Element* host : dhcp.children("host")) subnet.hosts.push_back(TRY(read_host(*host, subnet, name)));
  if (const Element* bootp = dhcp.child("bootp")) {
    subnet.bootp_file = TRY(xml::required_attribute(*bootp, "file"));
    subnet.bootp_server = bootp->attribute("server");
    TRY(check_word(subnet.bootp_file, "boot file"));
    TRY(check_word(subnet.bootp_server, "boot server"));
  }
  return {};
}

Result<unsigned> read_prefix(const Element& element, const IpAddress& address) {
  auto given = TRY(xml::optional_number(element, "prefix", address.bits()));
  if (element.has_attribute("netmask")) {
    if (given) return bad("network has both netmask and prefix");
    auto mask = parse_ip(element.attribute("netmask"));
    auto prefix = mask ? prefix_of_mask(*mask) : std::nullopt;
    if (!prefix || address.v6) return bad(fmt::format("Invalid netmask '{}'", element.attribute("netmask")));
    return *prefix;
  }
  if (given) return static_cast<unsigned>(*given);
  if (address.v6) return 64u;
  // Without either, the classes of RFC 791 count.
  return address.bytes[0] < 128 ? 8u : address.bytes[0] < 192 ? 16u : 24u;
}

Result<IpSubnet> read_subnet(const Element& element, const std::string& name) {
  IpSubnet subnet;
  subnet.address = TRY(required_ip(element, "address"));
  if (subnet.address.v6 != (element.attribute("family") == "ipv6"))
    return bad(
        fmt::format("family '{}' does not fit address '{}'", element.attribute("family"), ip_text(subnet.address)));
  subnet.prefix = TRY(read_prefix(element, subnet.address));
  subnet.local_ptr = TRY(xml::yes_no(element, "localPtr", false));
  if (const Element* tftp = element.child("tftp")) {
    subnet.tftp_root = TRY(xml::required_attribute(*tftp, "root"));
    if (!subnet.tftp_root.starts_with('/') || subnet.tftp_root.find('\n') != std::string::npos)
      return bad("<tftp root> must be an absolute path");
  }
  if (const Element* dhcp = element.child("dhcp")) TRY(read_dhcp(*dhcp, subnet, name));
  return subnet;
}

Status read_subnets(const Element& element, NetworkDefinition& network) {
  size_t with_dhcp[2] = {0, 0};
  for (const Element* ip : element.children("ip")) {
    network.subnets.push_back(TRY(read_subnet(*ip, network.name)));
    const IpSubnet& subnet = network.subnets.back();
    if (subnet.has_dhcp() && ++with_dhcp[subnet.address.v6] > 1)
      return unsupported("DHCP is supported only for a single IPv4 and a single IPv6 address on each network");
  }
  for (const Element* element_of_route : element.children("route")) {
    Route route{TRY(required_ip(*element_of_route, "address")), TRY(required_ip(*element_of_route, "gateway")), 0, 0};
    route.prefix = TRY(read_prefix(*element_of_route, route.destination));
    route.metric = static_cast<u32>(TRY(xml::number(*element_of_route, "metric", 1, 0xffff'ffff)));
    network.routes.push_back(route);
  }
  return {};
}

// --- <dns>

Status check_dns(const Element& dns) {
  for (const Element* forwarder : dns.children("forwarder")) {
    if (forwarder->has_attribute("addr")) TRY(required_ip(*forwarder, "addr"));
    TRY(check_word(forwarder->attribute("domain"), "domain"));
    if (forwarder->attributes().empty())
      return bad("Invalid forwarder element, must contain at least one of addr or domain");
  }
  for (const Element* host : dns.children("host")) {
    TRY(required_ip(*host, "ip"));
    if (host->children("hostname").empty()) return bad("Missing hostname in DNS HOST record");
    for (const Element* name : host->children("hostname")) TRY(check_word(name->text(), "DNS host name"));
  }
  for (const Element* txt : dns.children("txt")) {
    std::string name = TRY(xml::required_attribute(*txt, "name"));
    TRY(check_word(name, "DNS TXT name"));
    if (txt->attribute("value").find_first_of("\n\r\"") != std::string::npos)
      return bad("a DNS TXT value has quotes or line breaks");
  }
  for (const Element* srv : dns.children("srv")) {
    for (const char* key : {"service", "protocol"}) TRY(xml::required_attribute(*srv, key));
    for (const char* key : {"service", "protocol", "domain", "target"}) TRY(check_word(srv->attribute(key), key));
    for (const char* key : {"port", "priority", "weight"}) TRY(xml::number(*srv, key, 0, 65535));
  }
  return {};
}

// --- <network>

Status refuse_unsupported(const Element& element) {
  for (const char* name : {"virtualport", "vlan"})
    if (element.child(name)) return unsupported(fmt::format("<{}> is not supported: it needs Open vSwitch", name));
  for (const Element* group : element.children("portgroup")) {
    TRY(xml::required_attribute(*group, "name"));
    if (group->child("virtualport") || group->child("vlan"))
      return unsupported("<virtualport> and <vlan> of a <portgroup> are not supported: they need Open vSwitch");
    TRY(read_bandwidth(group->child("bandwidth")));
  }
  const Element* bridge = element.child("bridge");
  if (bridge && bridge->has_attribute("zone")) return unsupported("firewall zones of a bridge are not supported");
  if (const Element* options = element.child("dnsmasq:options"))
    for (const Element* option : options->children("dnsmasq:option"))
      if (option->attribute("value").find_first_of("\n\r") != std::string::npos)
        return bad("a dnsmasq option has a line break");
  return {};
}

Status read_bridge(const Element& element, NetworkDefinition& network) {
  if (const Element* bridge = element.child("bridge")) {
    network.bridge = bridge->attribute("name");
    if (!network.bridge.empty()) TRY(check_device_name(network.bridge));
    network.stp = TRY(xml::on_off(*bridge, "stp", true));
    network.delay_seconds = TRY(xml::number(*bridge, "delay", 0, 30));
    TRY(xml::choice(*bridge, "macTableManager", {"kernel"}, 0));
  }
  if (const Element* mtu = element.child("mtu")) network.mtu = TRY(xml::number(*mtu, "size", 0, 65535));
  if (const Element* mac = element.child("mac")) {
    auto address = xml::parse_mac(mac->attribute("address"));
    if (!address || (*address)[0] & 1)
      return bad(
          fmt::format("Invalid bridge mac address '{}' in network '{}'", mac->attribute("address"), network.name));
    network.mac = xml::mac_text(*address);
  }
  return {};
}

Status check_together(const NetworkDefinition& network) {
  if (network.is_virtual()) return {};
  std::string_view mode = forward_mode_name(network.mode);
  if (!network.subnets.empty() || !network.domain.empty())
    return bad(
        fmt::format("Unsupported <ip> or <domain> element in network {} with forward mode='{}'", network.name, mode));
  if (network.mode == ForwardMode::Bridge && !network.bridge.empty() && !network.forward_devices.empty())
    return bad(fmt::format(
        "A network with forward mode='bridge' can specify a bridge name or a forward dev, but not both (network '{}')",
        network.name));
  if (network.mode != ForwardMode::Bridge && !network.bridge.empty())
    return bad(fmt::format("bridge name not allowed in {} mode (network '{}')", mode, network.name));
  if (network.bridge.empty() && network.forward_devices.empty())
    return bad(fmt::format("network '{}' with forward mode='{}' needs a bridge or an interface", network.name, mode));
  if (network.is_macvtap() && network.bandwidth.is_set())
    return unsupported(fmt::format(
        "Unsupported network-wide <bandwidth> element in network '{}' with forward mode='{}'", network.name, mode));
  return {};
}

/// Entries of one kind stand together.
Element ordered_dns(const Element& dns) {
  Element ordered("dns");
  ordered.set_attributes(dns.attributes());
  for (const char* name : {"forwarder", "txt", "srv", "host"})
    for (const Element* entry : dns.children(name)) ordered.add(*entry);
  return ordered;
}

Element normalised(const Element& element, const NetworkDefinition& network) {
  Element tree("network");
  for (const auto& [key, value] : element.attributes())
    if (key.starts_with("xmlns") || key == "ipv6" || key == "trustGuestRxFilters") tree.set(key, value);
  for (std::string_view name : kOrder) {
    if (name == "uuid") {
      tree.add("uuid", format_uuid(network.uuid));
      continue;
    }
    for (const Element* child : element.children(name)) tree.add(name == "dns" ? ordered_dns(*child) : *child);
    bool makes_bridge = name == "bridge" && !tree.child("bridge") && network.is_virtual();
    if (makes_bridge) tree.add("bridge");
    if (name == "mac" && !tree.child("mac") && network.is_virtual()) tree.add("mac").set("address", network.mac);
  }
  complete_forward(tree, network);
  for (Element& child : tree.content())
    if (child.name() == "ip") {
      child.content().remove_if([](const Element& part) { return part.is_text(); });
      xml::print_as_pair(child, 1);
    }
  if (Element* bridge = tree.child("bridge"); bridge && network.is_virtual())
    bridge->set("stp", network.stp ? "on" : "off").set("delay", network.delay_seconds);
  return tree;
}

}  // namespace

std::string_view forward_mode_name(ForwardMode mode) { return kModes[static_cast<size_t>(mode)]; }

Result<Bandwidth> read_bandwidth(const Element* element) {
  Bandwidth bandwidth;
  if (!element) return bandwidth;
  for (auto [name, rate] : {std::pair{"inbound", &bandwidth.inbound}, std::pair{"outbound", &bandwidth.outbound}}) {
    const Element* found = element->child(name);
    if (!found) continue;
    if (found->has_attribute("floor")) return unsupported("<bandwidth> with 'floor' is not supported");
    constexpr u64 kMost = 1u << 30;  // KiB a second
    rate->average = TRY(xml::number(*found, "average", 0, kMost));
    rate->peak = TRY(xml::number(*found, "peak", 0, kMost));
    rate->burst = TRY(xml::number(*found, "burst", 0, kMost));
    if (!rate->average) return bad("Missing mandatory average attribute in <bandwidth>");
  }
  return bandwidth;
}

Result<NetworkDefinition> read_network(const Element& element) {
  NetworkDefinition network;
  network.name = TRY(xml::name_child(element));
  network.uuid = TRY(xml::uuid_child(element));
  TRY(refuse_unsupported(element));
  if (const Element* forward = element.child("forward")) TRY(read_forward(*forward, network));
  TRY(read_bridge(element, network));
  if (network.is_virtual() && network.mac.empty()) network.mac = xml::mac_text(xml::random_mac());
  if (const Element* domain = element.child("domain")) {
    network.domain = TRY(xml::required_attribute(*domain, "name"));
    network.domain_local_only = TRY(xml::yes_no(*domain, "localOnly", false));
    TRY(check_word(network.domain, "domain"));
  }
  if (const Element* dns = element.child("dns")) {
    network.dns = TRY(xml::yes_no(*dns, "enable", true));
    TRY(check_dns(*dns));
  }
  network.bandwidth = TRY(read_bandwidth(element.child("bandwidth")));
  if (const Element* port = element.child("port")) network.ports_isolated = TRY(xml::yes_no(*port, "isolated", false));
  TRY(read_subnets(element, network));
  TRY(check_together(network));
  network.tree = normalised(element, network);
  return network;
}

Result<NetworkDefinition> parse_network(std::string_view text) {
  return read_network(TRY(xml::parse(text, "(network_definition)", "network")));
}

}  // namespace atl::manage
