// The ports of a machine's virtio-serial controllers: virtconsole and virtserialport devices. Control thread.
#pragma once

#include <string>
#include <vector>

#include "base/thread.h"
#include "devices/virtio/console.h"
#include "machine/config.h"

namespace atl::machine {

bool is_console_port(std::string_view type);

class ConsolePorts {
 public:
  void add_controller(const std::string& id, devices::VirtioConsole& console, LoopThread& thread);
  /// Before the controller is destroyed; the users that its ports had.
  std::vector<std::string> forget_controller(const devices::VirtioConsole& console);
  /// `user`: its id, or its path if it has none. The bus is the property "bus", or the first controller.
  Status plug(const DeviceConfig& device, const std::string& user, devices::VirtioConsolePort port);
  /// False if there is no such port.
  bool unplug(const std::string& user);
  bool has(const std::string& user) const;

 private:
  struct Controller {
    std::string id;
    devices::VirtioConsole* console;
    LoopThread* thread;
  };
  struct Port {
    std::string user;
    Controller controller;
    u32 number;
    CharBackend* backend;
  };
  Result<Controller> find_bus(const DeviceConfig& device) const;

  std::vector<Controller> controllers_;
  std::vector<Port> ports_;
};

}  // namespace atl::machine
