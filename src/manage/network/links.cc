#include "manage/network/links.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>

#include "manage/xml/values.h"

namespace atl::manage {
namespace {

Error link_error(std::string_view action, std::string_view name, int err) {
  return {Code::SystemError, fmt::format("Unable to {} {}: {}", action, name, std::strerror(err)), Part::NetworkDriver};
}

/// One request: a header, the family's own header, attributes. Everything is padded to four bytes.
class Request {
 public:
  template <class Body>
  Request(u16 type, u16 flags, const Body& body) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<u16>(flags | NLM_F_REQUEST | NLM_F_ACK);
    append(&header, sizeof header);
    append(&body, sizeof body);
  }

  void add(u16 type, const void* data, size_t bytes) {
    rtattr attribute{static_cast<u16>(RTA_LENGTH(bytes)), type};
    append(&attribute, sizeof attribute);
    append(data, bytes);
  }
  void add(u16 type, std::string_view text) { add(type, std::string(text).c_str(), text.size() + 1); }
  template <class Number>
    requires std::is_integral_v<Number>
  void add_number(u16 type, Number value) {
    add(type, &value, sizeof value);
  }
  void add_ip(u16 type, const IpAddress& address) { add(type, address.bytes.data(), address.bits() / 8); }

  /// What is added until close() is inside.
  size_t open(u16 type) {
    size_t at = data_.size();
    rtattr attribute{0, type};
    append(&attribute, sizeof attribute);
    return at;
  }
  void close(size_t at) {
    u16 length = static_cast<u16>(data_.size() - at);
    std::memcpy(data_.data() + at, &length, sizeof length);
  }

  /// The kernel's answer: 0 or an errno.
  int send();

 private:
  void append(const void* bytes, size_t count) {
    data_.append(static_cast<const char*>(bytes), count);
    data_.resize(NLMSG_ALIGN(data_.size()));
  }

  std::string data_;
};

int Request::send() {
  u32 length = static_cast<u32>(data_.size());
  std::memcpy(data_.data(), &length, sizeof length);
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket || ::send(socket.get(), data_.data(), data_.size(), 0) < 0) return errno;
  alignas(nlmsghdr) char answer[8192];
  ssize_t count = ::recv(socket.get(), answer, sizeof answer, 0);
  if (count < 0) return errno;
  nlmsghdr header;
  nlmsgerr result;
  if (static_cast<size_t>(count) < sizeof header + sizeof result) return EPROTO;
  std::memcpy(&header, answer, sizeof header);
  if (header.nlmsg_type != NLMSG_ERROR) return EPROTO;
  std::memcpy(&result, answer + sizeof header, sizeof result);
  return -result.error;
}

Status finish(Request& request, std::string_view action, std::string_view name) {
  if (int err = request.send()) return link_error(action, name, err);
  return {};
}

ifinfomsg link_body(const std::string& name) {
  ifinfomsg body{};
  body.ifi_index = static_cast<int>(::if_nametoindex(name.c_str()));
  return body;
}

/// The body for a device that is there.
Result<ifinfomsg> existing(const std::string& name, std::string_view action) {
  ifinfomsg body = link_body(name);
  if (body.ifi_index == 0) return link_error(action, name, ENODEV);
  return body;
}

void add_mac(Request& request, const std::string& mac) {
  if (auto bytes = xml::parse_mac(mac)) request.add(IFLA_ADDRESS, bytes->data(), bytes->size());
}

Status change(const std::string& name, std::string_view action, auto fill) {
  Request request(RTM_NEWLINK, 0, TRY(existing(name, action)));
  fill(request);
  return finish(request, action, name);
}

}  // namespace

bool link_exists(const std::string& name) { return ::if_nametoindex(name.c_str()) != 0; }

namespace {

/// One of the ioctls of netdevice(7).
bool ask_device(const std::string& name, unsigned long what, ifreq& request) {
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return socket && ::ioctl(socket.get(), what, &request) == 0;
}

std::optional<u32> ethtool_number(const std::string& name, u32 command) {
  ethtool_value value{command, 0};
  ifreq request{};
  request.ifr_data = reinterpret_cast<char*>(&value);
  if (!ask_device(name, SIOCETHTOOL, request)) return std::nullopt;
  return value.data;
}

}  // namespace

