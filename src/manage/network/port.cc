#include "manage/network/port.h"

#include <fmt/format.h>

#include <algorithm>

#include "manage/xml/errors.h"
#include "manage/xml/parse.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

Error failed(std::string text) { return {Code::OperationFailed, std::move(text), Part::NetworkDriver}; }
Error bad(std::string text) { return {Code::XmlError, std::move(text), Part::Network}; }

/// The group that a card asked for, or the default one; nullptr for none.
Result<const Element*> find_portgroup(const NetworkDefinition& network, const std::string& name) {
  for (const Element* group : network.tree.children("portgroup")) {
    bool fits = name.empty() ? group->attribute("default") == "yes" : group->attribute("name") == name;
    if (fits) return group;
  }
  if (name.empty()) return static_cast<const Element*>(nullptr);
  return failed(fmt::format("network '{}' doesn't have a portgroup named '{}'", network.name, name));
}

Element plug_element(const NetworkPort& port, const NetworkDefinition& network) {
  Element plug("plug");
  if (network.is_macvtap())
    return plug.set("type", "direct").set("dev", port.lower).set("mode", forward_mode_name(network.mode));
  return plug.set("type", network.is_virtual() ? "network" : "bridge").set("bridge", network.bridge);
}

}  // namespace

MacvtapMode macvtap_mode_of(ForwardMode mode) {
  switch (mode) {
    case ForwardMode::Private: return MacvtapMode::Private;
    case ForwardMode::Vepa: return MacvtapMode::Vepa;
    case ForwardMode::Passthrough: return MacvtapMode::Passthrough;
    default: return MacvtapMode::Bridge;
  }
}

Result<PlugRequest> complete_request(const NetworkDefinition& network, const PlugRequest& request, NetworkPort& port) {
  const Element* group = TRY(find_portgroup(network, request.portgroup));
  PlugRequest card = request;
  if (group) {
    port.portgroup = request.portgroup;
    if (!card.bandwidth.is_set()) card.bandwidth = TRY(read_bandwidth(group->child("bandwidth")));
    const Element* isolation = group->child("port");
    if (!card.isolated && isolation && isolation->has_attribute("isolated"))
      card.isolated = isolation->attribute("isolated") == "yes";
  }
  if (!card.isolated) card.isolated = network.ports_isolated;
  if (!card.mtu) card.mtu = network.mtu;
  port.isolated = *card.isolated;
  return card;
}

Result<std::string> choose_lower_device(const NetworkDefinition& network, const std::vector<NetworkPort>& ports) {
  auto users = [&](const std::string& device) { return std::ranges::count(ports, device, &NetworkPort::lower); };
  const std::string& device = *std::ranges::min_element(network.forward_devices, {}, users);
  if (network.mode == ForwardMode::Passthrough && users(device) > 0)
    return failed(
        fmt::format("network '{}' requires exclusive access to interfaces, but none are available", network.name));
  return device;
}

Result<NetworkPort> parse_network_port(std::string_view text) {
  Element element = TRY(xml::parse(text, "(networkport_definition)", "networkport"));
  NetworkPort port;
  port.uuid = TRY(xml::uuid_child(element));
  const Element *owner = element.child("owner"), *mac = element.child("mac");
  if (!owner) return bad("Missing network port owner name");
  port.owner = TRY(xml::required_text(*owner, "name"));
  auto uuid = parse_uuid(TRY(xml::required_text(*owner, "uuid")));
  if (!uuid) return bad("Unable to parse UUID of a network port's owner");
  port.owner_uuid = *uuid;
  auto address = xml::parse_mac(mac ? mac->attribute("address") : "");
  if (!address) return bad("Missing network port mac");
  port.mac = xml::mac_text(*address);
  port.portgroup = element.child_text("group").value_or("");
  if (const Element* isolation = element.child("port")) port.isolated = TRY(xml::yes_no(*isolation, "isolated", false));
  if (element.child("plug"))
    return Error(Code::InvalidArg, "Port reclaim not requested but plug type is not none", Part::Network);
  for (const char* name : {"bandwidth", "virtualport", "vlan"})
    if (element.child(name))
      return Error(Code::ConfigUnsupported, fmt::format("<{}> of a network port is not supported", name),
                   Part::Network);
  return port;
}

std::string network_port_xml(const NetworkPort& port, const NetworkDefinition& network) {
  Element tree("networkport");
  tree.add("uuid", format_uuid(port.uuid));
  Element& owner = tree.add("owner");
  owner.add("name", port.owner);
  owner.add("uuid", format_uuid(port.owner_uuid));
  if (!port.portgroup.empty()) tree.add("group", port.portgroup);
  tree.add("mac").set("address", port.mac);
  if (port.isolated) tree.add("port").set("isolated", "yes");
  tree.add(plug_element(port, network));
  return xml::write(tree);
}

}  // namespace atl::manage
