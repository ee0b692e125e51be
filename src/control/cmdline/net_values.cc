// Network back ends: -netdev, netdev_add, and the back-end half of -nic and -net.
#include <unistd.h>

#include <array>

#include <fmt/format.h>

#include "base/strings.h"
#include "control/cmdline/net_wires.h"
#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

constexpr char kDefaultScript[] = "/etc/qemu-ifup";
constexpr char kDefaultDownScript[] = "/etc/qemu-ifdown";

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Result<u16> parse_port(std::string_view text) {
  auto port = parse_u64(text);
  if (!port || *port > 65535) return invalid(fmt::format("bad port '{}'", text));
  return static_cast<u16>(*port);
}

/// "[tcp]:address:port-cmd:command".
Result<net::GuestForward> guest_forward(const std::string& rule) {
  auto bad = [&](std::string_view why) { return invalid(fmt::format("Invalid guest forwarding rule '{}' ({})", rule, why)); };
  const size_t dash = rule.find('-');
  if (dash == std::string::npos) return bad("a '-' and what to connect with are missing");
  const auto place = split(std::string_view(rule).substr(0, dash), ':');
  if (place.size() != 3 || (place[0] != "tcp" && !place[0].empty())) return bad("tcp:address:port is expected");
  const auto port = parse_port(place[2]);
  if (!port || *port == 0) return bad("Bad port");
  const std::string target = rule.substr(dash + 1);
  if (!target.starts_with("cmd:") || target.size() == 4) return bad("only cmd:command can be connected with");
  return net::GuestForward{.guest_address = std::string(place[1]), .guest_port = *port, .command = target.substr(4)};
}

Result<net::UserOptions> user_from_values(KeyValues& values, const std::string& id) {
  net::UserOptions user;
  user.id = id;
  user.net = values.take("net").value_or(user.net);
  struct { const char* key; std::string net::UserOptions::*member; } constexpr kTexts[] = {
      {"host", &net::UserOptions::host}, {"dns", &net::UserOptions::dns}, {"dhcpstart", &net::UserOptions::dhcp_start},
      {"hostname", &net::UserOptions::hostname}, {"domainname", &net::UserOptions::domain},
      {"tftp", &net::UserOptions::tftp}, {"bootfile", &net::UserOptions::bootfile}};
  for (const auto& text : kTexts) user.*text.member = values.take(text.key).value_or("");
  user.restricted = TRY(values.take_bool("restrict", false));
  user.ipv4 = TRY(values.take_bool("ipv4", true));
  user.ipv6 = TRY(values.take_bool("ipv6", true));
  for (const auto& key : {"hostfwd", "hostfwd.0.str"})
    for (const auto& rule : values.take_all(key)) user.forwards.push_back(TRY(forward_from_text(rule)));
  // QMP's list form: hostfwd=[{"str": "..."}, ...].
  for (unsigned i = 1; values.has(fmt::format("hostfwd.{}.str", i)); ++i)
    user.forwards.push_back(TRY(forward_from_text(*values.take(fmt::format("hostfwd.{}.str", i)))));
  for (const auto& key : {"guestfwd", "guestfwd.0.str"})
    for (const auto& rule : values.take_all(key)) user.guest_forwards.push_back(TRY(guest_forward(rule)));
  return user;
}

std::string script_or_default(KeyValues& values, const char* key, const char* fallback) {
  auto script = values.take(key);
  if (script) return *script == "no" ? "" : *script;
  return ::access(fallback, X_OK) == 0 ? fallback : "";
}

