// Networks and devices once the board is known: what -nic and -drive imply, references, -global.
#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "control/cmdline/board_parts.h"
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

/// A card and a back end of one number are plugged together; more of them meet at a hub.
Status Builder::connect_hub(u64 vlan) {
  std::vector<NicRequest*> cards;
  for (NicRequest& nic : nics)
    if (nic.backend.empty() && nic.vlan == vlan) cards.push_back(&nic);
  std::vector<const HubPort*> ends;
  for (const HubPort& port : hub_ports)
    if (port.vlan == vlan) ends.push_back(&port);
  if (cards.size() + ends.size() == 1) {
    const std::string what = cards.empty() ? ends[0]->origin.text() + ": no card" : cards[0]->origin.text() + ": no back end";
    return invalid_option(fmt::format("{} is left to be connected with", what));
  }
  if (cards.size() == 1 && ends.size() == 1) {
    cards[0]->backend = ends[0]->backend;
    return {};
  }
  auto add_port = [&](const std::string& netdev) {
    const std::string id = fmt::format("#hub{}port{}", vlan, generated_nics++);
    config().networks.push_back({.id = id, .options = net::HubPortOptions{.id = id, .hub = static_cast<u32>(vlan), .netdev = netdev}});
    return id;
  };
  for (const HubPort* end : ends) add_port(end->backend);
  for (NicRequest* card : cards) card->backend = add_port("");
  return {};
}

Status Builder::connect_hubs() {
  std::set<u64> numbers;
  for (const NicRequest& nic : nics)
    if (nic.backend.empty()) numbers.insert(nic.vlan);
  for (const HubPort& port : hub_ports) numbers.insert(port.vlan);
  for (u64 vlan : numbers) TRY(connect_hub(vlan));
  return {};
}

namespace {

/// The card that a board has if no model is named.
std::string_view default_nic(BoardKind board) {
  switch (board) {
    case BoardKind::Pc: return "e1000";
    case BoardKind::Q35: return "e1000e";
    default: return "virtio-net";
  }
}

}  // namespace

