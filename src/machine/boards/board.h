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
#include "cpu/vm.h"
#include "devices/device.h"
#include "devices/legacy/device_clock.h"
#include "devices/legacy/system_control.h"
#include "devices/virtio/device.h"
#include "display/screen.h"
#include "machine/config.h"
#include "machine/loaders/boot_entry.h"
#include "memory/address_space.h"

namespace atl::machine {

/// What a board is built from; all of it outlives the board.
struct BoardContext {
  const Config& config;
  cpu::Vm& vm;
  memory::AddressSpace& memory;
  memory::AddressSpace& ports;
  devices::DeviceClock& clock;
  devices::SystemControl& system;
  const std::map<CharId, CharBackend*>& chars;
  std::function<void(i64 seconds)> rtc_changed;      // any thread
  std::function<void(devices::Device&)> ejected;     // the guest let go of a device; any thread
};

/// Where and how a virtio device is plugged in.
struct PlugRequest {
  std::string type;                 // "virtio-blk-pci"
  std::string id;                   // for messages; may be empty
  std::string address;              // "5" or "5.0"; "" = the next free place
  std::optional<unsigned> vectors;
  std::optional<u32> boot_index;    // place in firmware's boot order
  bool hotplugged = false;
};

class Board {
 public:
  virtual ~Board() = default;

  /// Puts a device into a free place. The error names who holds the place that was asked for.
  virtual Result<devices::Device*> plug(std::unique_ptr<devices::VirtioDevice> device, const PlugRequest& request) = 0;
  /// Asks the guest to let go of the device; `ejected` tells when it has.
  virtual Status request_unplug(devices::Device& device) = 0;
  /// Takes the device out and gives it back, to be destroyed. With the vCPUs stopped and the device quiesced.
  virtual std::unique_ptr<devices::Device> unplug(devices::Device& device) = 0;

  /// Every device, in the order they were built.
  virtual std::vector<devices::Device*> devices() = 0;
  /// All devices back to power-on state; they are quiesced and the vCPUs stopped.
  virtual void reset() = 0;
  /// Loads firmware or kernel anew, and tells how the first processor starts.
  virtual Result<BootEntry> load() = 0;

  virtual void press_power_button() = 0;
  /// The display adapter's picture; nullptr without one.
  virtual display::Screen* screen() { return nullptr; }
  virtual Status press_key(u8 number, bool down) = 0;
  virtual Status move_pointer(i32 dx, i32 dy, i32 dz, u8 buttons) = 0;
  /// "qtree" or "pci" for the monitor.
  virtual std::string describe(std::string_view what) = 0;
  /// Where a plugged device sits, as messages and query commands show it: "Bus 0, device 4, function 0".
  virtual std::string place_of(const devices::Device& device) = 0;
};

/// Which interrupt controllers a board has, and where its RAM lies; needed before there is a VM.
cpu::IrqChip irqchip_of(BoardKind board);
/// Maps the guest's RAM.
Status map_ram(const Config& config, memory::AddressSpace& memory);

Result<std::unique_ptr<Board>> create_pc(const BoardContext& context);
Result<std::unique_ptr<Board>> create_microvm(const BoardContext& context);

}  // namespace atl::machine
