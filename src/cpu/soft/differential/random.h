// Random numbers that a seed and an index repeat (SplitMix64).
#pragma once

#include <initializer_list>

#include "base/types.h"

namespace atl::soft::differential {

class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}
  /// Stream `index` of a seed; streams do not overlap as shifted copies of each other.
  Random(u64 seed, u64 index) : state_(Random(seed + index * 0xd1342543de82ef95).next()) {}
  u64 next() {
    u64 z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  /// 0 to `count` - 1.
  u64 below(u64 count) { return next() % count; }
  bool percent(unsigned chance) { return below(100) < chance; }
  u8 byte() { return static_cast<u8>(next()); }

 private:
  u64 state_;
};

}  // namespace atl::soft::differential
