// Disks and drives on the buses of controllers.
#include <fmt/format.h>

#include "devices/usb/storage.h"
#include "machine/machine_impl.h"
#include "machine/property_reader.h"

namespace atl::machine {
namespace {

using devices::ScsiAddress;
using devices::ScsiHost;
using Bus = DiskBuses::Bus;

/// The unit that was asked for, or the first free one.
std::optional<unsigned> free_unit(const Bus& bus, std::optional<u64> wanted) {
  for (unsigned unit = 0; unit < bus.ata->ata_units(); ++unit)
    if ((!wanted || *wanted == unit) && !bus.ata->ata_device(bus.port, unit)) return unit;
  return std::nullopt;
}

Error no_bus(const PropertyReader& p, std::string_view kind) {
  const std::string_view name = p.text("bus");
  if (!name.empty()) return Error(ErrorKind::NotFound, fmt::format("Bus '{}' not found", name));
  return Error(ErrorKind::NotFound, fmt::format("No '{}' bus found for device '{}'", kind, p.device().type));
}

Result<std::pair<const Bus*, unsigned>> ata_place(const PropertyReader& p, const DiskBuses& buses) {
  const std::string_view name = p.text("bus");
  const auto wanted = p.optional_number("unit");
  for (const Bus& bus : buses.all()) {
    if (!bus.ata || (!name.empty() && bus.name != name)) continue;
    if (wanted && *wanted >= bus.ata->ata_units()) {
      return Error(ErrorKind::Invalid,
                   fmt::format("Can't create IDE unit {}, bus supports only {} units", *wanted, bus.ata->ata_units()));
    }
    if (auto unit = free_unit(bus, wanted)) return std::pair{&bus, *unit};
    if (name.empty()) continue;
    return Error(ErrorKind::Busy, wanted ? fmt::format("IDE unit {} is in use", *wanted) : fmt::format("Bus '{}' is full", name));
  }
  return no_bus(p, "IDE");
}

Result<std::pair<const Bus*, ScsiAddress>> scsi_place(const PropertyReader& p, const DiskBuses& buses) {
  const std::string_view name = p.text("bus");
  if (p.number("channel") != 0) return p.refuse("channel", "there is channel 0 only");
  const auto target = p.optional_number("scsi-id"), lun = p.optional_number("lun");
  if (target.value_or(0) > ScsiHost::kMaxTarget) return p.refuse("scsi-id", "at most 255");
  if (lun.value_or(0) > ScsiHost::kMaxLun) return p.refuse("lun", "at most 16383");
  for (const Bus& bus : buses.all()) {
    if (!bus.scsi || (!name.empty() && bus.name != name)) continue;
    ScsiAddress at{static_cast<u8>(target.value_or(0)), static_cast<u16>(lun.value_or(0))};
    while (!target && bus.scsi->scsi_unit(at) && at.target < ScsiHost::kMaxTarget) ++at.target;
    if (!bus.scsi->scsi_unit(at)) return std::pair{&bus, at};
    return Error(ErrorKind::Busy, fmt::format("lun already used: scsi-id {}, lun {}", at.target, at.lun));
  }
  return no_bus(p, "SCSI");
}

}  // namespace

Status MachineImpl::plug_floppy(const DeviceInfo& info) {
  const DeviceConfig& device = info.config;
  const PropertyReader p(device);
  devices::FloppyController* controller = board_->floppy();
  if (!controller) return no_bus(p, "floppy-bus");
  unsigned unit = static_cast<unsigned>(p.number("unit"));
  while (!p.given("unit") && unit < controller->kDrives && controller->drive(unit)) ++unit;
  if (unit >= controller->kDrives) return Error(ErrorKind::Invalid, fmt::format("Can't create floppy unit {}, bus supports only 2 units", unit));
  if (controller->drive(unit)) return Error(ErrorKind::Busy, fmt::format("Floppy unit {} is in use", unit));
  const std::string& user = device.id.empty() ? info.path : device.id;
  LoopThread& thread = back_ends_->default_thread();
  MadeDisk made = TRY(make_disk(device, user, thread, maker_context(), {}));
  media_->add({.user = user, .home = made.drive, .node = made.node, .drive = made.removable, .thread = &thread, .controller = controller,
               .io = &made.floppy->medium_io()});
  thread.run_on([&] { board_->attach_floppy(unit, std::move(made.floppy)); });
  const auto boot_index = p.optional_number("bootindex");
  if (!boot_index) return {};
  const std::string path = TRY(board_->firmware_path(*controller, "fdc"));
  return board_->add_boot_device(static_cast<u32>(*boot_index), fmt::format("{}/floppy@{}", path, unit));
}

/// As firmware calls a device behind hubs: "hub@1/storage@2".
std::string usb_path(std::string_view port) {
  std::string out;
  for (size_t dot = port.find('.'); dot != std::string_view::npos; dot = port.find('.')) {
    out += fmt::format("hub@{}/", port.substr(0, dot));
    port.remove_prefix(dot + 1);
  }
  return out + fmt::format("storage@{}", port);
}

Status MachineImpl::plug_usb_disk(const DeviceInfo& info, bool hotplugged) {
  const DeviceConfig& device = info.config;
  const PropertyReader p(device);
  const std::string& user = device.id.empty() ? info.path : device.id;
  LoopThread& thread = back_ends_->default_thread();
  MadeDisk made = TRY(make_disk(device, user, thread, maker_context(), {}));
  auto disk = std::make_unique<devices::usb::Storage>(std::move(made.scsi), std::string(p.text("serial")));
  devices::usb::Storage& storage = *disk;
  std::unique_ptr<devices::usb::UsbDevice> built = std::move(disk);
  auto place = usb_.attach(device, built);
  if (!place) {
    thread.run_on([&] { built.reset(); });
    back_ends_->release(user);
    return std::move(place).error();
  }
  thread.run_on([&] { made.root->on_resized = [unit = &storage.unit()] { unit->size_changed(); }; });
  media_->add({.user = user, .home = made.drive, .node = made.node, .drive = made.removable, .thread = &thread, .controller = place->controller,
               .pausable = &storage.pausable(), .io = &storage.unit().io(),
               .detach = [bus = place->bus, &storage] { bus->unplug(storage); }});
  const auto boot_index = p.optional_number("bootindex");
  if (!boot_index || hotplugged) return {};
  const std::string path = TRY(board_->firmware_path(*place->controller, "usb"));
  return board_->add_boot_device(static_cast<u32>(*boot_index),
                                 fmt::format("{}/{}/channel@0/disk@0,0", path, usb_path(place->bus->path_of(storage))));
}

Status MachineImpl::plug_disk(const DeviceInfo& info, bool hotplugged) {
  const DeviceConfig& device = info.config;
  if (device.type == "usb-storage") return plug_usb_disk(info, hotplugged);
  if (device.type == "floppy") return plug_floppy(info);
  const PropertyReader p(device);
  DiskPlace place;
  if (is_scsi_disk(device.type)) std::tie(place.bus, place.address) = TRY(scsi_place(p, disk_buses_));
  else std::tie(place.bus, place.unit) = TRY(ata_place(p, disk_buses_));
  const std::string& user = device.id.empty() ? info.path : device.id;
  LoopThread& thread = *place.bus->thread;
  auto on_tray = [this, user, home = std::string(p.text("drive"))](bool open) {
    announce({.kind = Event::Kind::TrayMoved, .device = home, .path = user, .value = open});
  };
  MadeDisk made = TRY(make_disk(device, user, thread, maker_context(), on_tray));
  Media::Slot slot{.user = user, .home = made.drive, .node = made.node, .drive = made.removable, .thread = &thread,
                   .controller = place.bus->controller, .io = made.ata ? &made.ata->io() : &made.scsi->io()};
  if (made.scsi) slot.detach = [host = place.bus->scsi, at = place.address] { host->detach_scsi(at); };
  TRY(attach_disk(place, std::move(made), thread, hotplugged));
  media_->add(std::move(slot));
  const auto boot_index = p.optional_number("bootindex");
  if (!boot_index || hotplugged) return {};
  const std::string below = place.bus->scsi ? fmt::format("channel@0/disk@{:x},{:x}", place.address.target, place.address.lun)
                                            : fmt::format("drive@{:x}/disk@{:x}", place.bus->port, place.unit);
  const std::string path = TRY(board_->firmware_path(*place.bus->controller, "scsi"));
  return board_->add_boot_device(static_cast<u32>(*boot_index), fmt::format("{}/{}", path, below));
}

Status MachineImpl::attach_disk(const DiskPlace& place, MadeDisk made, LoopThread& thread, bool announce) {
  thread.run_on([&] {
    const DiskBuses::Bus& bus = *place.bus;
    std::function<void()> resized;
    if (made.scsi) {
      resized = [unit = made.scsi.get()] { unit->size_changed(); };
      bus.scsi->attach_scsi(place.address, std::move(made.scsi), announce);
    } else {
      resized = [disk = made.ata.get()] { disk->size_changed(); };
      bus.ata->attach_ata(bus.port, place.unit, std::move(made.ata));
    }
    if (made.root) made.root->on_resized = std::move(resized);
  });
  return {};
}

}  // namespace atl::machine
