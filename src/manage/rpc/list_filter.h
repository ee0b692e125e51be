// The filter flags of CONNECT_LIST_ALL_*: bits come in groups, and a group of which no bit is set lets everything pass.
#pragma once

#include <initializer_list>
#include <utility>

#include "base/types.h"

namespace atl::manage {

/// `groups`: for each group its bits, and those of them that the object has.
inline bool passes_filter(u32 flags, std::initializer_list<std::pair<u32, u32>> groups) {
  for (auto [bits, own] : groups)
    if ((flags & bits) && !(flags & own)) return false;
  return true;
}

}  // namespace atl::manage
