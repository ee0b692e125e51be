// The root ports of a host controller and what is plugged into them, hubs and all. A port belongs to one controller at a time:
// EHCI shares its ports with companions that serve the slower devices (EHCI 1.0 section 4.2).
//
// Threads: one mutex for the bus, its controllers' registers and schedules and all of its devices. plug() and unplug() on the
// control thread; controllers on vCPU threads and their loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "devices/usb/device.h"

namespace atl::devices::usb {

/// A controller, as the bus sees it. Called with the bus's mutex held.
class Controller {
 public:
  virtual ~Controller() = default;
  /// The speeds that port `port` offers, fastest first.
  virtual std::vector<Speed> speeds(unsigned port) const = 0;
  /// A device came to a port or left it (port.device() says which).
  virtual void port_changed(unsigned port) = 0;
  /// A device has something to tell (any thread, without the mutex).
  virtual void device_woke() = 0;
  /// `companion` serves two ports from `first` on while they are not this controller's. Takes the mutex. False: it needs none.
  virtual bool add_companion(Controller&, unsigned) { return false; }
};

class Bus {
 public:
  /// `name` is what -device bus= calls it: "usb-bus.0".
  Bus(std::string name, unsigned ports) : name_(std::move(name)), ports_(ports) {}
  ~Bus();

  const std::string& name() const { return name_; }
  Mutex& mutex() { return mutex_; }
  unsigned ports() const { return static_cast<unsigned>(ports_.size()); }

  /// Ports count from 0. The controller that owns one hears of it; nullptr: nobody.
  /// The controller whose bus it is, companions aside.
  void set_master(Controller* master) { master_ = master; }
  Controller* master() const { return master_; }
  void set_controller(unsigned port, Controller* controller) { ports_[port].controller = controller; }
  /// Hands a port over: the old owner sees its device leave, the new one sees it come.
  void give_port(unsigned port, Controller* controller);
  Controller* controller(unsigned port) const { return ports_[port].controller; }
  UsbDevice* at(unsigned port) const { return ports_[port].device; }
  /// The device with an address behind a port, or nullptr.
  UsbDevice* find(unsigned port, u8 address) const { return at(port) ? at(port)->find(address) : nullptr; }

  /// Plugs a device into `path` ("2", "1.4"; "" = the first free port, a hub's if there is none on the root). The error says
  /// what is wrong with the path, or that no speed suits both; `device` is then left alone.
  Status plug(std::unique_ptr<UsbDevice>& device, const std::string& id, const std::string& path);
  /// Takes a device out, and everything behind it. False if it is not here.
  bool unplug(const UsbDevice& device);
  bool has_room();
  UsbDevice* find_id(const std::string& id) const;
  /// Where a device is plugged in: "1.4". "" if it is not here.
  std::string path_of(const UsbDevice& device) const;
  /// The lines of `info usb`.
  std::string describe(unsigned bus_number);
  /// All devices by path, for saved state.
  void visit(Archive& archive);
  void reset();

 private:
  struct Port {
    Controller* controller = nullptr;
    UsbDevice* device = nullptr;
  };
  struct Plugged {
    std::string path, id;
    std::unique_ptr<UsbDevice> device;
  };
  std::string free_path() const;
  Plugged* find_path(std::string_view path);
  const Plugged* find_path(std::string_view path) const { return const_cast<Bus*>(this)->find_path(path); }
  Status check_path(std::string_view path) const;
  void connect(Plugged& plugged);
  void disconnect(Plugged& plugged);
  /// The controller that `path` leads to.
  Controller* controller_of(std::string_view path) const;

  /// The fastest speed that the device and its port's controller know.
  static std::optional<Speed> common_speed(const UsbDevice& device, const std::vector<Speed>& offered);

  const std::string name_;
  Controller* master_ = nullptr;
  Mutex mutex_;
  std::vector<Port> ports_;
  std::vector<Plugged> plugged_;
};

std::string_view speed_text(Speed speed);

}  // namespace atl::devices::usb
