// A hub: what comes in at one port goes out at all others. Ports are back ends for cards, or hold another back end.
// Frames carry no offload header inside; a back end that wants one gets an empty one.
// A card that has no room keeps its port's newest frames waiting, up to a limit; the others do not wait for it.
//
// Threads: the loop of its back ends, which is one.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "net/backend.h"

namespace atl::net {

class HubPort;

class Hub {
 public:
  explicit Hub(Loop& loop) : loop_(loop) {}
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  /// `held`: the back end behind the port, which outlives it; nullptr for a card's port. The hub outlives its ports.
  std::unique_ptr<Backend> add_port(const HubPortOptions& options, Backend* held);
  bool empty() const { return ports_.empty(); }

 private:
  friend class HubPort;
  void forward(const HubPort& from, std::span<const iovec> frame);
  void end_batch(const HubPort& from);

  Loop& loop_;
  std::vector<HubPort*> ports_;
};

}  // namespace atl::net
