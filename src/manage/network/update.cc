#include "manage/network/update.h"

#include <fmt/format.h>

#include <algorithm>

#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

/// When an entry is the same as another.
enum class Same : u8 {
  AnyKey,     // one of the keys is there on both sides and equal
  AllKeys,    // all keys are equal
  GivenKeys,  // those keys that the client gave are equal
  DnsHost,    // the address or one of the host's names
};

struct Section {
  UpdateSection number;
  std::string_view parent;  // path below <network>
  std::string_view element;
  Same same;
  std::string_view keys[6];
  std::string_view cannot_modify;  // what of it cannot be modified; "": it can
  // Messages, with the network's name as {0}, the first key as {1}, and the entry as {2}.
  std::string_view there, missing, several = "";
};

constexpr Section kSections[] = {
    {UpdateSection::DhcpHost,
     "ip/dhcp",
     "host",
     Same::AnyKey,
     {"mac", "id", "name"},
     "",
     "there is an existing dhcp host entry in network '{0}' that matches \"{2}\"",
     "couldn't locate a matching dhcp host entry in network '{0}'"},
    {UpdateSection::DhcpRange,
     "ip/dhcp",
     "range",
     Same::AllKeys,
     {"start", "end"},
     "dhcp ranges",
     "there is an existing dhcp range entry in network '{0}' that matches \"{2}\"",
     "couldn't locate a matching dhcp range entry in network '{0}'"},
    {UpdateSection::ForwardInterface,
     "forward",
     "interface",
     Same::AllKeys,
     {"dev"},
     "forward interface entries",
     "there is an existing interface entry in network '{0}' that matches \"<interface dev='{1}'>\"",
     "couldn't find an interface entry in network '{0}' matching <interface dev='{1}'>"},
    {UpdateSection::PortGroup,
     "",
     "portgroup",
     Same::AllKeys,
     {"name"},
     "",
     "there is an existing portgroup entry in network '{0}' that matches \"<portgroup name='{1}'>\"",
     "couldn't find a portgroup entry in network '{0}' matching <portgroup name='{1}'>"},
    {UpdateSection::DnsHost,
     "dns",
     "host",
     Same::DnsHost,
     {"ip"},
     "DNS HOST records",
     "there is already at least one DNS HOST record with a matching field in network {0}",
     "couldn't locate a matching DNS HOST record in network {0}",
     "multiple matching DNS HOST records were found in network {0}"},
    {UpdateSection::DnsTxt,
     "dns",
     "txt",
     Same::AllKeys,
     {"name"},
     "DNS TXT records",
     "there is already a DNS TXT record with name '{1}' in network {0}",
     "couldn't locate a matching DNS TXT record in network {0}"},
    {UpdateSection::DnsSrv,
     "dns",
     "srv",
     Same::GivenKeys,
     {"service", "protocol", "domain", "target", "port", "priority"},
     "DNS SRV records",
     "there is already at least one DNS SRV record matching all specified fields in network {0}",
     "couldn't locate a matching DNS SRV record in network {0}",
     "multiple DNS SRV records matching all specified fields were found in network {0}"},
};

Error invalid(std::string text) { return {Code::OperationInvalid, std::move(text), Part::Network}; }

Element& child_of(Element& parent, std::string_view name) {
  Element* child = parent.child(name);
  return child ? *child : parent.add(name);
}

/// The <ip> that a DHCP entry belongs to.
Result<Element*> subnet_for(Element& network, i32 index, const std::string& name) {
  std::vector<Element*> subnets;
  for (Element& child : network.content())
    if (child.name() == "ip") subnets.push_back(&child);
  if (index >= 0) {
    if (static_cast<size_t>(index) >= subnets.size())
      return invalid(fmt::format("couldn't update dhcp host entry - no <ip> element found at index {} in network '{}'",
                                 index, name));
    return subnets[static_cast<size_t>(index)];
  }
  for (Element* subnet : subnets)
    if (subnet->child("dhcp")) return subnet;
  for (Element* subnet : subnets)
    if (subnet->attribute("family") != "ipv6") return subnet;
  return invalid(fmt::format("couldn't update dhcp host entry - no <ip> element found in network '{}'", name));
}

