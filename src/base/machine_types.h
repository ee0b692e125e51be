// The machine types that command lines and domain descriptions name. Old versions are kept as names for today's boards, so
// that what was written for them still starts (docs/decisions/0005-machine-versions.md).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/types.h"

namespace atl {

struct MachineType {
  enum class Board : u8 { Pc, Q35, Microvm, None };
  std::string name;              // "pc-i440fx-7.2"
  std::string_view alias;        // "pc"; "" = none
  std::string_view description;
  Board board;
  bool is_default = false;
};

/// The newest of each board first.
std::span<const MachineType> machine_types();
/// By name or alias; nullptr if there is none.
const MachineType* find_machine_type(std::string_view name);

}  // namespace atl
