// The daemon's parts, one owner for all of them. Handlers reach everything from here.
//
// Locking. Each manager (domains, networks, storage ...) has its own lock over its own tables, and one lock for each object where calls on
// different objects must not wait for each other. Orders: a manager's lock before an object's; never two managers' locks at once: copy what
// you need, let go, then call the other. Nobody holds a lock over a wait for a VM, a tool or a file of a client. The events hub and sessions
// may be called with locks held: they only queue. Managers are created before the server listens and destroyed after its last call ended.
#pragma once

#include <memory>
#include <string>

#include "base/loop.h"
#include "manage/config.h"
#include "manage/domain/domains.h"
#include "manage/events.h"
#include "manage/host/host.h"
#include "manage/network/networks.h"
#include "manage/nwfilter/filters.h"
#include "manage/secret/secrets.h"
#include "manage/storage/pools.h"

namespace atl::manage {

class Daemon {
 public:
  /// Loads what is stored below the configuration's folders. `loop` outlives the daemon; it is the server's, for what must run there.
  static Result<std::unique_ptr<Daemon>> create(Loop& loop, const Config& config);
  ~Daemon();

  const Config& config() const { return config_; }
  Loop& loop() { return loop_; }
  Events& events() { return events_; }
  host::Host& host() { return *host_; }
  Networks& networks() { return *networks_; }
  Filters& filters() { return *filters_; }
  Secrets& secrets() { return *secrets_; }
  Pools& pools() { return *pools_; }
  Domains& domains() { return *domains_; }

 private:
  Daemon(Loop& loop, const Config& config) : loop_(loop), config_(config) {}
  /// Gives domains what they need of networks and pools.
  void connect_domains();

  Loop& loop_;
  const Config config_;
  Events events_;
  std::unique_ptr<host::Host> host_;
  std::unique_ptr<Networks> networks_;
  std::unique_ptr<Filters> filters_;
  std::unique_ptr<Secrets> secrets_;
  std::unique_ptr<Pools> pools_;
  std::unique_ptr<Domains> domains_;
};

}  // namespace atl::manage
