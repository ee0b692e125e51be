// Commands on networks.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "client/text_table.h"
#include "client/verb.h"
#include "manage/uuid.h"

namespace atl::client {

namespace {

using manage::NetworkRef;

constexpr u32 kListInactive = 1, kListActive = 2;

Result<std::string> list(Context& context, const Arguments& a) {
  u32 filter = a.has("all") ? kListActive | kListInactive : a.has("inactive") ? kListInactive : kListActive;
  auto networks = TRY(context.get<std::vector<NetworkRef>>(Proc::CONNECT_LIST_ALL_NETWORKS, i32{1}, filter));
  std::ranges::sort(networks, {}, &NetworkRef::name);
  TextTable table({"Name", "State", "Autostart", "Persistent"});
  std::string names;
  for (const NetworkRef& network : networks) {
    names += network.name + "\n";
    bool active = TRY(context.get<i32>(Proc::NETWORK_IS_ACTIVE, network));
    auto autostart = context.get<i32>(Proc::NETWORK_GET_AUTOSTART, network);
    bool persistent = TRY(context.get<i32>(Proc::NETWORK_IS_PERSISTENT, network));
    table.add({network.name, active ? "active" : "inactive", !autostart ? "no autostart" : yes_no(*autostart),
               yes_no(persistent)});
  }
  return a.has("name") ? names : table.text(!context.is_quiet());
}

Result<std::string> info(Context& context, const Arguments& a) {
  NetworkRef network = TRY(context.network(a["network"]));
  std::string out;
  auto row = [&](std::string_view name, std::string_view value) { out += fmt::format("{:<15} {}\n", name, value); };
  row("Name:", network.name);
  row("UUID:", manage::format_uuid(network.uuid));
  row("Active:", yes_no(TRY(context.get<i32>(Proc::NETWORK_IS_ACTIVE, network))));
  row("Persistent:", yes_no(TRY(context.get<i32>(Proc::NETWORK_IS_PERSISTENT, network))));
  row("Autostart:", yes_no(TRY(context.get<i32>(Proc::NETWORK_GET_AUTOSTART, network))));
  if (auto bridge = context.get<std::string>(Proc::NETWORK_GET_BRIDGE_NAME, network)) row("Bridge:", *bridge);
  return out;
}

Result<std::string> dumpxml(Context& context, const Arguments& a) {
  NetworkRef network = TRY(context.network(a["network"]));
  return context.get<std::string>(Proc::NETWORK_GET_XML_DESC, network, u32{a.has("inactive")});
}

template <Proc procedure>
Result<std::string> plain(Context& context, const Arguments& a, std::string_view sentence) {
  NetworkRef network = TRY(context.network(a["network"]));
  TRY(context.call(procedure, network));
  return fmt::format(fmt::runtime(sentence), a["network"]);
}
Result<std::string> start(Context& c, const Arguments& a) {
  return plain<Proc::NETWORK_CREATE>(c, a, "Network {} started\n");
}
Result<std::string> destroy(Context& c, const Arguments& a) {
  return plain<Proc::NETWORK_DESTROY>(c, a, "Network {} destroyed\n");
}
Result<std::string> undefine(Context& c, const Arguments& a) {
  return plain<Proc::NETWORK_UNDEFINE>(c, a, "Network {} has been undefined\n");
}

template <Proc procedure>
Result<std::string> from_file(Context& context, const Arguments& a, std::string_view done) {
  std::string text = TRY(read_document(a["file"]));
  auto network = TRY(context.get<NetworkRef>(procedure, text));
  return fmt::format("Network {} {} from {}\n", network.name, done, a["file"]);
}
Result<std::string> define(Context& c, const Arguments& a) {
  return from_file<Proc::NETWORK_DEFINE_XML>(c, a, "defined");
}
Result<std::string> create(Context& c, const Arguments& a) {
  return from_file<Proc::NETWORK_CREATE_XML>(c, a, "created");
}

Result<std::string> autostart(Context& context, const Arguments& a) {
  NetworkRef network = TRY(context.network(a["network"]));
  TRY(context.call(Proc::NETWORK_SET_AUTOSTART, network, i32{!a.has("disable")}));
  return fmt::format("Network {} {} as autostarted\n", a["network"], a.has("disable") ? "unmarked" : "marked");
}

struct Lease {
  std::string interface;
  i64 expires = 0;
  i32 type = 0;
  std::optional<std::string> mac, iaid;
  std::string address;
  u32 prefix = 0;
  std::optional<std::string> hostname, client_id;
  static constexpr auto kFields =
      std::tuple{&Lease::interface, &Lease::expires, &Lease::type,     &Lease::mac,      &Lease::iaid,
                 &Lease::address,   &Lease::prefix,  &Lease::hostname, &Lease::client_id};
};

std::string time_text(i64 seconds) {
  time_t when = seconds;
  tm fields{};
  ::localtime_r(&when, &fields);
  char text[40];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &fields)};
}

Result<std::string> dhcp_leases(Context& context, const Arguments& a) {
  NetworkRef network = TRY(context.network(a["network"]));
  std::optional<std::string> mac;
  if (a.has("mac")) mac = a["mac"];
  auto leases = TRY(context.get<std::vector<Lease>>(Proc::NETWORK_GET_DHCP_LEASES, network, mac, i32{1}, u32{0}));
  TextTable table({"Expiry Time", "MAC address", "Protocol", "IP address", "Hostname", "Client ID or DUID"});
  for (const Lease& lease : leases)
    table.add({time_text(lease.expires), lease.mac.value_or("-"), lease.type == 1 ? "ipv6" : "ipv4",
               fmt::format("{}/{}", lease.address, lease.prefix), lease.hostname.value_or("-"),
               lease.client_id.value_or("-")});
  return table.text(!context.is_quiet());
}

constexpr Verb kVerbs[] = {
    {"net-autostart", "network --disable", "autostart a network", autostart},
    {"net-create", "file", "create a network from an XML file", create},
    {"net-define", "file", "define an inactive persistent virtual network from an XML file", define},
    {"net-destroy", "network", "destroy (stop) a network", destroy},
    {"net-dhcp-leases", "network --mac=", "print lease info for a given network", dhcp_leases},
    {"net-dumpxml", "network --inactive", "network information in XML", dumpxml},
    {"net-info", "network", "network information", info},
    {"net-list", "--all --inactive --name", "list networks", list},
    {"net-start", "network", "start a (previously defined) inactive network", start},
    {"net-undefine", "network", "undefine a persistent network", undefine},
};

}  // namespace

std::span<const Verb> network_verbs() { return kVerbs; }

}  // namespace atl::client
