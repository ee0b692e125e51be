// Procedures on networks and their ports.
#include "manage/daemon.h"
#include "manage/network/networks.h"
#include "manage/rpc/call.h"
#include "manage/rpc/managed_objects.h"
#include "manage/rpc/procedure.h"

namespace atl::manage {
namespace {

enum UpdateFlags : u32 { kUpdateLive = 1, kUpdateConfig = 2 };
constexpr u32 kDefineValidate = 1;
constexpr u32 kPortValidate = 2;

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

struct NetworkKind {
  using Manager = Networks;
  using Ref = NetworkRef;
  static constexpr u32 kTypeFlags = 0;
  static constexpr i32 kMostNames = 16384;
  static constexpr std::string_view kListLimit = "NETWORK", kListAllFunction = "virConnectListAllNetworks",
                                    kXmlFunction = "virNetworkGetXMLDesc", kActFunction = "virNetwork";
  static Networks& manager(Call& call) { return networks(call); }
  static u32 type_flag(const Networks::State&) { return 0; }
};
using Objects = Managed<NetworkKind>;

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

Status get_bridge_name(Call& call) {
  NetworkRef network;
  TRY(call.read(network));
  call.write(TRY(networks(call).bridge_name(network.uuid)));
  return {};
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
    {Proc::CONNECT_LIST_ALL_NETWORKS, Access::Read, Objects::list_all, Where::Quick},
    {Proc::CONNECT_NUM_OF_NETWORKS, Access::Read, Objects::number_of<kListActive>, Where::Quick},
    {Proc::CONNECT_LIST_NETWORKS, Access::Read, Objects::list_names<kListActive>, Where::Quick},
    {Proc::CONNECT_NUM_OF_DEFINED_NETWORKS, Access::Read, Objects::number_of<kListInactive>, Where::Quick},
    {Proc::CONNECT_LIST_DEFINED_NETWORKS, Access::Read, Objects::list_names<kListInactive>, Where::Quick},
    {Proc::NETWORK_LOOKUP_BY_NAME, Access::Read, Objects::lookup_by_name, Where::Quick},
    {Proc::NETWORK_LOOKUP_BY_UUID, Access::Read, Objects::lookup_by_uuid, Where::Quick},
    {Proc::NETWORK_CREATE_XML, Access::Write, create_xml},
    {Proc::NETWORK_CREATE_XML_FLAGS, Access::Write, create_xml_flags},
    {Proc::NETWORK_DEFINE_XML, Access::Write, define_xml},
    {Proc::NETWORK_DEFINE_XML_FLAGS, Access::Write, define_xml_flags},
    {Proc::NETWORK_UNDEFINE, Access::Write, Objects::act<&Networks::undefine>},
    {Proc::NETWORK_CREATE, Access::Write, Objects::act<&Networks::start>},
    {Proc::NETWORK_DESTROY, Access::Write, Objects::act<&Networks::destroy>},
    {Proc::NETWORK_GET_XML_DESC, Access::Read, Objects::get_xml, Where::Quick},
    {Proc::NETWORK_GET_BRIDGE_NAME, Access::Read, get_bridge_name, Where::Quick},
    {Proc::NETWORK_GET_AUTOSTART, Access::Read, Objects::get_state<&Networks::State::autostart>, Where::Quick},
    {Proc::NETWORK_SET_AUTOSTART, Access::Write, Objects::set_autostart},
    {Proc::NETWORK_IS_ACTIVE, Access::Read, Objects::get_state<&Networks::State::active>, Where::Quick},
    {Proc::NETWORK_IS_PERSISTENT, Access::Read, Objects::get_state<&Networks::State::persistent>, Where::Quick},
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
