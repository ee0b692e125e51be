#include "manage/network/update.h"

#include <fmt/format.h>

#include <algorithm>

#include "manage/xml/parse.h"

namespace atl::manage {
namespace {

using xml::Element;

struct Section {
  UpdateSection number;
  std::string_view title;   // in messages
  std::string_view parent;  // path below <network>
  std::string_view element;
  // An entry is the same as another if one of these attributes is there and equal.
  std::string_view keys[3];
};

constexpr Section kSections[] = {
    {UpdateSection::DhcpHost, "dhcp host", "ip/dhcp", "host", {"mac", "id", "name"}},
    {UpdateSection::DhcpRange, "dhcp range", "ip/dhcp", "range", {"start", "end", ""}},
    {UpdateSection::ForwardInterface, "forward interface", "forward", "interface", {"dev", "", ""}},
    {UpdateSection::PortGroup, "portgroup", "", "portgroup", {"name", "", ""}},
    {UpdateSection::DnsHost, "DNS HOST", "dns", "host", {"ip", "", ""}},
    {UpdateSection::DnsTxt, "DNS TXT", "dns", "txt", {"name", "", ""}},
    {UpdateSection::DnsSrv, "DNS SRV", "dns", "srv", {"service", "protocol", "domain"}},
};

Error invalid(std::string text) { return {Code::OperationInvalid, std::move(text), Part::Network}; }

Element& child_of(Element& parent, std::string_view name) {
  Element* child = parent.child(name);
  return child ? *child : parent.add(name);
}

/// The <ip> that a DHCP entry belongs to.
Result<Element*> subnet_for(Element& network, i32 index, const Section& section) {
  std::vector<Element*> subnets;
  for (Element& child : network.content())
    if (child.name() == "ip") subnets.push_back(&child);
  if (index >= 0) {
    if (static_cast<size_t>(index) >= subnets.size())
      return invalid(fmt::format("couldn't update dhcp {} entry - no <ip> element found at index {} in network",
                                 section.element, index));
    return subnets[static_cast<size_t>(index)];
  }
  for (Element* subnet : subnets)
    if (subnet->child("dhcp")) return subnet;
  for (Element* subnet : subnets)
    if (subnet->attribute("family") != "ipv6") return subnet;
  return invalid(fmt::format("couldn't update dhcp {} entry - no <ip> element in network", section.element));
}

Result<Element*> parent_of(Element& network, i32 index, const Section& section) {
  if (section.parent.empty()) return &network;
  if (section.parent != "ip/dhcp") return &child_of(network, section.parent);
  Element* subnet = TRY(subnet_for(network, index, section));
  return &child_of(*subnet, "dhcp");
}

/// Ranges and services are the same if all their keys are, hosts if any is.
bool is_same(const Element& a, const Element& b, const Section& section) {
  bool all = section.number == UpdateSection::DhcpRange || section.number == UpdateSection::DnsSrv;
  bool any_equal = false, all_equal = true;
  for (std::string_view key : section.keys) {
    if (key.empty()) continue;
    bool both = a.has_attribute(key) && b.has_attribute(key);
    bool equal = a.attribute(key) == b.attribute(key);
    any_equal |= both && equal;
    all_equal &= equal;
  }
  return all ? all_equal : any_equal;
}

/// `network` and `given`: the name and the client's words, for messages.
Status change_entry(Element& parent, Element entry, UpdateCommand command, const Section& section,
                    const std::string& network, std::string_view given) {
  auto& content = parent.content();
  auto found = std::ranges::find_if(
      content, [&](const Element& old) { return old.name() == section.element && is_same(old, entry, section); });
  bool adds = command == UpdateCommand::AddFirst || command == UpdateCommand::AddLast;
  if (adds && found != content.end())
    return invalid(fmt::format("there is an existing {} entry in network '{}' that matches \"{}\"", section.title,
                               network, given));
  if (!adds && found == content.end())
    return invalid(fmt::format("couldn't locate a matching {} entry in network '{}'", section.title, network));
  switch (command) {
    case UpdateCommand::Modify: *found = std::move(entry); break;
    case UpdateCommand::Delete: content.erase(found); break;
    case UpdateCommand::AddFirst: content.push_front(std::move(entry)); break;
    case UpdateCommand::AddLast: content.push_back(std::move(entry)); break;
  }
  return {};
}

}  // namespace

Status update_tree(Element& network, u32 command, u32 section, i32 parent_index, std::string_view change) {
  auto row = std::ranges::find_if(kSections, [&](const Section& s) { return static_cast<u32>(s.number) == section; });
  const std::string name = network.child_text("name").value_or("");
  if (row == std::end(kSections)) {
    // The names of virNetworkUpdateSection.
    constexpr std::string_view kNames[] = {"none",         "bridge",        "domain",   "ip",
                                           "ip-dhcp-host", "ip-dhcp-range", "forward",  "forward-interface",
                                           "forward-pf",   "portgroup",     "dns-host", "dns-txt",
                                           "dns-srv"};
    std::string what = section < std::size(kNames) ? std::string(kNames[section]) : std::to_string(section);
    return Error(Code::OperationUnsupported, fmt::format("can't update '{}' section of network '{}'", what, name),
                 Part::Network);
  }
  if (command < 1 || command > 4)
    return Error(Code::NoSupport, fmt::format("unrecognized network update command code {}", command), Part::Network);
  Element entry = TRY(xml::parse(change, "(network_update)", row->element));
  Element* parent = TRY(parent_of(network, parent_index, *row));
  return change_entry(*parent, std::move(entry), static_cast<UpdateCommand>(command), *row, name, change);
}

}  // namespace atl::manage
