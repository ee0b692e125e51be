#include "control/cmdline/board_parts.h"

#include <algorithm>

#include "base/strings.h"

namespace atl::control {
namespace {

constexpr BoardPartProperty kProperties[] = {
    {"PIIX4_PM", "disable_s3", "uint8", "0|1"},
    {"PIIX4_PM", "disable_s4", "uint8", "0|1"},
    {"ICH9-LPC", "acpi-pci-hotplug-with-bridge-support", "bool", "off|false|no"},
    {"ICH9-LPC", "disable_s3", "uint8", "0|1"},
    {"ICH9-LPC", "disable_s4", "uint8", "0|1"},
    {"cfi.pflash01", "secure", "bool", "on|off|true|false|yes|no"},
    {"kvm-pit", "lost_tick_policy", "LostTickPolicy", "delay|discard"},
    {"mch", "extended-tseg-mbytes", "uint16", "16"},
    {"mc146818rtc", "lost_tick_policy", "LostTickPolicy", "discard|slew"},
    {"virtio-mmio", "force-legacy", "bool", "off|false|no"},
};

}  // namespace

std::span<const BoardPartProperty> board_part_properties() { return kProperties; }

const BoardPartProperty* find_board_part_property(std::string_view part, std::string_view name) {
  auto at = std::ranges::find_if(kProperties, [&](const BoardPartProperty& p) { return p.part == part && p.name == name; });
  return at == std::end(kProperties) ? nullptr : at;
}

bool takes_setting(const BoardPartProperty& property, std::string_view value) {
  const auto settings = split(property.settings, '|');
  return std::ranges::find(settings, value) != settings.end();
}

}  // namespace atl::control
