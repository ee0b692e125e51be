// A board: the fixed devices of a machine, where they answer, and how it boots. Implemented by boards/pc and
// boards/microvm. Control thread unless said otherwise.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/char_backend.h"
#include "base/loop.h"
#include "base/thread.h"
#include "block/node.h"
#include "cpu/vm.h"
#include "devices/device.h"
#include "devices/legacy/device_clock.h"
#include "devices/legacy/system_control.h"
#include "devices/pci/device.h"
#include "devices/pci/info.h"
#include "devices/storage/ata.h"
#include "devices/storage/floppy.h"
#include "devices/virtio/device.h"
#include "display/input.h"
#include "display/screen.h"
#include "machine/config.h"
#include "machine/loaders/boot_entry.h"
#include "memory/address_space.h"

namespace atl::devices {
class FwCfg;
}

namespace atl::machine {

/// The image of a flash chip, claimed for it.
struct FlashDrive {
  std::string id;
  block::Node* image = nullptr;   // used on `thread`
  LoopThread* thread = nullptr;
  bool readonly = false;
};

/// What a board is built from; all of it outlives the board.
struct BoardContext {
  const Config& config;
  cpu::Vm& vm;
  memory::AddressSpace& memory;
  memory::AddressSpace& ports;
  devices::DeviceClock& clock;
  Loop& io_loop;                                     // of the default I/O thread
  devices::SystemControl& system;
  display::InputRouter& input;
  display::ScreenList& screens;
  const std::map<CharId, CharBackend*>& chars;
  std::function<void(i64 seconds)> rtc_changed;      // any thread
  std::function<void(devices::Device&)> ejected;     // the guest let go of a device; any thread
  std::vector<FlashDrive> flash;                     // by unit; empty: firmware is ROM
  bool smm = false;                                  // vCPUs have system management mode, and the chip set uses it
};

/// Whether a device type is an Ethernet card, which firmware starts from over the network.
bool is_network_card(std::string_view type);

/// Where and how a device is plugged in.
struct PlugRequest {
  std::string type;                 // "virtio-blk-pci"
  std::string id;                   // for messages; may be empty
  std::string bus;                  // "pci.0"; "" = the board's first one
  std::string address;              // "5" or "5.0"; "" = the next free place
  std::optional<unsigned> vectors;
  std::optional<bool> legacy;       // virtio: the interface of old drivers too; none: as the bus suggests
  bool modern = true;               // virtio
  std::optional<u32> boot_index;    // place in firmware's boot order
  std::string rom;                  // file of a PCI option ROM; "" = none
  std::string firmware_name = "scsi", firmware_tail = "/disk@0,0";  // of its Open Firmware path: name@place, what follows
  bool multifunction = false;
  bool hotplugged = false;
  bool removable = true;            // while the machine runs
};

class Board {
 public:
  virtual ~Board() = default;

  /// Put a device into a free place. The error names who holds the place that was asked for.
  virtual Result<devices::Device*> plug(std::unique_ptr<devices::VirtioDevice> device, const PlugRequest& request) = 0;
  virtual Result<devices::Device*> plug_pci(std::unique_ptr<devices::PciDevice> device, const PlugRequest& request);
  /// Asks the guest to let go of the device; `ejected` tells when it has.
  virtual Status request_unplug(devices::Device& device) = 0;
  /// Takes the device out and gives it back, to be destroyed. With the vCPUs stopped and the device quiesced.
  virtual std::unique_ptr<devices::Device> unplug(devices::Device& device) = 0;

  /// The disk controller that the board has by itself.
  struct DiskController {
    devices::Device* device = nullptr;  // one of devices()
    devices::AtaHost* ata = nullptr;
  };
  virtual std::optional<DiskController> disk_controller() { return std::nullopt; }
  /// The board's floppy controller; nullptr without one. It is one of devices().
  virtual devices::FloppyController* floppy() { return nullptr; }
  /// Puts a drive into a free place, and tells firmware of its type.
  virtual void attach_floppy(unsigned, std::unique_ptr<devices::FloppyDrive>) {}
  /// Where firmware finds what it must know; nullptr without firmware.
  virtual devices::FwCfg* config_device() { return nullptr; }
  /// Every device, in the order they were built.
  virtual std::vector<devices::Device*> devices() = 0;
  /// All devices back to power-on state; they are quiesced and the vCPUs stopped.
  virtual void reset() = 0;
  /// Loads firmware or kernel anew, and tells how the first processor starts.
  virtual Result<BootEntry> load() = 0;

  virtual void press_power_button() = 0;
  /// Firmware takes part in S3: on the way back it finds the processors' start address, which the guest has left.
  virtual bool can_suspend() { return false; }
  /// After reset(), in the place of load(): memory is as the guest left it.
  virtual void wake(devices::WakeReason) {}
  /// The devices and where they are, for the monitor.
  virtual std::string describe() = 0;
  /// Of the root bus; nothing without one.
  virtual std::vector<devices::PciFunctionInfo> pci_functions() { return {}; }
  /// Where firmware looks for a system at the next start.
  virtual Status set_boot_order(const std::string& order);
  /// Of the real-time clock.
  virtual void drop_missed_ticks() {}
  /// Where a plugged device sits, as messages and query commands show it: "Bus 0, device 4, function 0".
  virtual std::string place_of(const devices::Device& device) = 0;
  /// Open Firmware path of a controller, `name` as its node is called: "/pci@i0cf8/ide@1,1".
  virtual Result<std::string> firmware_path(const devices::Device& device, std::string_view) {
    return Error(ErrorKind::Unsupported, std::string(device.type()) + ": firmware cannot start from it");
  }
  /// Enters what is behind a controller into firmware's boot order. The error says that the index is taken.
  virtual Status add_boot_device(u32 index, std::string path) = 0;
};

/// Which interrupt controllers a board has, and where its RAM lies; needed before there is a VM.
cpu::IrqChip irqchip_of(BoardKind board);
/// Maps the guest's RAM.
Status map_ram(const Config& config, memory::AddressSpace& memory);

/// "pc" and "q35".
Result<std::unique_ptr<Board>> create_pc(const BoardContext& context);
Result<std::unique_ptr<Board>> create_microvm(const BoardContext& context);
/// "none".
Result<std::unique_ptr<Board>> create_empty_board(const BoardContext& context);

}  // namespace atl::machine
