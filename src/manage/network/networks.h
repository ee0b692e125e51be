// All virtual networks of the host: what is defined, what runs, and the ports that guests have on them.
//
// A network has a stored definition (config folder), a live one (run folder) while it is active, or both. The live file
// is written before the host is changed and removed after it is changed back, so that a daemon that was killed in
// between finds what to undo. Bridges, rules and dnsmasq outlive the daemon.
//
// Any thread. One lock over the tables; another, `working_`, over changes of the host, so that lookups never wait for
// tools.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "manage/config.h"
#include "manage/events.h"
#include "manage/network/definition.h"
#include "manage/network/dnsmasq.h"
#include "manage/network/links.h"
#include "manage/rpc/objects.h"
#include "manage/store/state_folder.h"

namespace atl::manage {

/// What a guest's network card asks for.
struct PlugRequest {
  std::string network;    // its name
  std::string portgroup;  // "": the default one, if there is one
  std::string mac;
  std::string domain;  // name and uuid of the guest, for the port's description
  Uuid domain_uuid{};
  std::string tap_name;          // "": vnetN
  Bandwidth bandwidth;           // of the card; unset: the port group's
  std::optional<bool> isolated;  // unset: as the network says
  u64 mtu = 0;                   // 0: the network's
};

/// A card that is plugged in.
struct Plug {
  Tap tap;
  std::string bridge;  // "" with macvtap
  Uuid port{};         // all zero if it is on no network
  u64 mtu = 0;
  bool is_macvtap = false;
};

struct NetworkPort {
  Uuid uuid{};
  std::string owner;
  Uuid owner_uuid{};
  std::string mac, tap, portgroup;
  bool isolated = false;
  bool is_macvtap = false;
  std::string lower;  // of macvtap
  bool operator==(const NetworkPort&) const = default;
};

class Networks {
 public:
  static Result<std::unique_ptr<Networks>> create(const Config& config, Events& events);

  struct State {
    NetworkRef ref;
    bool active = false, persistent = false, autostart = false;
  };
  std::vector<State> list() const;
  Result<NetworkRef> find(const std::string& name) const;
  Result<NetworkRef> find(const Uuid& uuid) const;
  Result<State> state(const Uuid& uuid) const;

  Result<NetworkRef> define(std::string_view xml);
  /// Transient, and started.
  Result<NetworkRef> create_transient(std::string_view xml);
  Status undefine(const Uuid& uuid);
  Status start(const Uuid& uuid);
  Status destroy(const Uuid& uuid);
  Status set_autostart(const Uuid& uuid, bool on);
  Result<std::string> xml(const Uuid& uuid, bool inactive) const;
  Result<std::string> bridge_name(const Uuid& uuid) const;
  struct Update {
    u32 command = 0, section = 0;
    i32 parent_index = -1;
    std::string xml;
    bool live = false, config = false;  // neither: whatever the network is
  };
  Status update(const Uuid& uuid, const Update& update);
  /// Leases that have not expired; `mac` "" for all.
  Result<std::vector<Lease>> leases(const Uuid& uuid, const std::string& mac) const;
  Result<std::vector<NetworkPort>> ports(const Uuid& uuid) const;
  static std::string port_xml(const NetworkPort& port);
  /// Starts what is marked so and is not active. Failures are logged.
  void start_marked();

  /// A tap (or macvtap) device for a guest's card on an active network. The tap goes with its last descriptor.
  Result<Plug> plug(const PlugRequest& request);
  /// Removes the port, and a macvtap device. Fine if it is gone.
  void unplug(const std::string& network, const std::string& tap_name);
  /// Says after a restart of the daemon which taps exist still: the other ports go.
  void keep_ports(const std::function<bool(const std::string& tap_name)>& alive);

 private:
  struct Network {
    std::optional<NetworkDefinition> stored, live;
    bool autostart = false;
    std::vector<NetworkPort> ports;
    const NetworkDefinition& any() const { return live ? *live : *stored; }
    NetworkRef ref() const { return {any().name, any().uuid}; }
  };

  Networks(Events& events, StateFolder config, StateFolder run, std::string state_path);
  Status load() EXCLUDES(mutex_);
  Status load_live(const std::string& name) REQUIRES(mutex_);
  Network* by_uuid(const Uuid& uuid) REQUIRES(mutex_);
  Network* by_name(std::string_view name) REQUIRES(mutex_);
  Result<Network*> require(const Uuid& uuid) REQUIRES(mutex_);
  /// Same name means same uuid, and the other way round; a bridge has one network.
  Status check_new(NetworkDefinition& network, bool may_be_active) REQUIRES(mutex_);
  Status choose_bridge(NetworkDefinition& network) REQUIRES(mutex_);
  Status bring_up(const NetworkDefinition& network);
  void take_down(const NetworkDefinition& network);
  Status begin(const Uuid& uuid) REQUIRES(working_) EXCLUDES(mutex_);
  Status save_live(const Network& network, bool is_complete) const REQUIRES(mutex_);
  Status apply_live_change(const NetworkDefinition& before, const NetworkDefinition& after);
  Dnsmasq dnsmasq_of(const std::string& name) const { return Dnsmasq(state_path_, run_.path(), name); }
  Result<Plug> make_plug(const NetworkDefinition& network, const PlugRequest& request, NetworkPort& port);

  Events& events_;
  const StateFolder config_, run_;
  const std::string state_path_;
  Mutex working_;
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<Network>> networks_ GUARDED_BY(mutex_);
};

/// A tap device as a port of a bridge that is not a network's (<interface type='bridge'>).
Result<Plug> plug_bridge(const std::string& bridge, const PlugRequest& request);
/// A macvtap device on a device of the host (<interface type='direct'>). Goes with unplug_direct.
Result<Plug> plug_direct(const std::string& device, MacvtapMode mode, const std::string& mac);
void unplug_direct(const std::string& name);

}  // namespace atl::manage