std::string link_driver(const std::string& name) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  ifreq request{};
  request.ifr_data = reinterpret_cast<char*>(&info);
  return ask_device(name, SIOCETHTOOL, request) ? info.driver : std::string();
}

std::vector<std::string_view> link_features(const std::string& name) {
  constexpr std::pair<std::string_view, u32> kCommands[] = {
      {"rx", ETHTOOL_GRXCSUM}, {"tx", ETHTOOL_GTXCSUM}, {"sg", ETHTOOL_GSG},  {"tso", ETHTOOL_GTSO},
      {"ufo", ETHTOOL_GUFO},   {"gso", ETHTOOL_GGSO},   {"gro", ETHTOOL_GGRO}};
  constexpr std::pair<std::string_view, u32> kFlags[] = {{"lro", ETH_FLAG_LRO},
                                                         {"rxvlan", ETH_FLAG_RXVLAN},
                                                         {"txvlan", ETH_FLAG_TXVLAN},
                                                         {"ntuple", ETH_FLAG_NTUPLE},
                                                         {"rxhash", ETH_FLAG_RXHASH}};
  std::vector<std::string_view> features;
  for (const auto& [feature, command] : kCommands)
    if (ethtool_number(name, command).value_or(0)) features.push_back(feature);
  const u32 flags = ethtool_number(name, ETHTOOL_GFLAGS).value_or(0);
  for (const auto& [feature, flag] : kFlags)
    if (flags & flag) features.push_back(feature);
  return features;
}

LinkFacts link_facts(const std::string& name) {
  LinkFacts facts;
  ifreq mtu{}, flags{};
  if (ask_device(name, SIOCGIFMTU, mtu)) facts.mtu = static_cast<u64>(mtu.ifr_mtu);
  if (ask_device(name, SIOCGIFFLAGS, flags) && !(flags.ifr_flags & IFF_LOOPBACK))
    facts.state = flags.ifr_flags & IFF_RUNNING ? "up" : "down";
  return facts;
}

bool is_bridge(const std::string& name) { return link_driver(name) == "bridge"; }

Status create_bridge(const BridgeSettings& settings) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  request.add(IFLA_IFNAME, settings.name);
  add_mac(request, settings.mac);
  if (settings.mtu) request.add_number(IFLA_MTU, static_cast<u32>(settings.mtu));
  size_t info = request.open(IFLA_LINKINFO);
  request.add(IFLA_INFO_KIND, "bridge");
  size_t data = request.open(IFLA_INFO_DATA);
  request.add_number(IFLA_BR_FORWARD_DELAY,
                     static_cast<u32>(settings.delay_seconds * 100));  // before STP: then 0 is refused
  request.add_number(IFLA_BR_STP_STATE, u32{settings.stp});
  request.close(data);
  request.close(info);
  return finish(request, "create bridge", settings.name);
}

Status delete_link(const std::string& name) {
  ifinfomsg body = link_body(name);
  if (body.ifi_index == 0) return {};
  Request request(RTM_DELLINK, 0, body);
  int err = request.send();
  if (err && err != ENODEV) return link_error("delete device", name, err);
  return {};
}

Status set_link_up(const std::string& name, bool up) {
  std::string_view action = up ? "set up" : "set down";
  ifinfomsg body = TRY(existing(name, action));
  body.ifi_change = IFF_UP;
  body.ifi_flags = up ? IFF_UP : 0;
  Request request(RTM_NEWLINK, 0, body);
  return finish(request, action, name);
}

Status set_link_mtu(const std::string& name, u64 mtu) {
  return change(name, "set the MTU of", [&](Request& request) { request.add_number(IFLA_MTU, static_cast<u32>(mtu)); });
}

Status set_link_mac(const std::string& name, const std::string& mac) {
  return change(name, "set the MAC address of", [&](Request& request) { add_mac(request, mac); });
}

Status set_link_master(const std::string& name, const std::string& bridge) {
  u32 master = bridge.empty() ? 0 : ::if_nametoindex(bridge.c_str());
  if (!bridge.empty() && master == 0) return link_error("find bridge", bridge, ENODEV);
  return change(name, "change the bridge of", [&](Request& request) { request.add_number(IFLA_MASTER, master); });
}

