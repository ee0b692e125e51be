// From a -device of a storage bus to the disk: reads the properties, claims the drive, builds the model.
#include <fmt/format.h>

#include "base/math.h"
#include "devices/storage/ata_disk.h"
#include "devices/storage/atapi_drive.h"
#include "machine/makers/device_makers.h"
#include "machine/property_reader.h"

namespace atl::machine {
namespace {

using namespace devices;

struct DiskOrder {
  PropertyReader properties;
  const std::string& user;
  LoopThread& thread;
  const MakerContext& context;
  std::function<void(bool open)> on_tray;
  BlockStore::Claimed drive;
};

Result<DiskIoOptions> io_options(const DiskOrder& order) {
  static const DriveConfig kNone;
  return disk_io_options(order.properties, order.drive.config ? *order.drive.config : kNone, order.user, order.context);
}

}  // namespace

Result<DiskIoOptions> disk_io_options(const PropertyReader& p, const DriveConfig& drive, const std::string& user,
                                      const MakerContext& context) {
  DiskIoOptions io;
  io.read_error = TRY(error_policy(p, "rerror", drive.read_error));
  io.write_error = TRY(error_policy(p, "werror", drive.write_error));
  io.write_through = p.text("write-cache") == "auto" ? drive.write_through : !p.flag("write-cache");
  io.on_error = [report = context.on_block_error, id = drive.id, user](const BlockError& error) {
    if (report) report(id, user, error);
  };
  return io;
}

namespace {

/// A text property, else what the drive says, else the model's own.
void take_text(const PropertyReader& p, std::string_view name, std::string& value) {
  if (p.given(name)) value = p.text(name);
}

Status check_medium(const DiskOrder& order) {
  const PropertyReader& p = order.properties;
  if (!order.drive.config) return Error(ErrorKind::Invalid, "drive property not set");
  if (!order.drive.root) return Error(ErrorKind::Invalid, "Device needs media, but drive is empty");
  const DriveConfig& drive = *order.drive.config;
  if (drive.mode.readonly && !drive.snapshot && p.device().type == "ide-hd") return Error(ErrorKind::Invalid, "Block node is read-only");
  return {};
}

Result<MadeDisk> make_ide_disk(const DiskOrder& order) {
  const PropertyReader& p = order.properties;
  TRY(check_medium(order));
  if (p.size("logical_block_size") != 512) return p.refuse("logical_block_size", "must be 512 for IDE");
  AtaDiskOptions o;
  if (!order.drive.config->serial.empty()) o.serial = order.drive.config->serial;
  take_text(p, "serial", o.serial);
  take_text(p, "model", o.model);
  take_text(p, "ver", o.version);
  o.wwn = p.number("wwn");
  o.physical_block_bytes = static_cast<u32>(p.size("physical_block_size"));
  if (!is_power_of_two(o.physical_block_bytes) || o.physical_block_bytes < 512 || o.physical_block_bytes > 4096)
    return p.refuse("physical_block_size", "must be a power of 2 between 512 and 4096");
  o.readonly = false;
  o.io = TRY(io_options(order));
  auto disk = std::make_unique<AtaDisk>(order.thread.loop(), std::move(o));
  disk->io().set_node(order.drive.root);
  MadeDisk made;
  made.ata = std::move(disk);
  return made;
}

Result<MadeDisk> make_ide_cd(const DiskOrder& order) {
  const PropertyReader& p = order.properties;
  if (p.size("logical_block_size") != 512) return p.refuse("logical_block_size", "a CD's blocks are what they are");
  AtapiDriveOptions o;
  if (order.drive.config && !order.drive.config->serial.empty()) o.serial = order.drive.config->serial;
  take_text(p, "serial", o.serial);
  take_text(p, "model", o.model);
  take_text(p, "ver", o.version);
  o.wwn = p.number("wwn");
  o.on_tray = order.on_tray;
  o.io = TRY(io_options(order));
  auto drive = std::make_unique<AtapiDrive>(order.thread.loop(), o);
  drive->io().set_node(order.drive.root);
  MadeDisk made;
  made.removable = drive->removable();
  made.ata = std::move(drive);
  return made;
}

Result<MadeDisk> make_scsi(const DiskOrder& order) {
  const PropertyReader& p = order.properties;
  const bool cd = p.device().type == "scsi-cd";
  if (!cd) TRY(check_medium(order));
  ScsiUnitOptions o;
  o.kind = cd ? ScsiUnitOptions::Kind::Cd : ScsiUnitOptions::Kind::Disk;
  o.vendor = p.text("vendor");
  o.product = cd ? "ATOLL CD-ROM" : "ATOLL HARDDISK";
  if (order.drive.config) o.serial = order.drive.config->serial;
  take_text(p, "serial", o.serial);
  take_text(p, "device_id", o.device_id);
  take_text(p, "product", o.product);
  take_text(p, "ver", o.version);
  o.wwn = p.number("wwn");
  o.block_bytes = static_cast<u32>(p.size("logical_block_size"));
  o.physical_block_bytes = std::max(static_cast<u32>(p.size("physical_block_size")), o.block_bytes);
  if (!is_power_of_two(o.block_bytes) || o.block_bytes < 512 || o.block_bytes > 4096)
    return p.refuse("logical_block_size", "must be a power of 2 between 512 and 4096");
  o.readonly = cd || (order.drive.config->mode.readonly && !order.drive.config->snapshot);
  o.on_tray = order.on_tray;
  o.io = TRY(io_options(order));
  MadeDisk made;
  made.scsi = std::make_unique<ScsiUnit>(order.thread.loop(), std::move(o));
  made.scsi->io().set_node(order.drive.root);
  if (cd) made.removable = made.scsi.get();
  return made;
}

Result<MadeDisk> make_usb_disk(const DiskOrder& order) {
  const PropertyReader& p = order.properties;
  TRY(check_medium(order));
  ScsiUnitOptions o;
  o.removable = p.flag("removable");
  o.vendor = "QEMU";
  o.product = "QEMU HARDDISK";
  o.version = "2.5+";
  o.serial = p.given("serial") ? std::string(p.text("serial")) : order.drive.config->serial;
  o.block_bytes = static_cast<u32>(p.size("logical_block_size"));
  o.physical_block_bytes = std::max(static_cast<u32>(p.size("physical_block_size")), o.block_bytes);
  if (!is_power_of_two(o.block_bytes) || o.block_bytes < 512 || o.block_bytes > 4096)
    return p.refuse("logical_block_size", "must be a power of 2 between 512 and 4096");
  o.readonly = order.drive.config->mode.readonly && !order.drive.config->snapshot;
  o.io = TRY(io_options(order));
  MadeDisk made;
  made.scsi = std::make_unique<ScsiUnit>(order.thread.loop(), std::move(o));
  made.scsi->io().set_node(order.drive.root);
  if (p.flag("removable")) made.removable = made.scsi.get();
  return made;
}

Result<MadeDisk> make_floppy(const DiskOrder& order) {
  const bool readonly = order.drive.config && order.drive.config->mode.readonly && !order.drive.config->snapshot;
  MadeDisk made;
  made.floppy = std::make_unique<FloppyDrive>(order.thread.loop(), TRY(io_options(order)), readonly);
  made.floppy->medium_io().set_node(order.drive.root);
  if (order.drive.root && !made.floppy->geometry()) return Error(ErrorKind::Invalid, "the image has no floppy disk's size");
  made.removable = made.floppy.get();
  return made;
}

struct DiskMaker {
  std::string_view type;
  Result<MadeDisk> (*make)(const DiskOrder&);
};
constexpr DiskMaker kMakers[] = {{"floppy", make_floppy}, {"ide-cd", make_ide_cd}, {"ide-hd", make_ide_disk}, {"scsi-cd", make_scsi}, {"scsi-hd", make_scsi}, {"usb-storage", make_usb_disk}};

const DiskMaker* find_maker(std::string_view type) {
  for (const DiskMaker& maker : kMakers)
    if (maker.type == type) return &maker;
  return nullptr;
}

}  // namespace

bool is_scsi_disk(std::string_view type) { return type == "scsi-cd" || type == "scsi-hd"; }

bool is_disk(std::string_view type) { return find_maker(type) != nullptr; }

Result<MadeDisk> make_disk(const DeviceConfig& device, const std::string& user, LoopThread& thread, const MakerContext& context,
                           std::function<void(bool open)> on_tray) {
  DiskOrder order{PropertyReader(device), user, thread, context, std::move(on_tray), {}};
  const std::string drive(order.properties.text("drive"));
  if (!drive.empty()) {
    order.drive = TRY(context.back_ends.blocks().claim(drive, user, thread, order.properties.flag("share-rw")));
  }
  auto made = find_maker(device.type)->make(order);
  if (!made) {
    context.back_ends.release(user);
    return made;
  }
  made->root = order.drive.root;
  if (order.drive.config) (order.drive.config->from_drive_option ? made->drive : made->node) = order.drive.config->id;
  return made;
}

}  // namespace atl::machine
