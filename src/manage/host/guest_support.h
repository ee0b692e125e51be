// What atoll-vmm has, in libvirt's words: the one table behind capabilities and domain capabilities.
#pragma once

#include <span>
#include <string_view>

#include "base/types.h"

namespace atl::manage::host {

struct MachineType {
  std::string_view name;
  std::string_view canonical;  // what the name stands for; "" if it is one itself
  u32 max_vcpus;
};
std::span<const MachineType> machine_types();
/// Null if there is none; aliases are found, too.
const MachineType* find_machine(std::string_view name);

/// One <enum> of the domain capabilities.
struct Choice {
  std::string_view group;    // the element below <devices>, "" for <os>
  std::string_view name;
  std::string_view values;   // separated by blanks
};
std::span<const Choice> device_choices();

}  // namespace atl::manage::host