Result<Element*> parent_of(Element& network, i32 index, const Section& section, const std::string& name) {
  if (section.parent.empty()) return &network;
  if (section.parent != "ip/dhcp") return &child_of(network, section.parent);
  Element* subnet = TRY(subnet_for(network, index, name));
  return &child_of(*subnet, "dhcp");
}

bool shares_a_name(const Element& a, const Element& b) {
  for (const Element* one : a.children("hostname"))
    for (const Element* other : b.children("hostname"))
      if (one->text() == other->text()) return true;
  return false;
}

bool is_same(const Element& old, const Element& given, const Section& section) {
  bool any_equal = false, all_equal = true, given_equal = true;
  for (std::string_view key : section.keys) {
    if (key.empty()) continue;
    const bool equal = old.attribute(key) == given.attribute(key);
    any_equal |= equal && old.has_attribute(key) && given.has_attribute(key);
    all_equal &= equal;
    given_equal &= equal || !given.has_attribute(key);
  }
  switch (section.same) {
    case Same::AnyKey: return any_equal;
    case Same::AllKeys: return all_equal;
    case Same::GivenKeys: return given_equal;
    case Same::DnsHost: return any_equal || shares_a_name(old, given);
  }
  return false;
}

Error complaint(std::string_view words, const Section& section, const Element& entry, const std::string& network) {
  std::string text = xml::write(entry);
  text.pop_back();  // the line's end
  return invalid(fmt::format(fmt::runtime(words), network, entry.attribute(section.keys[0]), text));
}

/// Only one group may be the default.
Status check_default(const Element& parent, const Element& entry, const Section& section, const std::string& network) {
  if (section.number != UpdateSection::PortGroup || entry.attribute("default") != "yes") return {};
  for (const Element* group : parent.children("portgroup"))
    if (group->attribute("default") == "yes" && group->attribute("name") != entry.attribute("name"))
      return invalid(
          fmt::format("a different portgroup entry in network '{}' is already set as the default. Only one "
                      "default is allowed.",
                      network));
  return {};
}

Status change_entry(Element& parent, Element entry, UpdateCommand command, const Section& section,
                    const std::string& network) {
  auto& content = parent.content();
  auto fits = [&](const Element& old) { return old.name() == section.element && is_same(old, entry, section); };
  auto found = std::ranges::find_if(content, fits);
  const bool adds = command == UpdateCommand::AddFirst || command == UpdateCommand::AddLast;
  if (adds && found != content.end()) return complaint(section.there, section, entry, network);
  if (!adds && found == content.end()) return complaint(section.missing, section, entry, network);
  if (!section.several.empty() && std::ranges::count_if(content, fits) > 1)
    return complaint(section.several, section, entry, network);
  if (command != UpdateCommand::Delete) TRY(check_default(parent, entry, section, network));
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
                                           "forward pf",   "portgroup",     "dns-host", "dns-txt",
                                           "dns-srv"};
    std::string what = section < std::size(kNames) ? std::string(kNames[section]) : std::to_string(section);
    return Error(Code::OperationUnsupported, fmt::format("can't update '{}' section of network '{}'", what, name),
                 Part::Network);
  }
  if (command < 1 || command > 4)
    return Error(Code::NoSupport, fmt::format("unrecognized network update command code {}", command), Part::Network);
  Element entry = TRY(xml::parse(change, "(network_update)"));
  if (entry.name() != row->element)
    return Error(Code::XmlError,
                 fmt::format("unexpected element <{}>, expecting <{}>, while updating network '{}'", entry.name(),
                             row->element, name),
                 Part::Network);
  if (static_cast<UpdateCommand>(command) == UpdateCommand::Modify && !row->cannot_modify.empty())
    return Error(Code::OperationUnsupported,
                 fmt::format("{} cannot be modified, only added or deleted", row->cannot_modify), Part::Network);
  Element* parent = TRY(parent_of(network, parent_index, *row, name));
  return change_entry(*parent, std::move(entry), static_cast<UpdateCommand>(command), *row, name);
}

}  // namespace atl::manage
