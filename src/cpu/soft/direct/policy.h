// When user code of an address space is worth running in a helper: it has been found running at several interrupts in a row, and does
// not hand over too often. Own thread.
#pragma once

#include <array>

#include "base/types.h"

namespace atl::soft::direct {

/// Times are of the host's TSC.
class Policy {
 public:
  explicit Policy(u64 ticks_per_ms) : ms_(ticks_per_ms) {}

  /// An interrupt found user code of `root` (CR3 without the PCID). True: from now on it is run directly.
  bool sampled(u64 root, u64 now);
  bool promoted(u64 root) const {
    for (const Space& space : spaces_)
      if (space.root == root) return space.promoted;
    return false;
  }
  /// A helper of `root` handed over, other than because of a kick. False: it does so too often, and the space is left to the translator.
  bool handed_over(u64 root, u64 now);
  void demote(u64 root, u64 now);

 private:
  static constexpr u64 kNoSpace = ~u64{0};
  static constexpr unsigned kSamples = 3, kMostBackOff = 10;
  static constexpr u64 kWindowMs = 4, kMostPerMs = 15;

  struct Space {
    u64 root = kNoSpace;
    u64 last = 0;         // sample
    u64 not_before = 0;   // promoted
    u64 window = 0;       // its start
    u64 exits = 0;        // in it
    unsigned samples = 0;
    unsigned failures = 0;
    bool promoted = false;
  };
  Space* find(u64 root);
  Space& find_or_make(u64 root);

  u64 ms_;
  std::array<Space, 16> spaces_;
};

}  // namespace atl::soft::direct
