#include "manage/nwfilter/binding.h"

#include <fmt/format.h>
#include <net/if.h>

#include "manage/xml/parse.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

using xml::Element;

Error bad(std::string text) { return {Code::InternalError, std::move(text), Part::Nwfilter}; }

Status read_owner(const Element& element, FilterBinding& binding) {
  const Element* owner = element.child("owner");
  if (!owner) return bad("filter binding has no owner");
  binding.owner = owner->child_text("name").value_or("");
  if (binding.owner.empty()) return bad("filter binding has no owner name");
  auto uuid = parse_uuid(owner->child_text("uuid").value_or(""));
  if (!uuid) return bad("filter binding has no owner UUID");
  binding.owner_uuid = *uuid;
  return {};
}

}  // namespace

Status check_port_name(std::string_view name) {
  bool is_good = !name.empty() && name.size() < IFNAMSIZ && name != "." && name != "..";
  for (char c : name)
    is_good &= (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '-' || c == '_' || c == '.';
  return is_good ? Status() : bad(fmt::format("'{}' is not the name of a port", name));
}

Result<FilterBinding> parse_filter_binding(std::string_view text) {
  Element element = TRY(xml::parse(text, "(nwfilterbinding_definition)", "filterbinding"));
  FilterBinding binding;
  const Element *port = element.child("portdev"), *mac = element.child("mac"), *filter = element.child("filterref");
  if (!port) return bad("filter binding has no port dev name");
  binding.port = port->attribute("name");
  TRY(check_port_name(binding.port));
  auto address = xml::parse_mac(mac ? mac->attribute("address") : "");
  if (!address) return bad("filter binding has no MAC address");
  binding.mac = xml::mac_text(*address);
  if (!filter || !filter->has_attribute("filter")) return bad("filter binding has no filter reference");
  binding.filter = filter->attribute("filter");
  binding.parameters = TRY(read_filter_parameters(*filter));
  TRY(read_owner(element, binding));
  return binding;
}

std::string filter_binding_xml(const FilterBinding& binding) {
  Element element("filterbinding");
  Element& owner = element.add("owner");
  owner.add("name", std::string_view(binding.owner));
  owner.add("uuid", format_uuid(binding.owner_uuid));
  element.add("portdev").set("name", binding.port);
  element.add("mac").set("address", binding.mac);
  add_filter_parameters(element.add("filterref").set("filter", binding.filter), binding.parameters);
  return xml::write(element);
}

}  // namespace atl::manage
