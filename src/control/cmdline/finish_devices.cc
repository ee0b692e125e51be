// Networks and devices once the board is known: what -nic and -drive imply, references, -global.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "control/cmdline/builder.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/translate.h"
#include "machine/device_table.h"

namespace atl::control {

using machine::BoardKind;
using machine::DeviceConfig;
using machine::PropertyType;

std::string Builder::machine_device(std::string_view family) const {
  return board_device_name(family, line.machine.board);
}

// A card without a back end takes the one of its hub that nobody has.
Status Builder::pair_hub_ports() {
  for (auto& nic : nics) {
    if (!nic.backend.empty()) continue;
    auto at = std::find_if(hub_ports.begin(), hub_ports.end(), [&](const HubPort& port) { return port.vlan == nic.vlan; });
    if (at == hub_ports.end()) return invalid_option(fmt::format("{}: no back end is left for this card", nic.origin.text()));
    nic.backend = at->backend;
    hub_ports.erase(at);
  }
  if (hub_ports.empty()) return {};
  return invalid_option(fmt::format("{}: no card is left for this back end, and hubs of more are not supported",
                                    hub_ports[0].origin.text()));
}

Status Builder::finish_networks() {
  if (default_net && config().board == BoardKind::Pc) TRY(option_nic(*this, {"-nic", "user"}));
  TRY(pair_hub_ports());
  std::set<std::string> ids;
  for (const auto& network : config().networks)
    if (!ids.insert(network.id).second) return invalid_option(fmt::format("Duplicate ID '{}' for netdev", network.id));
  for (const auto& nic : nics) {
    DeviceConfig device{.type = machine_device(nic.model.empty() || nic.model == "virtio" ? "virtio-net" : nic.model), .id = nic.id};
    device.properties.emplace_back("netdev", nic.backend);
    if (!nic.mac.empty()) device.properties.emplace_back("mac", nic.mac);
    if (!machine::find_device_spec(device.type))
      return invalid_option(fmt::format("{}: Unsupported NIC model: {}", nic.origin.text(), nic.model));
    TRY(append_device(nic.origin, std::move(device)));
  }
  return {};
}

namespace {

Status check_ids(const std::vector<DeviceRequest>& devices, const std::vector<DriveRequest>& drives) {
  std::set<std::string> ids;
  for (const auto& [origin, device] : devices)
    if (!device.id.empty() && !ids.insert(device.id).second)
      return invalid_option(fmt::format("{}: Duplicate device ID '{}'", origin.text(), device.id));
  ids.clear();
  for (const auto& request : drives)
    if (!ids.insert(request.drive.id).second)
      return invalid_option(fmt::format("{}: Duplicate ID '{}' for drive", request.origin.text(), request.drive.id));
  return {};
}

/// Gives drives without an id QEMU's default name: virtio0, virtio1 ..., none0 ...
void name_drives(std::vector<DriveRequest>& drives) {
  unsigned virtio = 0, other = 0;
  for (auto& request : drives) {
    bool plugged = request.interface == "virtio";
    unsigned index = plugged ? virtio++ : other++;
    if (request.drive.id.empty()) request.drive.id = fmt::format("{}{}", plugged ? "virtio" : "none", index);
  }
}

Status choose_interfaces(std::vector<DriveRequest>& drives, BoardKind board) {
  for (auto& request : drives) {
    if (!request.interface.empty()) continue;
    if (board == BoardKind::Pc)
      return invalid_option(fmt::format("{}: IDE disks, the machine's default, are not available; use if=virtio", request.origin.text()));
    request.interface = "virtio";
  }
  return {};
}

/// Properties of the board's fixed parts that -global may name, and the one value that is true here.
struct FixedGlobal {
  std::string_view driver, property, value;
};
constexpr FixedGlobal kFixedGlobals[] = {
    {"PIIX4_PM", "disable_s3", "1"}, {"PIIX4_PM", "disable_s4", "1"}, {"kvm-pit", "lost_tick_policy", "delay"},
    {"virtio-mmio", "force-legacy", "off"}, {"virtio-mmio", "force-legacy", "false"},
};

bool is_fixed_global(const GlobalProperty& global) {
  return std::any_of(std::begin(kFixedGlobals), std::end(kFixedGlobals), [&](const FixedGlobal& f) {
    return f.driver == global.driver && f.property == global.property && f.value == global.value;
  });
}

}  // namespace

// -global gives a property to every device of a type that does not set it itself.
void Builder::apply_globals(DeviceConfig& device) const {
  for (const auto& global : globals) {
    if (machine_device(global.driver) != device.type) continue;
    auto has = [&](const auto& property) { return property.first == global.property; };
    if (std::none_of(device.properties.begin(), device.properties.end(), has))
      device.properties.emplace_back(global.property, global.value);
  }
}

Status Builder::append_device(const OptionUse& origin, DeviceConfig device) {
  device.type = machine_device(device.type);
  apply_globals(device);
  TRY(machine::check_device(device).context(origin.text()));
  for (auto& [key, value] : device.properties) {
    const auto* spec = machine::find_device_spec(device.type);
    auto at = std::find_if(spec->properties.begin(), spec->properties.end(), [&](const auto& p) { return p.name == key; });
    if (at == spec->properties.end() || at->type != PropertyType::Chardev) continue;
    value = TRY(use_chardev(value).context(origin.text()));
  }
  config().devices.push_back(std::move(device));
  return {};
}

Status Builder::finish_devices() {
  TRY(choose_interfaces(drives, config().board));
  name_drives(drives);
  TRY(check_ids(devices, drives));
  for (auto& request : devices) TRY(append_device(request.origin, request.device));
  for (auto& request : drives) {
    if (request.interface == "virtio")
      TRY(append_device(request.origin, {.type = machine_device("virtio-blk"), .properties = {{"drive", request.drive.id}}}));
    config().drives.push_back(request.drive);
  }
  return check_globals();
}

// One that names no device of this VM must still name a property that exists.
Status Builder::check_globals() {
  for (const auto& global : globals) {
    if (is_fixed_global(global)) continue;
    if (global.driver == "mc146818rtc" && global.property == "lost_tick_policy") {
      config().rtc.drift_fix = global.value == "slew";
      continue;
    }
    DeviceConfig probe{.type = machine_device(global.driver), .properties = {{global.property, global.value}}};
    TRY(machine::check_device(probe).context(global.origin.text()));
  }
  return {};
}

}  // namespace atl::control
