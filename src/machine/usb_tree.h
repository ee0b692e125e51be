// The USB buses of a machine: their controllers' ports and the devices that -device and device_add plug into them. Control
// thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "devices/device.h"
#include "devices/usb/bus.h"
#include "display/input.h"
#include "machine/config.h"
#include "machine/property_reader.h"

namespace atl::machine {

/// "usb-tablet" and the other types that sit on a USB rather than on a bus of the board.
bool is_usb_device(std::string_view type);

class UsbTree {
 public:
  /// The name that -device bus= has for the bus of a controller with this id: "ID.0", or "usb-bus.N" without an id.
  std::string name_of_bus(const std::string& controller_id) const;
  std::shared_ptr<devices::usb::Bus> find_bus(std::string_view name) const;
  /// A controller with a bus of its own has been plugged in.
  void add_bus(std::shared_ptr<devices::usb::Bus> bus, const devices::Device* controller) { buses_.push_back({std::move(bus), controller}); }
  /// A controller leaves, and with it what is plugged into its bus.
  void remove_bus(const devices::Device* controller);

  /// Builds the device and plugs it into bus= and port=, or where there is room. `router` outlives it.
  Status plug(const DeviceConfig& device, display::InputRouter& router);
  /// The same for a device that has been built; it is left alone on an error.
  struct Place {
    std::shared_ptr<devices::usb::Bus> bus;
    const devices::Device* controller = nullptr;
  };
  Result<Place> attach(const DeviceConfig& device, std::unique_ptr<devices::usb::UsbDevice>& built);
  /// Takes the device with this id out at once. False: there is none.
  bool unplug(const std::string& id);
  bool has(const std::string& id) const { return !id.empty() && find_device(id).first; }
  /// As `info usb` shows it.
  std::string describe() const;

 private:
  struct Entry {
    std::shared_ptr<devices::usb::Bus> bus;
    const devices::Device* controller;
  };
  std::pair<devices::usb::Bus*, devices::usb::UsbDevice*> find_device(const std::string& id) const;
  std::vector<Entry> buses_;
};

}  // namespace atl::machine
