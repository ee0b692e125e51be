// The guests' places on running networks.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "manage/network/networks.h"

namespace atl::manage {
namespace {

Error no_port(const Uuid& uuid, const std::string& network) {
  return {Code::NoNetworkPort, fmt::format("Cannot find network port {} in network {}", format_uuid(uuid), network),
          Part::Network};
}

Result<Plug> make_plug(const NetworkDefinition& network, const PlugRequest& request, const NetworkPort& port) {
  if (!network.is_macvtap()) return plug_bridge(network.bridge, request);
  return plug_direct(port.lower, macvtap_mode_of(network.mode), request.mac);
}

}  // namespace

Result<Networks::Network*> Networks::running(const Uuid& uuid) {
  Network* network = TRY(require(uuid));
  if (!network->live)
    return Error(Code::OperationInvalid, fmt::format("network '{}' is not active", network->any().name),
                 Part::NetworkDriver);
  return network;
}

Status Networks::add_port(Network& network, NetworkPort port) {
  if (!port.tap.empty()) std::erase_if(network.ports, [&](const NetworkPort& old) { return old.tap == port.tap; });
  network.ports.push_back(std::move(port));
  return save_live(network, true);
}

// --- ports that clients see and make

Result<std::vector<NetworkPort>> Networks::ports(const Uuid& uuid) {
  Lock lock(mutex_);
  return TRY(running(uuid))->ports;
}

Result<NetworkPort> Networks::port(const NetworkRef& network, const Uuid& uuid) {
  for (NetworkPort& port : TRY(ports(network.uuid)))
    if (port.uuid == uuid) return std::move(port);
  return no_port(uuid, network.name);
}

Result<std::string> Networks::port_xml(const NetworkRef& network, const Uuid& uuid) {
  NetworkPort found = TRY(port(network, uuid));
  Lock lock(mutex_);
  return network_port_xml(found, *TRY(running(network.uuid))->live);
}

Result<NetworkPort> Networks::create_port(const Uuid& uuid, std::string_view text) {
  NetworkPort port = TRY(parse_network_port(text));
  Lock lock(mutex_);
  Network* network = TRY(running(uuid));
  if (std::ranges::find(network->ports, port.uuid, &NetworkPort::uuid) != network->ports.end())
    return Error(Code::NetworkPortExist,
                 fmt::format("Network port with UUID {} already exists", format_uuid(port.uuid)), Part::Network);
  PlugRequest request;
  request.portgroup = port.portgroup;
  if (port.isolated) request.isolated = true;
  TRY(complete_request(*network->live, request, port));
  if (network->live->is_macvtap()) port.lower = TRY(choose_lower_device(*network->live, network->ports));
  TRY(add_port(*network, port));
  return port;
}

Status Networks::delete_port(const NetworkRef& ref, const Uuid& uuid) {
  Lock lock(mutex_);
  Network* network = TRY(running(ref.uuid));
  if (std::erase_if(network->ports, [&](const NetworkPort& port) { return port.uuid == uuid; }) == 0)
    return no_port(uuid, ref.name);
  return save_live(*network, true);
}

// --- guests' cards

Result<Plug> Networks::plug(const PlugRequest& request) {
  Lock working(working_);  // so that the network cannot be stopped meanwhile
  NetworkDefinition network;
  NetworkPort port;
  port.uuid = random_uuid();
  port.owner = request.domain;
  port.owner_uuid = request.domain_uuid;
  port.mac = request.mac;
  {
    Lock lock(mutex_);
    Network* entry = by_name(request.network);
    if (!entry) return no_network(request.network);
    network = *TRY(running(entry->any().uuid))->live;
    if (network.is_macvtap()) port.lower = TRY(choose_lower_device(network, entry->ports));
  }
  PlugRequest card = TRY(complete_request(network, request, port));
  Plug plug = TRY(make_plug(network, card, port));
  plug.port = port.uuid;
  port.tap = plug.tap.name;
  port.is_macvtap = plug.is_macvtap;
  Lock lock(mutex_);
  Network* entry = TRY(require(network.uuid));
  TRY(add_port(*entry, std::move(port)));
  return plug;
}

void Networks::unplug(const std::string& network, const std::string& tap_name) {
  bool is_macvtap = false;
  {
    Lock lock(mutex_);
    Network* entry = by_name(network);
    if (!entry || !entry->live) return;
    for (const NetworkPort& port : entry->ports) is_macvtap |= port.tap == tap_name && port.is_macvtap;
    if (std::erase_if(entry->ports, [&](const NetworkPort& port) { return port.tap == tap_name; }) == 0) return;
    if (Status saved = save_live(*entry, true); !saved) log_warning("network {}: {}", network, saved.error().message());
  }
  if (is_macvtap) unplug_direct(tap_name);
}

void Networks::keep_ports(const std::function<bool(const std::string&)>& alive) {
  Lock lock(mutex_);
  for (auto& network : networks_) {
    if (!network->live) continue;
    size_t gone =
        std::erase_if(network->ports, [&](const NetworkPort& port) { return !port.tap.empty() && !alive(port.tap); });
    if (!gone) continue;
    if (Status saved = save_live(*network, true); !saved)
      log_warning("network {}: {}", network->live->name, saved.error().message());
  }
}

}  // namespace atl::manage
