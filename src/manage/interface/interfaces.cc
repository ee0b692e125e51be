#include "manage/interface/interfaces.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <memory>

#include "manage/network/ip.h"
#include "manage/network/links.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;
using AddressList = std::unique_ptr<ifaddrs, void (*)(ifaddrs*)>;

AddressList addresses() {
  ifaddrs* list = nullptr;
  (void)::getifaddrs(&list);  // an empty list if the kernel does not say
  return {list, ::freeifaddrs};
}

bool is_guests(std::string_view name) { return name.starts_with("vnet") || name.starts_with("macvtap"); }

IpAddress ip_of(const sockaddr& address) {
  IpAddress ip;
  ip.v6 = address.sa_family == AF_INET6;
  if (ip.v6)
    std::memcpy(ip.bytes.data(), &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, 16);
  else
    std::memcpy(ip.bytes.data(), &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
  return ip;
}

unsigned prefix_of(const sockaddr* mask) {
  if (!mask) return 0;
  unsigned ones = 0;
  for (u8 byte : ip_of(*mask).bytes) ones += static_cast<unsigned>(std::popcount(byte));
  return ones;
}

void add_protocols(Element& tree, const std::string& name) {
  AddressList list = addresses();
  for (int family : {AF_INET, AF_INET6}) {
    Element protocol("protocol");
    protocol.set("family", family == AF_INET ? "ipv4" : "ipv6");
    for (const ifaddrs* at = list.get(); at; at = at->ifa_next) {
      if (!at->ifa_addr || at->ifa_addr->sa_family != family || name != at->ifa_name) continue;
      protocol.add("ip").set("address", ip_text(ip_of(*at->ifa_addr))).set("prefix", u64{prefix_of(at->ifa_netmask)});
    }
    if (!protocol.children().empty()) tree.add(std::move(protocol));
  }
}

}  // namespace

std::vector<HostInterface> host_interfaces() {
  std::map<std::string, HostInterface> found;
  AddressList list = addresses();
  for (const ifaddrs* at = list.get(); at; at = at->ifa_next) {
    if (!at->ifa_addr || at->ifa_addr->sa_family != AF_PACKET || is_guests(at->ifa_name)) continue;
    const auto& link = reinterpret_cast<const sockaddr_ll&>(*at->ifa_addr);
    std::array<u8, 6> mac{};
    if (link.sll_halen == mac.size()) std::memcpy(mac.data(), link.sll_addr, mac.size());
    found[at->ifa_name] = {{at->ifa_name, xml::mac_text(mac)}, (at->ifa_flags & IFF_UP) != 0};
  }
  std::vector<HostInterface> interfaces;
  for (auto& [name, interface] : found) interfaces.push_back(std::move(interface));
  return interfaces;
}

Result<HostInterface> find_interface(const std::string& name) {
  for (HostInterface& interface : host_interfaces())
    if (interface.ref.name == name) return std::move(interface);
  return no_interface(name);
}

std::string interface_xml(const HostInterface& interface) {
  Element tree("interface");
  bool bridge = is_bridge(interface.ref.name);
  tree.set("type", bridge ? "bridge" : "ethernet").set("name", interface.ref.name);
  const LinkFacts facts = link_facts(interface.ref.name);
  if (facts.mtu) tree.add("mtu").set("size", facts.mtu);
  add_protocols(tree, interface.ref.name);
  if (bridge) {
    tree.add("bridge");
  } else {
    tree.add("link").set("state", facts.state);
    tree.add("mac").set("address", interface.ref.mac);
  }
  return xml::write(tree);
}

}  // namespace atl::manage
