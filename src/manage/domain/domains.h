// All domains: stored definitions, running VMs, and what is done to them. VMs outlive the daemon: create() finds them again.
//
// Any thread. The table's lock is held for moments, and never together with a wait; changes of one domain go under its job.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/sync.h"
#include "base/thread.h"
#include "manage/config.h"
#include "manage/domain/consoles.h"
#include "manage/domain/definition.h"
#include "manage/domain/domain.h"
#include "manage/domain/errands.h"
#include "manage/domain/status_file.h"
#include "manage/events.h"
#include "manage/store/state_folder.h"

namespace atl::manage {

/// What a host's network gives to a card; made by whoever owns networks.
struct PluggedTap {
  Fd fd;
  std::string name;  // "vnet0"
};
struct NetworkPlugs {
  /// Connects a card (<interface> as in the live tree).
  std::function<Result<PluggedTap>(const Element& card, const DomainRef& domain)> plug;
  std::function<void(const Element& card)> unplug;
};
/// Where a <disk type='volume'> is: pool and volume to a path.
using VolumePaths = std::function<Result<std::string>(const std::string& pool, const std::string& volume)>;
/// The value of a <secret uuid=> or <secret usage=>.
using SecretValues = std::function<Result<std::string>(const Element& secret)>;

struct StartOptions {
  bool paused = false;
  bool auto_destroy = false;  // refused
};

class Domains {
 public:
  static Result<std::unique_ptr<Domains>> create(Events& events, const Config& config);
  /// VMs go on running.
  ~Domains();

  Result<DomainPtr> find(const Uuid& uuid) const;
  Result<DomainPtr> find_name(const std::string& name) const;
  Result<DomainPtr> find_id(i32 id) const;
  /// In no order.
  std::vector<DomainPtr> all() const;
  /// Before anything starts.
  void set_network_plugs(NetworkPlugs plugs) { plugs_ = std::move(plugs); }
  void set_volume_paths(VolumePaths paths) { volume_paths_ = std::move(paths); }
  void set_secret_values(SecretValues values) { secret_values_ = std::move(values); }
  /// Starts what is to start with the daemon; once, after networks and pools are there.
  void start_marked();

  // definitions.cc
  Result<DomainPtr> define(std::string_view text);
  struct Kept {
    bool nvram = false, tpm = false;
  };
  Status undefine(Domain& domain, const Kept& kept);
  /// Replaces the stored definition (under the job) and tells clients.
  Status store(Domain& domain, const Element& config);
  Status rename(Domain& domain, const std::string& name);
  Status set_autostart(Domain& domain, bool on);
  const DefinitionHost& definition_host() const { return host_; }

  // start.cc
  Result<DomainPtr> create_transient(std::string_view text, const StartOptions& options);
  /// Under the job.
  Status start(Domain& domain, const StartOptions& options);
  /// Makes what a device needs of the host ready: a tap, ownership of files.
  Status prepare_disk(RunningVm& vm, Element& disk);
  void release_disk(RunningVm& vm, const Element& disk);
  /// What an encrypted disk is opened with.
  Result<std::string> passphrase_of(const Element& disk) const;
  Result<PluggedTap> plug(const Element& card, const Domain& domain);
  void unplug(const Element& card);

  // stop.cc
  /// Ends the VM; `graceful`: never by SIGKILL.
  Status destroy(Domain& domain, bool graceful);
  /// Clears up behind a VM that has ended, or is to end now.
  void finish(Domain& domain, ShutoffReason reason);

  /// Keeps what a restarted daemon must know; after each change of state or tree.
  void save_status(const Domain& domain);
  Events& events() { return events_; }
  Consoles& consoles() { return *consoles_; }
  const Config& config() const { return config_; }

 private:
  Domains(Events& events, const Config& config) : events_(events), config_(config) {}
  Status load();
  Status load_definition(const std::string& name);
  void load_running(const std::string& name);
  void reconnect(const DomainPtr& domain, const std::shared_ptr<RunningVm>& vm);
  Result<DomainPtr> add(const std::string& name, const Uuid& uuid);
  void forget(const Domain& domain);

  // start.cc
  Result<uid_t> choose_user() const;
  Status start_tree(Domain& domain, Element tree, const StartOptions& options);
  void abandon(Domain& domain, RunningVm& vm, const Element& tree);
  /// Gives back what the host gave.
  void clear_up(RunningVm& vm, const Element& tree);
  Status launch(const DomainPtr& domain, const std::shared_ptr<RunningVm>& vm, Element& tree, i32 id);
  Status prepare_files(RunningVm& vm, Element& tree);
  Status hand_over_secrets(const RunningVm& vm, const Element& tree) const;
  Status come_up(Domain& domain, RunningVm& vm, const StartOptions& options);
  Status learn_details(Domain& domain, RunningVm& vm);

  // vm_events.cc
  QmpClient::Callbacks callbacks(const DomainPtr& domain, const std::shared_ptr<RunningVm>& vm);
  void take_event(const DomainPtr& domain, const std::string& name, const nlohmann::json& data);
  void guest_ended(const DomainPtr& domain, const nlohmann::json& data);
  /// `for_good`: whatever the definition says about power-offs.
  void settle_shutdown(const DomainPtr& domain, bool for_good);
  void disk_job_ended(const DomainPtr& domain, const nlohmann::json& data, i32 status);
  void guest_panicked(const DomainPtr& domain);
  void dump_by_itself(Domain& domain);
  void device_gone(const DomainPtr& domain, const std::string& alias);
  void take_reported_state(const DomainPtr& domain, const std::string& status);

  Events& events_;
  const Config config_;
  DefinitionHost host_;
  NetworkPlugs plugs_;
  VolumePaths volume_paths_;
  SecretValues secret_values_;
  std::unique_ptr<StateFolder> definitions_, statuses_;
  std::unique_ptr<LoopThread> monitors_;  // outlives the domains' monitors
  mutable Mutex mutex_;
  std::map<Uuid, DomainPtr> domains_ GUARDED_BY(mutex_);
  std::map<std::string, Uuid> names_ GUARDED_BY(mutex_);
  i32 next_id_ GUARDED_BY(mutex_) = 1;
  std::unique_ptr<Consoles> consoles_;
  Errands errands_;
};

}  // namespace atl::manage
