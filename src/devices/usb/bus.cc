#include "devices/usb/bus.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"

namespace atl::devices::usb {
namespace {

constexpr unsigned kMaxDepth = 5;  // hubs in a row (USB 2.0 section 4.1.1)

unsigned root_port(std::string_view path) { return static_cast<unsigned>(parse_u64(path.substr(0, path.find('.'))).value_or(0)); }

std::string_view parent_of(std::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}

unsigned last_number(std::string_view path) {
  const size_t dot = path.rfind('.');
  return static_cast<unsigned>(parse_u64(dot == std::string_view::npos ? path : path.substr(dot + 1)).value_or(0));
}

}  // namespace

std::string_view speed_text(Speed speed) {
  constexpr std::string_view kTexts[] = {"1.5", "12", "480", "5000"};
  return kTexts[static_cast<size_t>(speed)];
}

Bus::~Bus() {
  for (Plugged& p : plugged_) p.device->leaving();
}

Bus::Plugged* Bus::find_path(std::string_view path) {
  auto found = std::ranges::find(plugged_, path, &Plugged::path);
  return found == plugged_.end() ? nullptr : &*found;
}

UsbDevice* Bus::find_id(const std::string& id) const {
  auto found = std::ranges::find(plugged_, id, &Plugged::id);
  return found == plugged_.end() || id.empty() ? nullptr : found->device.get();
}

std::string Bus::path_of(const UsbDevice& device) const {
  auto found = std::ranges::find_if(plugged_, [&](const Plugged& p) { return p.device.get() == &device; });
  return found == plugged_.end() ? std::string() : found->path;
}

std::string Bus::free_path() const {
  for (unsigned port = 1; port <= ports(); ++port)
    if (std::string path = std::to_string(port); !find_path(path)) return path;
  for (const Plugged& hub : plugged_)
    for (unsigned port = 1; port <= hub.device->ports(); ++port)
      if (std::string path = fmt::format("{}.{}", hub.path, port); !find_path(path)) return path;
  return {};
}

Status Bus::check_path(std::string_view path) const {
  const auto parts = split(path, '.');
  for (std::string_view part : parts)
    if (parse_u64(part).value_or(0) == 0) return Error(ErrorKind::Invalid, fmt::format("'{}' is not a USB port", path));
  if (find_path(path)) return Error(ErrorKind::Busy, fmt::format("usb port {} (bus {}) is in use", path, name_));
  const std::string_view parent = parent_of(path);
  const Plugged* hub = parent.empty() ? nullptr : find_path(parent);
  const unsigned room = parent.empty() ? ports() : hub ? hub->device->ports() : 0;
  if (last_number(path) <= room && parts.size() <= kMaxDepth + 1) return {};
  return Error(ErrorKind::NotFound, fmt::format("usb port {} (bus {}) not found", path, name_));
}

Controller* Bus::controller_of(std::string_view path) const { return ports_[root_port(path) - 1].controller; }

bool Bus::has_room() {
  Lock lock(mutex_);
  return !free_path().empty();
}

Status Bus::plug(std::unique_ptr<UsbDevice>& device, const std::string& id, const std::string& path) {
  Lock lock(mutex_);
  const std::string place = path.empty() ? free_path() : path;
  if (place.empty()) {
    return Error(ErrorKind::NoSpace, fmt::format("tried to attach usb device {} to a bus with no free ports", device->type()));
  }
  TRY(check_path(place));
  Controller* controller = controller_of(place);
  const bool behind_hub = place.find('.') != std::string::npos;
  const std::vector<Speed> offered = !controller ? std::vector<Speed>{} :
                                     behind_hub ? std::vector{Speed::Full, Speed::Low} : controller->speeds(root_port(place) - 1);
  const auto speed = common_speed(*device, offered);
  if (!speed) {
    return Error(ErrorKind::Unsupported, fmt::format("Warning: speed mismatch trying to attach usb device \"{}\" to bus \"{}\", port \"{}\"",
                                                     device->product(), name_, place));
  }
  device->set_speed(*speed);
  device->on_wake = [controller] { controller->device_woke(); };
  plugged_.push_back({place, id, std::move(device)});
  connect(plugged_.back());
  return {};
}

std::optional<Speed> Bus::common_speed(const UsbDevice& device, const std::vector<Speed>& offered) {
  auto speed = std::ranges::find_if(offered, [&](Speed s) { return device.supports(s); });
  return speed == offered.end() ? std::nullopt : std::optional(*speed);
}

void Bus::connect(Plugged& plugged) {
  const std::string_view parent = parent_of(plugged.path);
  if (!parent.empty()) return find_path(parent)->device->set_child(last_number(plugged.path), plugged.device.get());
  const unsigned port = root_port(plugged.path) - 1;
  ports_[port].device = plugged.device.get();
  if (ports_[port].controller) ports_[port].controller->port_changed(port);
}

void Bus::disconnect(Plugged& plugged) {
  const std::string_view parent = parent_of(plugged.path);
  if (Plugged* hub = parent.empty() ? nullptr : find_path(parent)) return hub->device->set_child(last_number(plugged.path), nullptr);
  const unsigned port = root_port(plugged.path) - 1;
  ports_[port].device = nullptr;
  if (ports_[port].controller) ports_[port].controller->port_changed(port);
}

bool Bus::unplug(const UsbDevice& device) {
  std::vector<Plugged> gone;
  {
    Lock lock(mutex_);
    auto found = std::ranges::find_if(plugged_, [&](const Plugged& p) { return p.device.get() == &device; });
    if (found == plugged_.end()) return false;
    disconnect(*found);
    const std::string path = found->path, below = path + ".";
    std::erase_if(plugged_, [&](Plugged& p) {
      if (p.path != path && !p.path.starts_with(below)) return false;
      gone.push_back(std::move(p));
      return true;
    });
  }
  for (Plugged& p : gone) p.device->leaving();
  return true;
}

void Bus::give_port(unsigned port, Controller* controller) {
  Port& p = ports_[port];
  if (p.controller == controller) return;
  UsbDevice* device = std::exchange(p.device, nullptr);
  if (device && p.controller) p.controller->port_changed(port);
  p.controller = controller;
  p.device = device;
  if (!device || !controller) return;
  for (Plugged& plugged : plugged_)
    if (root_port(plugged.path) - 1 == port) plugged.device->on_wake = [controller] { controller->device_woke(); };
  if (const auto speed = common_speed(*device, controller->speeds(port))) device->set_speed(*speed);
  controller->port_changed(port);
}

std::string Bus::describe(unsigned bus_number) {
  Lock lock(mutex_);
  std::string out;
  for (const Plugged& p : plugged_) {
    out += fmt::format("  Device {}.{}, Port {}, Speed {} Mb/s, Product {}{}{}\n", bus_number, p.device->address(), p.path,
                       speed_text(p.device->speed()), p.device->product(), p.id.empty() ? "" : ", ID: ", p.id);
  }
  return out;
}

void Bus::visit(Archive& archive) {
  Lock lock(mutex_);
  u32 number = 1;
  for (Plugged& p : plugged_) archive.part(number++, p.path.c_str(), [&](Archive& part) { p.device->visit(part); });
}

void Bus::reset() {
  Lock lock(mutex_);
  for (Plugged& p : plugged_) p.device->bus_reset();
}

}  // namespace atl::devices::usb