Status isolate_bridge_port(const std::string& name) {
  ifinfomsg body = TRY(existing(name, "isolate"));
  body.ifi_family = AF_BRIDGE;
  Request request(RTM_SETLINK, 0, body);
  size_t info = request.open(IFLA_PROTINFO | NLA_F_NESTED);
  request.add_number(IFLA_BRPORT_ISOLATED, u8{1});
  request.close(info);
  return finish(request, "isolate", name);
}

Status add_address(const std::string& name, const IpAddress& address, unsigned prefix) {
  ifaddrmsg body{};
  body.ifa_family = address.v6 ? AF_INET6 : AF_INET;
  body.ifa_prefixlen = static_cast<u8>(prefix);
  body.ifa_index = ::if_nametoindex(name.c_str());
  // A bridge without ports never finishes looking for duplicates, and until then nobody may listen on the address.
  if (address.v6) body.ifa_flags = IFA_F_NODAD;
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body);
  request.add_ip(IFA_LOCAL, address);
  request.add_ip(IFA_ADDRESS, address);
  if (!address.v6 && prefix < 31) request.add_ip(IFA_BROADCAST, last_of(address, prefix));
  return finish(request, fmt::format("add address {}/{} to", ip_text(address), prefix), name);
}

Status add_route(const std::string& name, const IpAddress& destination, unsigned prefix, const IpAddress& gateway,
                 u32 metric) {
  rtmsg body{};
  body.rtm_family = destination.v6 ? AF_INET6 : AF_INET;
  body.rtm_dst_len = static_cast<u8>(prefix);
  body.rtm_table = RT_TABLE_MAIN;
  body.rtm_protocol = RTPROT_STATIC;
  body.rtm_scope = RT_SCOPE_UNIVERSE;
  body.rtm_type = RTN_UNICAST;
  Request request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body);
  request.add_ip(RTA_DST, destination);
  request.add_ip(RTA_GATEWAY, gateway);
  request.add_number(RTA_OIF, ::if_nametoindex(name.c_str()));
  request.add_number(RTA_PRIORITY, metric);
  return finish(request, fmt::format("add a route to {}/{} through", ip_text(destination), prefix), name);
}

Result<Tap> open_tap(const std::string& name) {
  Fd fd = TRY(open_file("/dev/net/tun", O_RDWR | O_NONBLOCK));
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) return link_error("create tap device", name, errno);
  return Tap{std::move(fd), request.ifr_name};
}

Result<Tap> open_macvtap(const std::string& lower, const std::string& mac, MacvtapMode mode) {
  constexpr u32 kModes[] = {MACVLAN_MODE_PRIVATE, MACVLAN_MODE_VEPA, MACVLAN_MODE_BRIDGE, MACVLAN_MODE_PASSTHRU};
  u32 lower_index = ::if_nametoindex(lower.c_str());
  if (lower_index == 0) return link_error("find device", lower, ENODEV);
  std::string name;
  for (int number = 0, err = EEXIST; err == EEXIST; ++number) {
    name = fmt::format("macvtap{}", number);
    Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
    request.add(IFLA_IFNAME, name);
    request.add_number(IFLA_LINK, lower_index);
    add_mac(request, mac);
    size_t info = request.open(IFLA_LINKINFO);
    request.add(IFLA_INFO_KIND, "macvtap");
    size_t data = request.open(IFLA_INFO_DATA);
    request.add_number(IFLA_MACVLAN_MODE, kModes[static_cast<size_t>(mode)]);
    request.close(data);
    request.close(info);
    err = request.send();
    if (err && err != EEXIST) return link_error("create a macvtap device on", lower, err);
  }
  if (Status up = set_link_up(name, true); !up) {
    (void)delete_link(name);
    return up.error();
  }
  auto fd = open_file(fmt::format("/dev/tap{}", ::if_nametoindex(name.c_str())), O_RDWR | O_NONBLOCK);
  if (!fd) {
    (void)delete_link(name);
    return Error(std::move(fd).error());
  }
  return Tap{*std::move(fd), name};
}

}  // namespace atl::manage
