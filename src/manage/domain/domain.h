// One domain: its stored definition, and what runs of it.
//
// Two locks. `job` serialises calls that change the domain; it is held over waits for the VM, with a time limit for those who want
// it next. The inner mutex guards the fields, is held for moments only, and is all that a query needs: a VM that hangs delays no
// list and no dump. Trees are replaced, never changed in place.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/sync.h"
#include "manage/domain/run_state.h"
#include "manage/domain/tree.h"
#include "manage/rpc/objects.h"
#include "manage/vmm/cgroup.h"
#include "manage/vmm/ownership.h"
#include "manage/vmm/process.h"
#include "manage/vmm/qmp_client.h"

namespace atl::manage {

/// A VM's process and what belongs to it.
struct RunningVm {
  ProcessId process;
  uid_t user = 0;
  std::string folder;  // its sockets
  ControlGroup group;
  FileOwnership files{0, 0};
  std::shared_ptr<QmpClient> monitor;
  std::vector<int> vcpu_threads;
  std::map<u64, int> io_threads;  // as it started
  std::atomic<u64> next_node = 1;  // block nodes have numbers that no other ever had
};

/// Long work on a domain that clients ask about by virDomainGetJobStats. Times are of the monotonic clock.
struct LongJob {
  i32 operation = 0;  // virDomainJobOperation
  u64 begin_ns = 0, end_ns = 0;
  bool failed = false, cancelled = false;
  bool temporary = false;  // what it wrote was not to stay
  u64 disk_done = 0, disk_total = 0;
};
inline constexpr i32 kOperationDump = 8, kOperationBackup = 9;

struct DomainFacts {
  std::string name;
  Uuid uuid{};
  i32 id = -1;
  bool persistent = false, autostart = false, managed_save = false, tainted = false;
  DomainState state;
  bool active() const { return id >= 0; }
  DomainRef ref() const { return {name, uuid, id}; }
};

class Domain {
 public:
  using Tree = std::shared_ptr<const Element>;

  Domain(std::string name, const Uuid& uuid) : uuid_(uuid) { facts_.name = std::move(name); facts_.uuid = uuid; }

  /// The right to change the domain, until destroyed.
  class Job {
   public:
    explicit Job(std::unique_lock<std::timed_mutex> lock) : lock_(std::move(lock)) {}

   private:
    std::unique_lock<std::timed_mutex> lock_;
  };
  /// An error of libvirt's kind when another call keeps it for 30 seconds.
  Result<Job> begin_job();

  /// The same for questions to the guest's agent, which go on beside changes.
  Result<Job> begin_agent_job();

  const Uuid& uuid() const { return uuid_; }
  DomainFacts facts() const;
  DomainRef ref() const { return facts().ref(); }
  std::string name() const { return facts().name; }
  bool active() const { return facts().active(); }

  /// What is stored, as text; "" for a transient domain.
  std::string config_text() const;
  /// The definition for the next start: what is stored, or for a transient domain what runs.
  Result<Element> config() const;
  /// Null if it does not run.
  Tree live() const;
  /// The tree that a query without flags means: live if it runs.
  Result<Element> current() const;

  /// "domain is not running" if it does not.
  Result<std::shared_ptr<QmpClient>> monitor() const;
  std::optional<ControlGroup> group() const;
  std::vector<int> vcpu_threads() const;
  std::optional<ProcessId> process() const;

  // Changes; callers hold the job, but for state changes that the VM tells.
  void set_config(std::string text);
  void set_name(std::string name);
  void set_autostart(bool on);
  void set_managed_save(bool on);
  void set_tainted();
  void set_live(Element tree);
  /// Nothing of what others change meanwhile is lost. Nothing happens if it does not run.
  void change_live(const std::function<void(Element&)>& change);
  void set_state(DomainState state);
  /// Only if it runs.
  void set_running_state(DomainState state);
  void begin_running(i32 id, std::shared_ptr<RunningVm> vm, Element tree);
  std::shared_ptr<RunningVm> running() const;
  /// After a restart of the daemon.
  void adopt_monitor(std::shared_ptr<QmpClient> monitor);
  /// Takes the VM away: the caller clears up behind it. Null if somebody did already.
  std::shared_ptr<RunningVm> end_running(DomainState state);
  /// Seconds that the agent has for an answer; agent.h names the special values.
  i32 agent_timeout() const { return agent_timeout_; }
  void set_agent_timeout(i32 seconds) { agent_timeout_ = seconds; }
  /// The long job that goes on, or the last one that ended.
  std::optional<LongJob> long_job() const;
  void set_long_job(LongJob job);
  /// The backup that goes on (backup.h).
  std::optional<Element> backup() const;
  void set_backup(std::optional<Element> backup);
  /// What the next SHUTDOWN event of the guest means: a reboot in disguise.
  void expect_reboot(bool on);
  bool take_expected_reboot();

 private:
  const Uuid uuid_;
  std::timed_mutex job_, agent_job_;
  std::atomic<i32> agent_timeout_ = -2;
  mutable Mutex mutex_;
  DomainFacts facts_ GUARDED_BY(mutex_);
  std::string config_ GUARDED_BY(mutex_);
  Tree live_ GUARDED_BY(mutex_);
  std::shared_ptr<RunningVm> vm_ GUARDED_BY(mutex_);
  bool reboot_expected_ GUARDED_BY(mutex_) = false;
  std::optional<LongJob> long_job_ GUARDED_BY(mutex_);
  std::optional<Element> backup_ GUARDED_BY(mutex_);
};

using DomainPtr = std::shared_ptr<Domain>;

}  // namespace atl::manage
