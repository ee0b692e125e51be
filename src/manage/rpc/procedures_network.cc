// Procedures on networks and their ports.
#include "manage/daemon.h"
#include "manage/network/networks.h"
#include "manage/rpc/call.h"
#include "manage/rpc/list_filter.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {
namespace {

// virConnectListAllNetworksFlags.
enum ListFlags : u32 {
  kInactive = 1,
  kActive = 2,
  kPersistent = 4,
  kTransient = 8,
  kAutostart = 16,
  kNoAutostart = 32
};
enum XmlFlags : u32 { kXmlInactive = 1 };
enum UpdateFlags : u32 { kUpdateLive = 1, kUpdateConfig = 2 };
constexpr u32 kDefineValidate = 1;
constexpr u32 kPortValidate = 2;
constexpr i32 kMostNames = 16384;

/// remote_network_dhcp_lease.
struct LeaseReply {
  std::string interface;
  i64 expires = 0;
  i32 type = 0;  // 0: IPv4, 1: IPv6
  std::optional<std::string> mac, iaid;
  std::string ip;
  u32 prefix = 0;
  std::optional<std::string> hostname, client_id;
  static constexpr auto kFields = std::tuple{&LeaseReply::interface, &LeaseReply::expires,  &LeaseReply::type,
                                             &LeaseReply::mac,       &LeaseReply::iaid,     &LeaseReply::ip,
                                             &LeaseReply::prefix,    &LeaseReply::hostname, &LeaseReply::client_id};
};

Networks& networks(Call& call) { return call.daemon().networks(); }

bool passes(const Networks::State& state, u32 flags) {
  return passes_filter(flags, {{kInactive | kActive, state.active ? kActive : kInactive},
                               {kPersistent | kTransient, state.persistent ? kPersistent : kTransient},
                               {kAutostart | kNoAutostart, state.autostart ? kAutostart : kNoAutostart}});
}

Status list_all(Call& call) {
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(wanted, flags));
  TRY(check_flags(flags, 0x3f, "virConnectListAllNetworks"));
  std::vector<NetworkRef> list;
  for (const Networks::State& state : networks(call).list())
    if (passes(state, flags)) list.push_back(state.ref);
  call.write_list(list, wanted);
  return {};
}

std::vector<std::string> names(Call& call, u32 flags) {
  std::vector<std::string> found;
  for (const Networks::State& state : networks(call).list())
    if (passes(state, flags)) found.push_back(state.ref.name);
  return found;
}

template <u32 kFlags>
Status number_of(Call& call) {
  call.write(static_cast<i32>(names(call, kFlags).size()));
  return {};
}

template <u32 kFlags>
Status list_names(Call& call) {
  i32 most = 0;
  TRY(call.read(most));
  if (most < 0 || most > kMostNames) return rpc_error("maxnames > REMOTE_NETWORK_LIST_MAX");
  std::vector<std::string> found = names(call, kFlags);
  if (found.size() > static_cast<size_t>(most)) found.resize(static_cast<size_t>(most));
  call.write(found);
  return {};
}

Status lookup_by_name(Call& call) {
  std::string name;
  TRY(call.read(name));
  call.write(TRY(networks(call).find(name)));
  return {};
}

Status lookup_by_uuid(Call& call) {
  Uuid uuid{};
  TRY(call.read(uuid));
  call.write(TRY(networks(call).find(uuid)));
  return {};
}

Status create_xml(Call& call) {
  std::string xml;
  TRY(call.read(xml));
  call.write(TRY(networks(call).create_transient(xml)));
  return {};
}

Status create_xml_flags(Call& call) {
  std::string xml;
  u32 flags = 0;
  TRY(call.read(xml, flags));
  TRY(check_flags(flags, kDefineValidate, "virNetworkCreateXMLFlags"));
  call.write(TRY(networks(call).create_transient(xml)));
  return {};
}

Status define_xml(Call& call) {
  std::string xml;
  TRY(call.read(xml));
  call.write(TRY(networks(call).define(xml)));
  return {};
}

