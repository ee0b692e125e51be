#include "manage/network/firewall.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/fd.h"
#include "manage/tool/run_tool.h"

namespace atl::manage {
namespace {

std::string table_of(const std::string& bridge) { return "atoll-" + bridge; }

/// Declared first, so that deleting it works whether it was there or not.
std::string clear_table(const std::string& bridge) {
  return fmt::format("table inet {0} {{}}\ndelete table inet {0}\n", table_of(bridge));
}

struct Subnet {
  std::string family, range;
  bool masquerades;
};

std::vector<Subnet> subnets_of(const NetworkDefinition& network) {
  std::vector<Subnet> subnets;
  auto add = [&](const IpAddress& address, unsigned prefix) {
    bool masquerades = network.mode == ForwardMode::Nat && (!address.v6 || network.nat_ipv6);
    subnets.push_back(
        {address.v6 ? "ip6" : "ip", fmt::format("{}/{}", ip_text(network_of(address, prefix)), prefix), masquerades});
  };
  for (const IpSubnet& subnet : network.subnets) add(subnet.address, subnet.prefix);
  for (const Route& route : network.routes) add(route.destination, route.prefix);
  return subnets;
}

std::string out_devices(const NetworkDefinition& network, const char* direction) {
  if (network.forward_devices.empty()) return {};
  std::string names;
  for (const std::string& device : network.forward_devices)
    names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", device);
  return fmt::format("{} {{ {} }} ", direction, names);
}

std::string forward_chain(const NetworkDefinition& network) {
  std::string out = "  chain forward {\n    type filter hook forward priority filter; policy accept;\n";
  auto line = [&](std::string text) { out += "    " + text + "\n"; };
  const std::string& bridge = network.bridge;
  line(fmt::format("iifname \"{0}\" oifname \"{0}\" accept", bridge));
  if (network.mode != ForwardMode::None) {
    for (const Subnet& subnet : subnets_of(network)) {
      line(fmt::format("{}oifname \"{}\" {} daddr {} {}accept", out_devices(network, "iifname"), bridge, subnet.family,
                       subnet.range, subnet.masquerades ? "ct state established,related " : ""));
      line(fmt::format("{}iifname \"{}\" {} saddr {} accept", out_devices(network, "oifname"), bridge, subnet.family,
                       subnet.range));
    }
  }
  line(fmt::format("oifname \"{}\" reject", bridge));
  line(fmt::format("iifname \"{}\" reject", bridge));
  return out + "  }\n";
}

std::string source_text(const NetworkDefinition& network, bool v6, bool with_ports) {
  std::string ports = fmt::format("{}-{}", network.nat_port_start, network.nat_port_end);
  if (!network.nat_addresses || v6) return with_ports ? "masquerade to :" + ports : "masquerade";
  auto [first, last] = *network.nat_addresses;
  std::string range = first == last ? ip_text(first) : ip_text(first) + "-" + ip_text(last);
  return "snat ip to " + range + (with_ports ? ":" + ports : "");
}

std::string nat_chain(const NetworkDefinition& network) {
  std::string out = "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n";
  std::string device = out_devices(network, "oifname");
  for (const Subnet& subnet : subnets_of(network)) {
    if (!subnet.masquerades) continue;
    bool v6 = subnet.family == "ip6";
    std::string from = fmt::format("    {}{} saddr {} ", device, subnet.family, subnet.range);
    // What stays on the link keeps its sender: DHCP, mDNS.
    out += fmt::format("{}{} daddr {} return\n", from, subnet.family,
                       v6 ? "ff02::/16" : "{ 224.0.0.0/24, 255.255.255.255 }");
    std::string outside = fmt::format("{}{} daddr != {} ", from, subnet.family, subnet.range);
    out += fmt::format("{}meta l4proto {{ tcp, udp }} {}\n", outside, source_text(network, v6, true));
    out += fmt::format("{}{}\n", outside, source_text(network, v6, false));
  }
  return out + "  }\n";
}

Status write_sysctl(const std::string& path) {
  auto now = read_file(path, 16);
  if (now && now->starts_with('1')) return {};
  Fd file = TRY(open_file(path, O_WRONLY));
  return write_all(file, std::span(reinterpret_cast<const u8*>("1\n"), 2));
}

}  // namespace

std::string firewall_rules(const NetworkDefinition& network) {
  bool filters =
      network.mode == ForwardMode::None || network.mode == ForwardMode::Nat || network.mode == ForwardMode::Route;
  if (!filters) return {};
  std::string text = clear_table(network.bridge);
  text += fmt::format("table inet {} {{\n", table_of(network.bridge));
  text += forward_chain(network);
  if (network.mode == ForwardMode::Nat) text += nat_chain(network);
  return text + "}\n";
}

Status run_nft(const std::string& text) {
  if (text.empty()) return {};
  TRY(run_tool_checked({.words = {"nft", "-f", "-"}, .input = text}));
  return {};
}

Status apply_firewall(const NetworkDefinition& network) { return run_nft(firewall_rules(network)); }

Status remove_firewall(const std::string& bridge) { return run_nft(clear_table(bridge)); }

Status enable_forwarding(const NetworkDefinition& network) {
  if (network.mode != ForwardMode::Nat && network.mode != ForwardMode::Route && network.mode != ForwardMode::Open)
    return {};
  bool v4 = false, v6 = false;
  for (const IpSubnet& subnet : network.subnets) (subnet.address.v6 ? v6 : v4) = true;
  if (v4) TRY(write_sysctl("/proc/sys/net/ipv4/ip_forward"));
  if (v6) TRY(write_sysctl("/proc/sys/net/ipv6/conf/all/forwarding"));
  return {};
}

}  // namespace atl::manage
