#include "manage/network/card_plug.h"

#include <fmt/format.h>

#include "base/log.h"
#include "manage/xml/values.h"

namespace atl::manage {
namespace {

using xml::Element;

std::string at(const Element& card, std::string_view child, std::string_view attribute) {
  const Element* found = card.child(child);
  return found ? found->attribute(attribute) : std::string();
}

Status refuse_unsupported(const Element& card) {
  for (const char* name : {"vlan", "virtualport"})
    if (card.child(name)) return config_unsupported(fmt::format("<{}> of an <interface> is not supported", name));
  return {};
}

/// A name that libvirt's clients copy from another guest's live definition is not a wish.
std::string wished_name(const Element& card) {
  std::string name = at(card, "target", "dev");
  return name.starts_with("vnet") || name.starts_with("macvtap") ? std::string() : name;
}

Result<PlugRequest> read_request(const Element& card, const DomainRef& domain) {
  PlugRequest request;
  request.network = at(card, "source", "network");
  request.portgroup = at(card, "source", "portgroup");
  request.mac = at(card, "mac", "address");
  request.domain = domain.name;
  request.domain_uuid = domain.uuid;
  request.tap_name = wished_name(card);
  request.bandwidth = TRY(read_bandwidth(card.child("bandwidth")));
  if (const Element* port = card.child("port"); port && port->has_attribute("isolated"))
    request.isolated = TRY(xml::yes_no(*port, "isolated", false));
  if (const Element* mtu = card.child("mtu")) request.mtu = TRY(xml::number(*mtu, "size", 0, 65535));
  return request;
}

Result<MacvtapMode> macvtap_mode(const Element& card) {
  const Element* source = card.child("source");
  if (!source) return xml_error("missing <source> of <interface type='direct'>");
  constexpr MacvtapMode kModes[] = {MacvtapMode::Vepa, MacvtapMode::Bridge, MacvtapMode::Private,
                                    MacvtapMode::Passthrough};
  size_t index = TRY(xml::choice(*source, "mode", {"vepa", "bridge", "private", "passthrough"}, 0));
  return kModes[index];
}

/// On no bridge: who plugs it in is the administrator's script.
Result<Plug> plug_ethernet(const PlugRequest& request) {
  Plug plug{TRY(open_tap(request.tap_name.empty() ? "vnet%d" : request.tap_name)), "", {}, request.mtu, false};
  if (request.mtu) TRY(set_link_mtu(plug.tap.name, request.mtu));
  TRY(set_link_up(plug.tap.name, true));
  return plug;
}

/// The rules of <filterref>, in place before the guest gets the tap.
Status guard(Filters& filters, const Element& card, const Plug& plug, const DomainRef& domain) {
  const Element* filter = card.child("filterref");
  if (!filter) return {};
  if (plug.is_macvtap) return config_unsupported("<filterref> is not supported with macvtap devices");
  FilterBinding binding{domain.name,
                        domain.uuid,
                        plug.tap.name,
                        at(card, "mac", "address"),
                        filter->attribute("filter"),
                        TRY(read_filter_parameters(*filter))};
  (void)filters.unbind(binding.port);  // of a guest that ended without a word
  return filters.bind(binding);
}

Result<Plug> plug_unguarded(Networks& networks, const Element& card, const PlugRequest& request) {
  const std::string type = card.attribute("type");
  if (type == "network") return networks.plug(request);
  if (type == "bridge") return plug_bridge(at(card, "source", "bridge"), request);
  if (type == "ethernet") return plug_ethernet(request);
  if (type != "direct") return config_unsupported(fmt::format("<interface type='{}'> is not supported", type));
  MacvtapMode mode = TRY(macvtap_mode(card));
  return plug_direct(at(card, "source", "dev"), mode, request.mac);
}

}  // namespace

Result<Plug> plug_card(CardHost host, const Element& card, const DomainRef& domain) {
  TRY(refuse_unsupported(card));
  PlugRequest request = TRY(read_request(card, domain));
  Plug plug = TRY(plug_unguarded(host.networks, card, request));
  Status guarded = guard(host.filters, card, plug, domain);
  if (guarded) return plug;
  Element plugged = card;
  plugged.remove("target");
  plugged.add("target").set("dev", plug.tap.name);
  unplug_card(host, plugged);
  return guarded.error();
}

void unplug_card(CardHost host, const Element& card) {
  const std::string type = card.attribute("type"), tap = at(card, "target", "dev");
  if (tap.empty()) return;
  if (type == "network") host.networks.unplug(at(card, "source", "network"), tap);
  if (type == "direct") unplug_direct(tap);
  if (!card.child("filterref")) return;
  Status removed = host.filters.unbind(tap);
  if (!removed && removed.error().code() != Code::NoNwfilterBinding)
    log_warning("filter of {}: {}", tap, removed.error().message());
}

}  // namespace atl::manage
