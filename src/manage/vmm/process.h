// Starting a VM's process so that it outlives the daemon: its own session, user, control group, and only the descriptors that it
// is to have.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/types.h"
#include "manage/error.h"

namespace atl::manage {

struct ProcessRequest {
  std::string program;
  std::vector<std::string> arguments;     // without the program's name
  std::vector<std::string> environment;   // "NAME=value"
  std::vector<int> descriptors;           // inherited under their own numbers; all others are closed
  int log = -1;                           // standard output and error
  uid_t user = 0;                         // 0: stays as it is
  gid_t group = 0;
  std::vector<gid_t> more_groups;
  u64 locked_memory_bytes = 0;            // RLIMIT_MEMLOCK; 0: as it is
};

/// Which process it is, beyond its number, which is used again.
struct ProcessId {
  pid_t pid = 0;
  u64 start_ticks = 0;  // /proc/PID/stat, field 22
};

/// Forks; `before_exec` is called with the child's number while it waits (to put it into its control group). The error says what
/// failed, in the child too.
Result<ProcessId> start_process(const ProcessRequest& request, const std::function<Status(pid_t)>& before_exec);

/// The process as it is now; NotFound if there is none of that number.
Result<ProcessId> identify_process(pid_t pid);
/// Whether exactly this process is alive (a zombie is not).
bool is_alive(const ProcessId& process);
/// Sends a signal if the process is this one still.
Status signal_process(const ProcessId& process, int signal);
/// A pidfd, readable when the process has ended; NotFound if it has.
Result<Fd> open_process(const ProcessId& process);
/// Waits until it has ended; false when the time is up. Collects it if it is our child.
bool wait_for_end(const ProcessId& process, u64 timeout_ns);

}  // namespace atl::manage