Status define_xml_flags(Call& call) {
  std::string xml;
  u32 flags = 0;
  TRY(call.read(xml, flags));
  TRY(check_flags(flags, kDefineValidate, "virNetworkDefineXMLFlags"));
  call.write(TRY(networks(call).define(xml)));
  return {};
}

/// Calls that take a network and nothing else.
template <Status (Networks::*kMethod)(const Uuid&)>
Status act(Call& call) {
  NetworkRef network;
  TRY(call.read(network));
  return (networks(call).*kMethod)(network.uuid);
}

Status get_xml(Call& call) {
  NetworkRef network;
  u32 flags = 0;
  TRY(call.read(network, flags));
  TRY(check_flags(flags, kXmlInactive, "virNetworkGetXMLDesc"));
  call.write(TRY(networks(call).xml(network.uuid, flags & kXmlInactive)));
  return {};
}

Status get_bridge_name(Call& call) {
  NetworkRef network;
  TRY(call.read(network));
  call.write(TRY(networks(call).bridge_name(network.uuid)));
  return {};
}

template <bool Networks::State::* kField>
Status get_state(Call& call) {
  NetworkRef network;
  TRY(call.read(network));
  Networks::State state = TRY(networks(call).state(network.uuid));
  call.write(i32{state.*kField});
  return {};
}

Status set_autostart(Call& call) {
  NetworkRef network;
  bool on = false;
  TRY(call.read(network, on));
  return networks(call).set_autostart(network.uuid, on);
}

Status update(Call& call) {
  NetworkRef network;
  Networks::Update change;
  u32 flags = 0;
  TRY(call.read(network, change.command, change.section, change.parent_index, change.xml, flags));
  TRY(check_flags(flags, kUpdateLive | kUpdateConfig, "virNetworkUpdate"));
  change.live = flags & kUpdateLive;
  change.config = flags & kUpdateConfig;
  return networks(call).update(network.uuid, change);
}

std::optional<std::string> optional_text(const std::string& text) {
  if (text.empty()) return std::nullopt;
  return text;
}

LeaseReply lease_reply(const Lease& lease, const NetworkDefinition& network) {
  LeaseReply reply{network.bridge,
                   lease.expires,
                   lease.v6,
                   optional_text(lease.mac),
                   optional_text(lease.iaid),
                   lease.ip,
                   0,
                   optional_text(lease.hostname),
                   optional_text(lease.client_id)};
  auto address = parse_ip(lease.ip);
  for (const IpSubnet& subnet : network.subnets)
    if (address && contains(subnet.address, subnet.prefix, *address)) reply.prefix = subnet.prefix;
  return reply;
}

Status get_dhcp_leases(Call& call) {
  NetworkRef network;
  std::optional<std::string> mac;
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(network, mac, wanted, flags));
  TRY(check_flags(flags, 0, "virNetworkGetDHCPLeases"));
  std::string xml = TRY(networks(call).xml(network.uuid, false));
  NetworkDefinition definition = TRY(parse_network(xml));
  std::vector<LeaseReply> replies;
  for (const Lease& lease : TRY(networks(call).leases(network.uuid, mac.value_or(""))))
    replies.push_back(lease_reply(lease, definition));
  call.write_list(replies, wanted);
  return {};
}

Status list_ports(Call& call) {
  NetworkRef network;
  bool wanted = false;
  u32 flags = 0;
  TRY(call.read(network, wanted, flags));
  TRY(check_flags(flags, 0, "virNetworkListAllPorts"));
  NetworkRef full = TRY(networks(call).find(network.uuid));
  std::vector<NetworkPortRef> list;
  for (const NetworkPort& port : TRY(networks(call).ports(network.uuid))) list.push_back({full, port.uuid});
  call.write_list(list, wanted);
  return {};
}

Status lookup_port(Call& call) {
  NetworkRef network;
  Uuid uuid{};
  TRY(call.read(network, uuid));
  NetworkPort port = TRY(networks(call).port(network, uuid));
  NetworkRef full = TRY(networks(call).find(network.uuid));
  call.write(NetworkPortRef{full, port.uuid});
  return {};
}

