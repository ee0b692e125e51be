#include "machine/console_ports.h"

#include <algorithm>

#include <fmt/core.h>

#include "machine/property_reader.h"

namespace atl::machine {

bool is_console_port(std::string_view type) { return type == "virtconsole" || type == "virtserialport"; }

void ConsolePorts::add_controller(const std::string& id, devices::VirtioConsole& console, LoopThread& thread) {
  controllers_.push_back({id, &console, &thread});
}

std::vector<std::string> ConsolePorts::forget_controller(const devices::VirtioConsole& console) {
  std::vector<std::string> users;
  for (const Port& port : ports_)
    if (port.controller.console == &console) users.push_back(port.user);
  std::erase_if(ports_, [&](const Port& p) { return p.controller.console == &console; });
  std::erase_if(controllers_, [&](const Controller& c) { return c.console == &console; });
  return users;
}

Result<ConsolePorts::Controller> ConsolePorts::find_bus(const DeviceConfig& device) const {
  const std::string bus(PropertyReader(device).text("bus"));
  auto found = std::ranges::find_if(controllers_, [&](const Controller& c) { return bus.empty() || (!c.id.empty() && bus == c.id + ".0"); });
  if (found != controllers_.end()) return *found;
  if (!bus.empty()) return Error(ErrorKind::NotFound, fmt::format("Bus '{}' not found", bus));
  return Error(ErrorKind::NotFound, fmt::format("No 'virtio-serial-bus' bus found for device '{}'", device.type));
}

Status ConsolePorts::plug(const DeviceConfig& device, const std::string& user, devices::VirtioConsolePort port) {
  const Controller controller = TRY(find_bus(device));
  CharBackend* backend = port.backend;
  std::optional<Result<devices::VirtioConsole::Added>> added;
  controller.thread->run_on([&] { added = controller.console->add(std::move(port)); });
  if (!*added) return std::move(*added).error();
  if (backend) backend->attach(std::move((**added).frontend));
  ports_.push_back({user, controller, (**added).number, backend});
  return {};
}

bool ConsolePorts::unplug(const std::string& user) {
  auto found = std::ranges::find(ports_, user, &Port::user);
  if (found == ports_.end()) return false;
  found->controller.thread->run_on([&] { found->controller.console->remove(found->number); });
  if (found->backend) found->backend->detach();
  ports_.erase(found);
  return true;
}

bool ConsolePorts::has(const std::string& user) const { return std::ranges::find(ports_, user, &Port::user) != ports_.end(); }

}  // namespace atl::machine
