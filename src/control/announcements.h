// Network cards tell the network where they are, some times in growing intervals (QMP's announce-self).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/result.h"

namespace atl::control {

/// Control thread.
class Announcements {
 public:
  struct Plan {
    u64 initial_ms = 50, max_ms = 550, rounds = 5, step_ms = 100;
    std::vector<std::string> cards = {};  // none: all
  };
  using Announce = std::function<void(const std::vector<std::string>& cards)>;

  Announcements(Loop& loop, Announce announce) : loop_(loop), announce_(std::move(announce)) {}

  /// The first one at once. An announcement under way of the same id ends.
  Status start(const std::string& id, Plan plan);

 private:
  struct Running {
    Running(Loop& loop, std::function<void()> next) : timer(loop, std::move(next)) {}
    Plan plan;
    u64 round = 0;
    Loop::Timer timer;
  };
  void next(const std::string& id);

  Loop& loop_;
  const Announce announce_;
  std::map<std::string, std::unique_ptr<Running>> running_;
};

}  // namespace atl::control
