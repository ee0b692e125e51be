#include "machine/usb_tree.h"

#include <algorithm>

#include <fmt/core.h>

#include "base/strings.h"
#include "devices/usb/hid.h"
#include "devices/usb/hub.h"

namespace atl::machine {
namespace {

using namespace devices;

constexpr std::string_view kDevices[] = {"usb-tablet", "usb-mouse", "usb-kbd", "usb-hub"};

Result<usb::HidOptions> hid_options(const PropertyReader& p) {
  const u64 version = p.number("usb_version");
  if (version != 1 && version != 2) return p.refuse("usb_version", "must be 1 or 2");
  return usb::HidOptions{.high_speed = version == 2, .serial = std::string(p.text("serial"))};
}

Result<std::unique_ptr<usb::UsbDevice>> build(const PropertyReader& p, display::InputRouter& router) {
  const std::string_view type = p.device().type;
  if (type == "usb-hub") {
    const u64 ports = p.number("ports");
    if (ports < 1 || ports > usb::Hub::kMaxPorts) return p.refuse("ports", "must be 1 to 8");
    return std::make_unique<usb::Hub>(static_cast<unsigned>(ports));
  }
  usb::HidOptions options = TRY(hid_options(p));
  if (type == "usb-kbd") return std::make_unique<usb::Keyboard>(router, std::move(options));
  const auto mode = type == "usb-tablet" ? usb::Pointer::Mode::Tablet : usb::Pointer::Mode::Mouse;
  return std::make_unique<usb::Pointer>(mode, router, std::move(options));
}

}  // namespace

bool is_usb_device(std::string_view type) { return std::ranges::find(kDevices, type) != std::end(kDevices); }

std::string UsbTree::name_of_bus(const std::string& controller_id) const {
  if (!controller_id.empty()) return controller_id + ".0";
  unsigned number = 0;
  while (find_bus(fmt::format("usb-bus.{}", number))) ++number;
  return fmt::format("usb-bus.{}", number);
}

std::shared_ptr<usb::Bus> UsbTree::find_bus(std::string_view name) const {
  auto found = std::ranges::find_if(buses_, [&](const Entry& e) { return e.bus->name() == name; });
  return found == buses_.end() ? nullptr : found->bus;
}

void UsbTree::remove_bus(const Device* controller) {
  std::erase_if(buses_, [&](const Entry& e) { return e.controller == controller; });
}

Status UsbTree::plug(const DeviceConfig& device, display::InputRouter& router) {
  auto built = TRY(build(PropertyReader(device), router));
  usb::UsbDevice& plugged = *built;
  auto place = attach(device, built);
  if (place) return {};
  plugged.leaving();
  return std::move(place).error();
}

Result<UsbTree::Place> UsbTree::attach(const DeviceConfig& device, std::unique_ptr<usb::UsbDevice>& built) {
  const PropertyReader p(device);
  const std::string name(p.text("bus")), port(p.text("port"));
  if (buses_.empty()) return Error(ErrorKind::NotFound, fmt::format("No 'usb-bus' bus found for device '{}'", device.type));
  std::shared_ptr<usb::Bus> bus = name.empty() ? nullptr : find_bus(name);
  if (!name.empty() && !bus) return Error(ErrorKind::NotFound, fmt::format("Bus '{}' not found", name));
  if (!bus) {
    auto roomy = std::ranges::find_if(buses_, [](const Entry& e) { return e.bus->has_room(); });
    bus = roomy == buses_.end() ? buses_.front().bus : roomy->bus;
  }
  TRY(bus->plug(built, device.id, port));
  auto entry = std::ranges::find_if(buses_, [&](const Entry& e) { return e.bus == bus; });
  return Place{std::move(bus), entry->controller};
}

std::pair<usb::Bus*, usb::UsbDevice*> UsbTree::find_device(const std::string& id) const {
  for (const Entry& e : buses_)
    if (usb::UsbDevice* device = e.bus->find_id(id)) return {e.bus.get(), device};
  return {};
}

bool UsbTree::unplug(const std::string& id) {
  auto [bus, device] = find_device(id);
  return device && bus->unplug(*device);
}

std::string UsbTree::describe() const {
  std::string out;
  for (unsigned i = 0; i < buses_.size(); ++i) out += buses_[i].bus->describe(i);
  return out.empty() && buses_.empty() ? "USB support not enabled\n" : out;
}

}  // namespace atl::machine