Status create_port(Call& call) {
  NetworkRef network;
  std::string xml;
  u32 flags = 0;
  TRY(call.read(network, xml, flags));
  TRY(check_flags(flags, kPortValidate, "virNetworkPortCreateXML"));
  NetworkRef full = TRY(networks(call).find(network.uuid));
  NetworkPort port = TRY(networks(call).create_port(network.uuid, xml));
  call.write(NetworkPortRef{full, port.uuid});
  return {};
}

Status delete_port(Call& call) {
  NetworkPortRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 0, "virNetworkPortDelete"));
  return networks(call).delete_port(ref.network, ref.uuid);
}

Status get_port_xml(Call& call) {
  NetworkPortRef ref;
  u32 flags = 0;
  TRY(call.read(ref, flags));
  TRY(check_flags(flags, 0, "virNetworkPortGetXMLDesc"));
  call.write(TRY(networks(call).port_xml(ref.network, ref.uuid)));
  return {};
}

constexpr Procedure kProcedures[] = {
    {Proc::CONNECT_LIST_ALL_NETWORKS, Access::Read, list_all, Where::Quick},
    {Proc::CONNECT_NUM_OF_NETWORKS, Access::Read, number_of<kActive>, Where::Quick},
    {Proc::CONNECT_LIST_NETWORKS, Access::Read, list_names<kActive>, Where::Quick},
    {Proc::CONNECT_NUM_OF_DEFINED_NETWORKS, Access::Read, number_of<kInactive>, Where::Quick},
    {Proc::CONNECT_LIST_DEFINED_NETWORKS, Access::Read, list_names<kInactive>, Where::Quick},
    {Proc::NETWORK_LOOKUP_BY_NAME, Access::Read, lookup_by_name, Where::Quick},
    {Proc::NETWORK_LOOKUP_BY_UUID, Access::Read, lookup_by_uuid, Where::Quick},
    {Proc::NETWORK_CREATE_XML, Access::Write, create_xml},
    {Proc::NETWORK_CREATE_XML_FLAGS, Access::Write, create_xml_flags},
    {Proc::NETWORK_DEFINE_XML, Access::Write, define_xml},
    {Proc::NETWORK_DEFINE_XML_FLAGS, Access::Write, define_xml_flags},
    {Proc::NETWORK_UNDEFINE, Access::Write, act<&Networks::undefine>},
    {Proc::NETWORK_CREATE, Access::Write, act<&Networks::start>},
    {Proc::NETWORK_DESTROY, Access::Write, act<&Networks::destroy>},
    {Proc::NETWORK_GET_XML_DESC, Access::Read, get_xml, Where::Quick},
    {Proc::NETWORK_GET_BRIDGE_NAME, Access::Read, get_bridge_name, Where::Quick},
    {Proc::NETWORK_GET_AUTOSTART, Access::Read, get_state<&Networks::State::autostart>, Where::Quick},
    {Proc::NETWORK_SET_AUTOSTART, Access::Write, set_autostart},
    {Proc::NETWORK_IS_ACTIVE, Access::Read, get_state<&Networks::State::active>, Where::Quick},
    {Proc::NETWORK_IS_PERSISTENT, Access::Read, get_state<&Networks::State::persistent>, Where::Quick},
    {Proc::NETWORK_UPDATE, Access::Write, update},
    {Proc::NETWORK_GET_DHCP_LEASES, Access::Read, get_dhcp_leases, Where::Quick},
    {Proc::NETWORK_LIST_ALL_PORTS, Access::Read, list_ports, Where::Quick},
    {Proc::NETWORK_PORT_LOOKUP_BY_UUID, Access::Read, lookup_port, Where::Quick},
    {Proc::NETWORK_PORT_CREATE_XML, Access::Write, create_port},
    {Proc::NETWORK_PORT_DELETE, Access::Write, delete_port},
    {Proc::NETWORK_PORT_GET_XML_DESC, Access::Read, get_port_xml, Where::Quick},
};

}  // namespace

std::span<const Procedure> network_procedures() { return kProcedures; }

}  // namespace atl::manage
