// Parts that boards bring by themselves, under QEMU's names: what -global may set of them, and what QMP lists of their types.
#pragma once

#include <span>
#include <string_view>

namespace atl::control {

struct BoardPartProperty {
  std::string_view part;      // "PIIX4_PM"
  std::string_view name;      // "disable_s3"
  std::string_view type;      // "uint8", as device-list-properties calls it
  std::string_view settings;  // that it can have here: "1", "delay|discard"
};

/// The properties of one part stand together.
std::span<const BoardPartProperty> board_part_properties();
/// nullptr if there is none.
const BoardPartProperty* find_board_part_property(std::string_view part, std::string_view name);
bool takes_setting(const BoardPartProperty& property, std::string_view value);

}  // namespace atl::control
