// A VM's control group: where its processes are counted and limited (cgroups(7), version 1 and 2).
//
// Version 1 has a folder for each controller, version 2 one for all. What the host lacks is skipped when the group is made, and an
// error when it is asked for. A VM's group is "atoll/NAME" below the folder that the daemon runs in at the top of the hierarchy.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "manage/error.h"

namespace atl::manage {

class ControlGroup {
 public:
  /// Makes the group, or finds it again. `root` is /sys/fs/cgroup but in tests.
  static Result<ControlGroup> open(const std::string& name, const std::string& root = "/sys/fs/cgroup");
  ControlGroup() = default;

  Status attach(pid_t pid) const;
  /// The processes in it are gone.
  void remove() const;
  std::vector<pid_t> processes() const;

  bool has(const std::string& controller) const { return folders_.contains(controller); }
  bool is_v2() const { return v2_; }

  // Settings by meaning; the files are named differently in both versions.
  Status set_cpu_shares(u64 shares) const;
  /// A quota of -1 is none.
  Status set_cpu_quota(u64 period_us, i64 quota_us) const;
  /// The same for some threads of the group's processes, which get a group of their own below it: "vcpu0", "emulator".
  Status set_thread_quota(const std::string& part, const std::vector<int>& threads, u64 period_us, i64 quota_us) const;
  /// Bytes; nothing is no limit.
  Status set_memory_limit(std::optional<u64> bytes) const;
  Status set_memory_soft_limit(std::optional<u64> bytes) const;
  /// Memory and swap together.
  Status set_swap_limit(std::optional<u64> bytes) const;
  Status set_blkio_weight(u64 weight) const;
  /// Of one block device of the host; 0 is no limit.
  enum class DeviceLimit : u8 { Weight, ReadOps, WriteOps, ReadBytes, WriteBytes };
  Status set_device_limit(const std::string& device, DeviceLimit limit, u64 value) const;
  Status set_cpuset(const std::string& cpus) const;
  /// The host's NUMA nodes that memory may come from.
  Status set_memory_nodes(const std::string& nodes) const;

  struct CpuTime {
    u64 total_ns = 0, user_ns = 0, system_ns = 0;
  };
  Result<CpuTime> cpu_time() const;
  Result<u64> memory_bytes() const;

 private:
  Status write(const std::string& controller, const std::string& file, std::string_view value) const;
  Result<std::string> read(const std::string& controller, const std::string& file) const;

  bool v2_ = false;
  std::map<std::string, std::string> folders_;  // by controller
};

}  // namespace atl::manage
