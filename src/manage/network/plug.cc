#include "manage/network/plug.h"

#include <fmt/format.h>

#include "base/log.h"
#include "manage/network/bandwidth.h"

namespace atl::manage {

Result<Plug> plug_bridge(const std::string& bridge, const PlugRequest& request) {
  if (!is_bridge(bridge))
    return Error(Code::OperationFailed, fmt::format("Cannot get interface MTU on '{}': No such device", bridge),
                 Part::NetworkDriver);
  Plug plug{TRY(open_tap(request.tap_name.empty() ? "vnet%d" : request.tap_name)), bridge, {}, request.mtu, false};
  const std::string& tap = plug.tap.name;
  // A bridge without an address of its own takes the lowest of its ports': the host's end must not be that.
  if (request.mac.size() > 2) TRY(set_link_mac(tap, "fe" + request.mac.substr(2)));
  if (request.mtu) TRY(set_link_mtu(tap, request.mtu));
  TRY(set_link_master(tap, bridge));
  if (request.isolated.value_or(false)) TRY(isolate_bridge_port(tap));
  TRY(set_link_up(tap, true));
  if (request.bandwidth.is_set()) TRY(apply_bandwidth(tap, request.bandwidth.inbound, request.bandwidth.outbound));
  return plug;
}

Result<Plug> plug_direct(const std::string& device, MacvtapMode mode, const std::string& mac) {
  return Plug{TRY(open_macvtap(device, mac, mode)), "", {}, 0, true};
}

void unplug_direct(const std::string& name) {
  if (Status deleted = delete_link(name); !deleted) log_warning("{}", deleted.error().message());
}

}  // namespace atl::manage
