// How a forked child becomes a helper.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string_view>

#include "base/types.h"

namespace atl::soft::direct {

inline constexpr int kKickSignal = SIGUSR1;

/// What the child says of itself, together with the filter's descriptor unless there was an error.
struct SetUpReport {
  u32 step = 0;
  int error = 0;
};
/// For error messages.
const char* step_name(u32 step);

/// In the child, which has one thread and must not use the C library's memory or locks.
[[noreturn]] void become_helper(int exchange_file, int socket, pid_t parent);

}  // namespace atl::soft::direct
