#include "manage/network/status_file.h"

#include "manage/xml/errors.h"
#include "manage/xml/parse.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

void add_port(Element& status, const NetworkPort& port) {
  Element& element = status.add("port");
  element.set("uuid", format_uuid(port.uuid)).set("owner", port.owner).set("owner-uuid", format_uuid(port.owner_uuid));
  element.set("mac", port.mac).set("tap", port.tap).set("portgroup", port.portgroup).set("lower", port.lower);
  element.set("isolated", port.isolated ? "yes" : "no").set("macvtap", port.is_macvtap ? "yes" : "no");
}

Result<NetworkPort> read_port(const Element& element) {
  auto uuid = parse_uuid(element.attribute("uuid")), owner = parse_uuid(element.attribute("owner-uuid"));
  if (!uuid || !owner) return xml::xml_error("a port without its uuids");
  NetworkPort port;
  port.uuid = *uuid;
  port.owner = element.attribute("owner");
  port.owner_uuid = *owner;
  port.mac = element.attribute("mac");
  port.tap = element.attribute("tap");
  port.portgroup = element.attribute("portgroup");
  port.lower = element.attribute("lower");
  port.isolated = TRY(xml::yes_no(element, "isolated", false));
  port.is_macvtap = TRY(xml::yes_no(element, "macvtap", false));
  return port;
}

}  // namespace

std::string network_status_text(const NetworkDefinition& network, const std::vector<NetworkPort>& ports,
                                bool is_complete) {
  Element status("networkstatus");
  status.set("state", is_complete ? "active" : "changing");
  status.add(network.tree);
  for (const NetworkPort& port : ports) add_port(status, port);
  return xml::write(status);
}

Result<NetworkStatus> parse_network_status(std::string_view text) {
  Element tree = TRY(xml::parse(text, "(network_status)", "networkstatus"));
  const Element* network = tree.child("network");
  if (!network) return xml::xml_error("a status without its network");
  NetworkStatus status{TRY(read_network(*network)), {}, tree.attribute("state") == "active"};
  for (const Element* port : tree.children("port")) status.ports.push_back(TRY(read_port(*port)));
  return status;
}

}  // namespace atl::manage
