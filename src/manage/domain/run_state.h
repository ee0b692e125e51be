// States of a domain, their reasons, and lifecycle events, with libvirt's numbers, which are on the wire (libvirt-domain.h).
#pragma once

#include <string_view>

#include "base/types.h"

namespace atl::manage {

enum class RunState : i32 { NoState = 0, Running = 1, Blocked = 2, Paused = 3, Shutdown = 4, Shutoff = 5, Crashed = 6, PmSuspended = 7 };

// Reasons: one list for each state.
enum class RunningReason : i32 { Unknown = 0, Booted = 1, Migrated = 2, Restored = 3, FromSnapshot = 4, Unpaused = 5 };
enum class PausedReason : i32 { Unknown = 0, User = 1, Migration = 2, Save = 3, Dump = 4, IoError = 5, Watchdog = 6, FromSnapshot = 7,
                                ShuttingDown = 8, Snapshot = 9, Crashed = 10, StartingUp = 11 };
enum class CrashedReason : i32 { Unknown = 0, Panicked = 1 };
enum class ShutdownReason : i32 { Unknown = 0, User = 1 };
enum class ShutoffReason : i32 { Unknown = 0, Shutdown = 1, Destroyed = 2, Crashed = 3, Migrated = 4, Saved = 5, Failed = 6, FromSnapshot = 7,
                                 Daemon = 8 };

struct DomainState {
  RunState state = RunState::Shutoff;
  i32 reason = 0;
  bool operator==(const DomainState&) const = default;
};
template <class Reason>
constexpr DomainState make_state(RunState state, Reason reason) {
  return {state, static_cast<i32>(reason)};
}

/// VIR_DOMAIN_EVENT_*, with their details.
enum class LifecycleEvent : i32 { Defined = 0, Undefined = 1, Started = 2, Suspended = 3, Resumed = 4, Stopped = 5, Shutdown = 6, PmSuspended = 7,
                                  Crashed = 8 };
namespace lifecycle_detail {
inline constexpr i32 kDefinedAdded = 0, kDefinedUpdated = 1, kDefinedRenamed = 2;
inline constexpr i32 kUndefinedRemoved = 0, kUndefinedRenamed = 1;
inline constexpr i32 kStartedBooted = 0;
inline constexpr i32 kSuspendedPaused = 0, kSuspendedIoError = 2;
inline constexpr i32 kResumedUnpaused = 0;
inline constexpr i32 kStoppedShutdown = 0, kStoppedDestroyed = 1, kStoppedCrashed = 2, kStoppedFailed = 5;
inline constexpr i32 kCrashedPanicked = 0;
inline constexpr i32 kShutdownFinished = 0, kShutdownGuest = 1, kShutdownHost = 2;
}  // namespace lifecycle_detail

}  // namespace atl::manage
