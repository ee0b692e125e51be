// Steps inside drivers that the test double blkdebug reacts to, by QEMU's names ("l2_load", "cluster_alloc" ...).
//
// A driver tells the node below it (Node::debug_points) of a step right before the request that the step consists of.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace atl::block {

class DebugPoints {
 public:
  virtual ~DebugPoints() = default;
  /// The step is about to be taken: the error rules for it hold for the requests from now on.
  virtual void reached(std::string_view event) = 0;

  // Breakpoints, for monitors. Each holds one request.
  virtual Status set_break(std::string event, std::string tag) = 0;
  /// Those with this tag, and the requests that they hold go on. The error says that there are none.
  virtual Status remove_break(std::string_view tag) = 0;
  /// A request that a breakpoint holds goes on.
  virtual Status release(std::string_view tag) = 0;
  virtual bool is_held(std::string_view tag) const = 0;
};

/// For drivers, whose node below is no test double most of the time.
inline void debug_step(DebugPoints* points, std::string_view event) {
  if (points) [[unlikely]]
    points->reached(event);
}

}  // namespace atl::block
