#include "control/cmdline/net_wires.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"

namespace atl::control {
namespace {

using net::SocketOptions;
using Address = SocketOptions::Address;
using Kind = SocketOptions::Kind;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Result<int> descriptor(const std::string& text) {
  const auto fd = parse_u64(text);
  if (!fd || *fd > 1 << 20) return invalid(fmt::format("'{}' is no descriptor's number", text));
  return static_cast<int>(*fd);
}

/// "[host]:port", with an IPv6 host in brackets.
Result<Address> host_and_port(const std::string& text) {
  const size_t colon = text.rfind(':');
  const auto port = colon == text.npos ? std::nullopt : parse_u64(std::string_view(text).substr(colon + 1));
  if (!port || *port > 65535) return invalid(fmt::format("'{}' is not host:port", text));
  std::string host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return Address{.host = host, .port = text.substr(colon + 1), .path = ""};
}

/// -netdev socket: one of listen, connect, mcast, udp and fd.
Result<SocketOptions> old_style(KeyValues& values, SocketOptions wire) {
  constexpr const char* kWays[] = {"fd", "listen", "connect", "mcast", "udp"};
  if (std::ranges::count_if(kWays, [&](const char* way) { return values.has(way); }) != 1)
    return invalid("exactly one of listen=, connect=, mcast=, udp=, or fd= is required");
  const std::string local = values.take("localaddr").value_or("");
  if (!local.empty() && !values.has("mcast") && !values.has("udp")) return invalid("localaddr= is only valid with mcast= or udp=");
  if (auto text = values.take("fd")) {
    wire.kind = Kind::Adopted;
    wire.fd = TRY(descriptor(*text));
  } else if (auto place = values.take("listen")) {
    wire.kind = Kind::Listen;
    wire.local = TRY(host_and_port(*place));
  } else if (auto peer = values.take("connect")) {
    wire.remote = TRY(host_and_port(*peer));
  } else if (auto group = values.take("mcast")) {
    wire.kind = Kind::Multicast;
    wire.remote = TRY(host_and_port(*group));
    wire.local.host = local;
  } else if (auto to = values.take("udp")) {
    wire.kind = Kind::Datagram;
    wire.remote = TRY(host_and_port(*to));
    if (local.empty()) return invalid("localaddr= is mandatory with udp=");
    wire.local = TRY(host_and_port(local));
  }
  return wire;
}

/// addr.type=inet|unix|fd and what belongs to it, behind `prefix`. Sets `fd` for a descriptor.
Result<Address> typed_address(KeyValues& values, const std::string& prefix, int& fd) {
  Address address;
  const std::string type = TRY(values.take_required(prefix + ".type"));
  if (type == "inet") {
    address.host = values.take(prefix + ".host").value_or("");
    address.port = TRY(values.take_required(prefix + ".port"));
    const auto port = parse_u64(address.port);
    if (!port || *port > 65535) return invalid(fmt::format("{}.port={} is no port", prefix, address.port));
  } else if (type == "unix") {
    address.path = TRY(values.take_required(prefix + ".path"));
  } else if (type == "fd") {
    const std::string number = TRY(values.take_required(prefix + ".str"));
    fd = TRY(descriptor(number));
  } else {
    return invalid(fmt::format("Parameter '{}.type' does not accept value '{}'", prefix, type));
  }
  return address;
}

Result<SocketOptions> stream(KeyValues& values, SocketOptions wire) {
  const bool server = TRY(values.take_bool("server", false));
  const Address address = TRY(typed_address(values, "addr", wire.fd));
  wire.reconnect_s = TRY(values.take_u64("reconnect", 0, 1 << 20));
  if (server && wire.reconnect_s) return invalid("'reconnect' option is incompatible with socket in server mode");
  wire.kind = wire.fd >= 0 ? Kind::Adopted : server ? Kind::Listen : Kind::Connect;
  (server ? wire.local : wire.remote) = address;
  return wire;
}

bool is_multicast(const Address& a) {
  const auto first = parse_u64(std::string_view(a.host).substr(0, a.host.find('.')));
  return a.host.find('.') != std::string::npos && first && *first >= 224 && *first < 240;
}

Result<SocketOptions> datagrams(KeyValues& values, SocketOptions wire) {
  int none = -1;
  wire.kind = Kind::Datagram;
  if (values.has("remote.type")) wire.remote = TRY(typed_address(values, "remote", none));
  if (none >= 0) return invalid("'remote' does not accept a descriptor");
  if (values.has("local.type")) wire.local = TRY(typed_address(values, "local", wire.fd));
  if (wire.fd >= 0) wire.kind = Kind::Adopted;
  else if (is_multicast(wire.remote)) wire.kind = Kind::Multicast;
  else if (wire.local.empty()) return invalid("dgram requires local= or a multicast remote=");
  if (wire.kind == Kind::Datagram && wire.remote.empty()) return invalid("dgram requires remote=");
  return wire;
}

}  // namespace

Result<net::SocketOptions> wire_from_values(const std::string& type, KeyValues& values, const std::string& id) {
  SocketOptions wire;
  wire.id = id;
  if (type == "stream") return stream(values, std::move(wire));
  if (type == "dgram") return datagrams(values, std::move(wire));
  return old_style(values, std::move(wire));
}

}  // namespace atl::control
