#include "manage/domain/vnc_port.h"

#include <set>

#include "base/sockets.h"

namespace atl::manage {
namespace {

constexpr u64 kFirstPort = 5900, kLastPort = 6900;

/// The VM binds it for itself later; until then another program may take it, which the VM then reports.
bool is_free(const std::string& host, u64 port) { return listen_tcp(host, std::to_string(port)).has_value(); }

}  // namespace

Status choose_vnc_ports(Element& domain) {
  std::set<u64> chosen;
  for (Element* graphics : each(devices_of(domain), "graphics")) {
    if (graphics->attribute("port") != "-1") continue;
    const std::string address = at(*graphics, "listen", "address");
    const std::string host = address.empty() ? "127.0.0.1" : address;
    if (!address.empty() || graphics->child("listen")) graphics->set("listen", host);
    if (Element* listen = graphics->child("listen"); listen && listen->attribute("type") == "address") listen->set("address", host);
    u64 port = kFirstPort;
    while (port <= kLastPort && (chosen.contains(port) || !is_free(host, port))) ++port;
    if (port > kLastPort) return operation_failed("Unable to find an unused port in range 'vnc' (5900-6900)");
    chosen.insert(port);
    graphics->set("port", port);
  }
  return {};
}

}  // namespace atl::manage
