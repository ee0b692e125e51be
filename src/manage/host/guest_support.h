// What atoll-vmm has, in libvirt's words: the one table behind capabilities and domain capabilities.
#pragma once

#include <span>
#include <string_view>

#include "base/types.h"

namespace atl::manage::host {

/// Every board takes so many.
inline constexpr u32 kMaxVcpus = 255;

/// One <enum> of the domain capabilities.
struct Choice {
  std::string_view group;    // the element below <devices>, "" for <os>
  std::string_view name;
  std::string_view values;   // separated by blanks
};
std::span<const Choice> device_choices();

}  // namespace atl::manage::host
