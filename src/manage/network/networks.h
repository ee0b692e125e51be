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
#include "manage/network/port.h"
#include "manage/rpc/objects.h"
#include "manage/store/state_folder.h"

namespace atl::manage {

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
  Result<std::vector<NetworkPort>> ports(const Uuid& uuid);
  Result<NetworkPort> port(const NetworkRef& network, const Uuid& uuid);
  Result<std::string> port_xml(const NetworkRef& network, const Uuid& uuid);
  /// A port that a client makes; the network counts it as a user.
  Result<NetworkPort> create_port(const Uuid& uuid, std::string_view xml);
  Status delete_port(const NetworkRef& network, const Uuid& uuid);
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
  Status begin(const Uuid& uuid) REQUIRES(working_) EXCLUDES(mutex_);
  Status save_live(const Network& network, bool is_complete) const REQUIRES(mutex_);
  Dnsmasq dnsmasq_of(const std::string& name) const { return Dnsmasq(state_path_, run_.path(), name); }
  /// The running network; an error if it does not run.
  Result<Network*> running(const Uuid& uuid) REQUIRES(mutex_);
  Status add_port(Network& network, NetworkPort port) REQUIRES(mutex_);

  Events& events_;
  const StateFolder config_, run_;
  const std::string state_path_;
  Mutex working_;
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<Network>> networks_ GUARDED_BY(mutex_);
};

}  // namespace atl::manage
