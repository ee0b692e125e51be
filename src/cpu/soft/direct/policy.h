// When user code of an address space is worth running in a helper: several interrupts in a row have found it running, and it
// does not hand over too often. Own thread.
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
  /// It found the kernel working for `root`.
  void sampled_kernel(u64 root);
  bool promoted(u64 root) const {
    for (const Space& space : spaces_)
      if (space.root == root) return space.promoted;
    return false;
  }
  /// A helper of `root` handed over, other than because of a kick. False: it does so too often, and the space is left to the translator.
  bool handed_over(u64 root, u64 now);
  /// It did so for a page. A program's pages have to be mapped once, so that some hundreds of these do not count.
  bool missed_page(u64 root, u64 now);
  void demote(u64 root, u64 now);

 private:
  static constexpr u64 kNoSpace = ~u64{0};
  static constexpr unsigned kSamples = 3, kMostBackOff = 5;
  static constexpr u64 kWindow = 32, kMostPerMs = 15;  // looked at after so many exits
  static constexpr u64 kFreePages = 300, kFreePagesPerMs = 4;

  struct Space {
    u64 root = kNoSpace;
    u64 last = 0;         // sample
    u64 not_before = 0;   // promoted
    u64 window = 0;       // its start
    u64 exits = 0;        // in it
    u64 free_pages = kFreePages;
    u64 filled = 0;       // when free_pages was brought up to date
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