Result<net::TapOptions> tap_from_values(KeyValues& values, const std::string& id) {
  net::TapOptions tap;
  tap.id = id;
  u64 fd = TRY(values.take_u64("fd", ~u64{0}));
  if (fd != ~u64{0}) {
    for (const char* key : {"ifname", "script", "downscript"})
      if (values.has(key)) return invalid(fmt::format("{}= is invalid with fd=", key));
    tap.fd = static_cast<int>(std::min<u64>(fd, 1 << 20));
  } else {
    tap.ifname = values.take("ifname").value_or("");
    tap.script = script_or_default(values, "script", kDefaultScript);
    tap.downscript = script_or_default(values, "downscript", kDefaultDownScript);
  }
  tap.vnet_header = TRY(values.take_bool("vnet_hdr", true));
  if (TRY(values.take_bool("vhost", false))) return invalid("vhost=on is not supported");
  if (TRY(values.take_u64("queues", 1)) != 1) return invalid("queues= supports 1 only");
  return tap;
}

Result<machine::VhostUserNetOptions> vhost_user_from_values(KeyValues& values) {
  machine::VhostUserNetOptions options{.chardev = TRY(values.take_required("chardev"))};
  values.take_bool("vhostforce", true).value_or(true);  // QEMU took it and had no choice either
  if (TRY(values.take_u64("queues", 1)) != 1) return invalid("queues= supports 1 only");
  return options;
}

Result<net::HubPortOptions> hub_port_from_values(KeyValues& values, const std::string& id) {
  net::HubPortOptions port{.id = id, .hub = 0, .netdev = values.take("netdev").value_or("")};
  const std::string number = TRY(values.take_required("hubid"));
  const auto hub = parse_u64(number);
  if (!hub || *hub > 0x7fffffff) return invalid(fmt::format("hubid={} is no number of a hub", number));
  port.hub = static_cast<u32>(*hub);
  return port;
}

/// "[tcp|udp]:[hostaddr]:hostport" of a rule.
Result<net::HostForward> host_part(std::string_view text, const std::string& rule) {
  auto bad = [&](std::string_view why) { return invalid(fmt::format("Invalid host forwarding rule '{}' ({})", rule, why)); };
  const auto host = split(text, ':');
  if (host.size() != 3) return bad("Bad host address");
  if (host[0] != "tcp" && host[0] != "udp" && !host[0].empty()) return bad("Bad protocol name");
  const auto port = parse_port(host[2]);
  if (!port) return bad("Bad host port");
  return net::HostForward{.udp = host[0] == "udp", .host_address = std::string(host[1]), .host_port = *port, .guest_address = "", .guest_port = 0};
}

}  // namespace

Result<net::HostForward> forwarded_port_from_text(const std::string& rule) { return host_part(rule, rule); }

Result<net::HostForward> forward_from_text(const std::string& rule) {
  auto bad = [&](std::string_view why) { return invalid(fmt::format("Invalid host forwarding rule '{}' ({})", rule, why)); };
  const size_t dash = rule.find('-');
  if (dash == std::string::npos) return bad("Bad host port separator");
  net::HostForward forward = TRY(host_part(std::string_view(rule).substr(0, dash), rule));
  const auto guest = split(std::string_view(rule).substr(dash + 1), ':');
  if (guest.size() != 2) return bad("Bad guest address");
  const auto port = parse_port(guest[1]);
  if (!port || *port == 0) return bad("Bad guest port");
  forward.guest_address = guest[0];
  forward.guest_port = *port;
  return forward;
}

Result<machine::NetConfig> net_from_values(KeyValues values) {
  machine::NetConfig config;
  std::string type = TRY(values.take_required("type"));
  config.id = TRY(values.take_required("id"));
  TRY(check_id(config.id));
  if (type == "user") config.options = TRY(user_from_values(values, config.id));
  else if (type == "tap") config.options = TRY(tap_from_values(values, config.id));
  else if (type == "vhost-user") config.options = TRY(vhost_user_from_values(values));
  else if (type == "hubport") config.options = TRY(hub_port_from_values(values, config.id));
  else if (type == "socket" || type == "stream" || type == "dgram") config.options = TRY(wire_from_values(type, values, config.id));
  else return invalid(fmt::format("Parameter 'type' does not accept value '{}'", type));
  TRY(values.expect_empty());
  return config;
}

}  // namespace atl::control
