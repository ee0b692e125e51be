// From a -device to a device model: reads the properties, claims the back ends, builds the model. The makers of one family
// are in a file of their own; device_makers.cc has the table of them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>

#include "devices/storage/ata.h"
#include "devices/storage/virtio_blk.h"
#include "devices/storage/virtio_scsi.h"
#include "devices/virtio/balloon.h"
#include "devices/legacy/device_clock.h"
#include "devices/legacy/system_control.h"
#include "devices/nic/receive_filter.h"
#include "devices/pci/device.h"
#include "devices/virtio/device.h"
#include "devices/virtio/console.h"
#include "machine/back_ends.h"
#include "machine/boards/board.h"
#include "machine/config.h"
#include "machine/usb_tree.h"
#include "machine/property_reader.h"

namespace atl::machine {

class PropertyReader;

/// What makers need of the machine.
struct MakerContext {
  const Config& config;
  BackEnds& back_ends;
  cpu::Vm& vm;
  memory::AddressSpace& memory;
  memory::AddressSpace& ports;
  devices::DeviceClock& clock;
  devices::SystemControl& system;
  display::InputRouter& input;
  UsbTree& usb;
  display::ScreenList& screens;
  const std::map<CharId, CharBackend*>& chars;
  std::function<void(const std::string& drive, const std::string& device, const devices::BlockError&)> on_block_error;  // any thread
  std::function<void(u64 guest_bytes)> on_balloon_change;                            // any thread
};

/// A device that is built and not yet plugged in: one of the two.
struct MadeDevice {
  std::unique_ptr<devices::VirtioDevice> device;  // or
  std::unique_ptr<devices::PciDevice> pci;
  LoopThread* thread = nullptr;                   // of its loop
  devices::AtaHost* ata = nullptr;                // if disks can be plugged into it
  devices::ScsiHost* scsi = nullptr;              // likewise
  PlugRequest plug;
  devices::VirtioBalloon* balloon = nullptr;      // if it is one
  devices::VirtioConsole* console = nullptr;      // likewise
  std::optional<unsigned> vectors = {};           // MSI-X vectors if the properties say nothing; else one a queue
  std::shared_ptr<devices::usb::Bus> usb_bus;     // if it has one of its own
  std::function<void(bool up)> set_link = {};     // of a network card
  std::function<void()> announce = {};            // likewise
  std::function<devices::ReceiveFilter()> receive_filter = {};  // likewise, if it can tell; on the loop
};

/// `user` names the device in back ends' error texts. On an error nothing stays claimed.
Result<MadeDevice> make_device(const DeviceConfig& device, const std::string& user, const MakerContext& context);
/// Of a virtconsole or virtserialport device.
Result<devices::VirtioConsolePort> make_console_port(const DeviceConfig& device, const MakerContext& context);

/// A disk or drive of a storage bus, built and not yet attached: one of the first three.
struct MadeDisk {
  std::unique_ptr<devices::AtaDevice> ata;
  std::unique_ptr<devices::ScsiUnit> scsi;
  std::unique_ptr<devices::FloppyDrive> floppy;
  devices::RemovableDrive* removable = nullptr;
  std::string drive, node;                        // Media::Slot's home and node
  block::Root* root = nullptr;                    // nullptr: no medium
};
/// `on_tray` is told of the guest's tray, on the loop of `thread`.
Result<MadeDisk> make_disk(const DeviceConfig& device, const std::string& user, LoopThread& thread, const MakerContext& context,
                           std::function<void(bool open)> on_tray);
bool is_disk(std::string_view type);
bool is_scsi_disk(std::string_view type);

/// rerror or werror; "auto" leaves what the drive says.
Result<block::ErrorPolicy> error_policy(const PropertyReader& properties, std::string_view name, block::ErrorPolicy of_drive);

/// rerror, werror and write-cache of a disk.
Result<devices::DiskIoOptions> disk_io_options(const PropertyReader& properties, const DriveConfig& drive, const std::string& user,
                                               const MakerContext& context);
/// All that one maker works on.
struct Order {
  PropertyReader properties;
  const std::string& user;
  const MakerContext& context;
};

/// pci_makers.cc: bridges, root ports and small functions.
Result<MadeDevice> make_watchdog(const Order& order);
Result<MadeDevice> make_pvpanic(const Order& order);
Result<MadeDevice> make_pci_bridge(const Order& order);
/// What virtio queues may have: the error names the property.
Result<u16> queue_size(const PropertyReader& properties, std::string_view name);
/// Withholds the ring features that properties switch off.
void hide_ring_features(const PropertyReader& properties, devices::VirtioDevice& device);

}  // namespace atl::machine
