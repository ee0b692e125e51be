// The event loop that all inputs of a target share: setting up an io_uring for each would be too slow.
#pragma once

#include "base/loop.h"

namespace atl::fuzz {

inline Loop& loop() {
  static auto* shared = MUST(Loop::create(64)).release();  // cannot fail but for lack of kernel resources
  return *shared;
}

/// Lets what is ready happen. Devices over null nodes need no more than this.
inline void settle() {
  for (int turn = 0; turn < 3; ++turn) loop().run_once(0);
}

}  // namespace atl::fuzz