Status Builder::finish_networks() {
  if (default_net && is_pc(config().board)) TRY(option_nic(*this, {"-nic", "user"}));
  TRY(connect_hubs());
  std::set<std::string> ids;
  for (const auto& network : config().networks)
    if (!ids.insert(network.id).second) return invalid_option(fmt::format("Duplicate ID '{}' for netdev", network.id));
  for (auto& network : config().networks) {
    if (auto* peer = std::get_if<machine::VhostUserNetOptions>(&network.options))
      peer->chardev = TRY(use_chardev(peer->chardev).context(fmt::format("-netdev {}", network.id)));
  }
  for (const auto& nic : nics) {
    const std::string_view model = nic.model.empty() ? default_nic(config().board) : nic.model;
    DeviceConfig device{.type = machine_device(model == "virtio" ? "virtio-net" : model), .id = nic.id};
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

/// Buses of an interface, and how many drives each takes; a number a bus (virtio, none) if there is no such limit.
struct InterfaceShape {
  std::string_view name;
  unsigned buses, units;
};
constexpr InterfaceShape kShapes[] = {{"ide", 2, 2}, {"scsi", 8, 7}, {"floppy", 1, 2}};
constexpr InterfaceShape kSataShape = {"ide", 6, 1};  // q35: a port is a bus

const InterfaceShape* find_shape(std::string_view interface, BoardKind board) {
  if (interface == kSataShape.name && board == BoardKind::Q35) return &kSataShape;
  for (const auto& shape : kShapes)
    if (shape.name == interface) return &shape;
  return nullptr;
}

/// Bus and unit of every drive that is plugged into a place: what was asked for, else the first that is free.
Status place_drives(std::vector<DriveRequest>& drives, BoardKind board) {
  std::set<std::pair<std::string, unsigned>> taken;
  auto take = [&](DriveRequest& request, const InterfaceShape& shape, unsigned index) -> Status {
    request.bus = index / shape.units;
    request.unit = index % shape.units;
    if (*request.bus >= shape.buses)
      return invalid_option(fmt::format("{}: machine type does not support if={},bus={},unit={}", request.origin.text(), shape.name, *request.bus, *request.unit));
    if (taken.emplace(request.interface, index).second) return {};
    return invalid_option(fmt::format("{}: drive with bus={}, unit={} (index={}) exists", request.origin.text(), *request.bus, *request.unit, index));
  };
  auto is_placed = [](const DriveRequest& r) { return r.index || r.bus || r.unit; };
  for (auto& request : drives) {
    const InterfaceShape* shape = find_shape(request.interface, board);
    if (!shape || !is_placed(request)) continue;
    if (request.unit.value_or(0) >= shape->units)
      return invalid_option(fmt::format("{}: unit {} too big (max is {})", request.origin.text(), *request.unit, shape->units - 1));
    TRY(take(request, *shape, request.index.value_or(request.bus.value_or(0) * shape->units + request.unit.value_or(0))));
  }
  for (auto& request : drives) {
    const InterfaceShape* shape = find_shape(request.interface, board);
    if (!shape || request.unit) continue;
    unsigned index = 0;
    while (taken.contains({request.interface, index})) ++index;
    TRY(take(request, *shape, index));
  }
  return {};
}

/// Gives drives without an id QEMU's default name: ide0-hd1, virtio0, virtio1 ..., none0 ...
void name_drives(std::vector<DriveRequest>& drives, BoardKind board) {
  unsigned virtio = 0, flash = 0, other = 0;
  for (auto& request : drives) {
    bool plugged = request.interface == "virtio", placed = find_shape(request.interface, board) != nullptr;
    const bool pflash = request.interface == "pflash";
    unsigned index = plugged ? virtio++ : pflash ? flash++ : placed ? 0 : other++;
    if (!request.drive.id.empty()) continue;
    if (request.interface == "floppy") request.drive.id = fmt::format("floppy{}", *request.unit);
    else if (placed) request.drive.id = fmt::format("{}{}-{}{}", request.interface, *request.bus, request.cdrom ? "cd" : "hd", *request.unit);
    else request.drive.id = fmt::format("{}{}", plugged ? "virtio" : pflash ? "pflash" : "none", index);
  }
}

Status choose_interfaces(std::vector<DriveRequest>& drives, BoardKind board) {
  const bool has_ide = machine::is_pc(board);
  for (auto& request : drives) {
    if (request.interface.empty()) request.interface = has_ide ? "ide" : "virtio";
    if ((request.interface == "ide" || request.interface == "floppy") && !has_ide)
      return invalid_option(fmt::format("{}: machine type does not support if={},bus=0,unit=0", request.origin.text(), request.interface));
    if (request.interface == "virtio" && request.cdrom)
      return invalid_option(fmt::format("{}: media=cdrom is not supported with if=virtio", request.origin.text()));
  }
  return {};
}

/// The empty CD drive that a PC has.
void add_default_cdrom(std::vector<DriveRequest>& drives, BoardKind board) {
  constexpr unsigned kIndex = 2;
  DriveRequest request{.origin = {"-cdrom", ""}, .interface = "ide", .cdrom = true, .index = kIndex};
  request.drive.from_drive_option = true;
  request.drive.mode.readonly = true;
  const unsigned units = find_shape("ide", board)->units;
  auto there = [=](const DriveRequest& r) {
    return r.interface == "ide" && (r.index == kIndex || (r.bus && *r.bus * units + r.unit.value_or(0) == kIndex));
  };
  if (std::none_of(drives.begin(), drives.end(), there)) drives.push_back(std::move(request));
}

/// The empty floppy drive that an i440fx PC has.
void add_default_floppy(std::vector<DriveRequest>& drives) {
  DriveRequest request{.origin = {"-fda", ""}, .interface = "floppy", .index = 0};
  request.drive.from_drive_option = true;
  auto there = [](const DriveRequest& r) { return r.interface == "floppy" && r.index.value_or(r.unit.value_or(0)) == 0; };
  if (std::none_of(drives.begin(), drives.end(), there)) drives.push_back(std::move(request));
}

/// What a drive of an interface is plugged in as.
std::optional<DeviceConfig> device_of(const DriveRequest& request) {
  if (request.interface == "virtio") return DeviceConfig{.type = "virtio-blk", .id = "", .properties = {{"drive", request.drive.id}}};
  if (request.interface == "scsi") {
    DeviceConfig device{.type = request.cdrom ? "scsi-cd" : "scsi-hd",
                        .id = "",
                        .properties = {{"scsi-id", fmt::format("{}", *request.unit)}, {"drive", request.drive.id}}};
    if (*request.bus) device.properties.emplace_back("bus", fmt::format("scsi.{}", *request.bus));
    return device;
  }
  if (request.interface == "floppy")
    return DeviceConfig{.type = "floppy", .id = "", .properties = {{"unit", fmt::format("{}", *request.unit)}, {"drive", request.drive.id}}};
  if (request.interface != "ide") return std::nullopt;
  return DeviceConfig{.type = request.cdrom ? "ide-cd" : "ide-hd",
                      .id = "",
                      .properties = {{"bus", fmt::format("ide.{}", *request.bus)},
                                     {"unit", fmt::format("{}", *request.unit)},
                                     {"drive", request.drive.id}}};
}

Status set_board_part(const BoardPartProperty& property, std::string_view value, machine::Config& config) {
  if (!takes_setting(property, value))
    return invalid_option(fmt::format("Property '{}.{}' cannot be '{}' here", property.part, property.name, value));
  if (property.part == "mc146818rtc") config.rtc.drift_fix = value == "slew";
  if (property.name == "disable_s3") config.suspend_to_ram = value == "0";
  if (property.name == "disable_s4") config.suspend_to_disk = value == "0";
  if (property.part == "kvm-pit") config.pit_makes_up_ticks = value == "delay";
  if (property.part == "cfi.pflash01") config.boot.flash_secure = parse_bool(value).value_or(false);
  return {};
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

Result<std::string> Builder::take_tpm_socket(const std::string& id) {
  const auto tpm = tpms.find(id);
  if (tpm == tpms.end()) return invalid_option(fmt::format("a TPM back end with id '{}' could not be found, or has a device", id));
  const ChardevConfig* chardev = find_chardev(tpm->second);
  if (!chardev) return invalid_option(fmt::format("tpm-emulator: tpm chardev '{}' not found", tpm->second));
  if (chardev->kind != ChardevKind::Socket || chardev->path.empty() || chardev->server)
    return invalid_option(fmt::format("tpm-emulator: chardev '{}' is not a client of a Unix socket", tpm->second));
  std::string path = chardev->path;
  std::erase_if(program().chardevs, [&](const ChardevConfig& c) { return c.id == tpm->second; });
  tpms.erase(tpm);
  return path;
}

Status Builder::append_device(const OptionUse& origin, DeviceConfig device) {
  device.type = machine_device(device.type);
  apply_globals(device);
  TRY(machine::check_device(device).context(origin.text()));
  for (auto& [key, value] : device.properties) {
    if (key == "tpmdev") value = TRY(take_tpm_socket(value).context(origin.text()));
    if (machine::has_property(device.type, key, PropertyType::Chardev)) value = TRY(use_chardev(value).context(origin.text()));
  }
  config().devices.push_back(std::move(device));
  return {};
}

/// A drive without a unit takes the first free one.
Status Builder::place_flash(const DriveRequest& request) {
  auto& flash = config().boot.flash;
  const u64 unit = request.flash_unit.value_or(flash[0].empty() ? 0 : 1);
  if (unit >= flash.size()) return invalid_option(fmt::format("there are {} flash chips", flash.size()));
  if (!flash[unit].empty()) return invalid_option(fmt::format("flash chip {} has drive '{}' already", unit, flash[unit]));
  flash[unit] = request.drive.id;
  return {};
}

/// Those of the board's south bridge; the ICH9's EHCI has three companions for the slower devices.
Status Builder::append_usb_controllers() {
  const OptionUse origin = {"-usb", ""};
  if (config().board == BoardKind::Pc) return append_device(origin, {.type = "piix3-usb-uhci", .properties = {{"addr", "01.2"}}});
  if (config().board != BoardKind::Q35) return invalid_option("-usb: this machine has no USB controller of its own");
  TRY(append_device(origin, {.type = "ich9-usb-ehci1", .properties = {{"addr", "1d.7"}}}));
  for (unsigned i = 0; i < 3; ++i) {
    TRY(append_device(origin, {.type = fmt::format("ich9-usb-uhci{}", i + 1),
                               .properties = {{"addr", fmt::format("1d.{}", i)}, {"masterbus", "usb-bus.0"},
                                              {"firstport", std::to_string(2 * i)}}}));
  }
  return {};
}

Status Builder::finish_devices() {
  TRY(finish_drives());
  TRY(check_ids(devices, drives));
  if (usb) TRY(append_usb_controllers());
  for (auto& request : drives) {  // those on the board's own controller first
    if (request.interface == "ide") TRY(append_device(request.origin, *device_of(request)));
  }
  for (auto& request : devices) TRY(append_device(request.origin, request.device));
  for (auto& request : drives) {
    auto device = device_of(request);
    if (device && request.interface != "ide") TRY(append_device(request.origin, std::move(*device)));
    if (request.interface == "pflash") TRY(place_flash(request).context(request.origin.text()));
    config().drives.push_back(request.drive);
  }
  if (!is_pc(config().board) && !config().boot.flash[0].empty())
    return invalid_option("this machine has no flash chips; -bios names its firmware");
  if (config().boot.flash[0].empty() && !config().boot.flash[1].empty()) return invalid_option("pflash1 requires pflash0");
  return check_globals();
}

Status Builder::finish_drives() {
  TRY(choose_interfaces(drives, config().board));
  const BoardKind board = config().board;
  if (default_cdrom && !no_defaults && machine::is_pc(board)) add_default_cdrom(drives, board);
  if (default_floppy && !no_defaults && board == BoardKind::Pc) add_default_floppy(drives);
  TRY(place_drives(drives, board));
  name_drives(drives, board);
  for (DriveRequest& request : drives)
    request.drive.snapshot |= snapshot && request.drive.from_drive_option && request.drive.tree && !request.drive.mode.readonly && request.interface != "pflash";
  return {};
}

// One that names no device of this VM must still name a property that exists.
Status Builder::check_globals() {
  for (const auto& global : globals) {
    if (const auto* property = find_board_part_property(global.driver, global.property)) {
      TRY(set_board_part(*property, global.value, config()).context(global.origin.text()));
      continue;
    }
    DeviceConfig probe{.type = machine_device(global.driver), .id = "", .properties = {{global.property, global.value}}};
    TRY(machine::check_device(probe).context(global.origin.text()));
  }
  return {};
}

}  // namespace atl::control
