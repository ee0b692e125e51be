// The order in which libvirt prints elements, and what is left out of a stored definition.
#include <algorithm>
#include <span>

#include "manage/domain/definition.h"

namespace atl::manage {
namespace {

constexpr std::string_view kTop[] = {
    "name", "uuid", "genid", "title", "description", "metadata", "maxMemory", "memory", "currentMemory", "blkiotune", "memtune",
    "memoryBacking", "vcpu", "vcpus", "iothreads", "iothreadids", "cputune", "numatune", "resource", "sysinfo", "os", "features", "cpu",
    "clock", "on_poweroff", "on_reboot", "on_crash", "on_lockfailure", "pm", "devices", "seclabel"};
constexpr std::string_view kDevices[] = {
    "emulator", "disk", "controller", "interface", "serial", "console", "channel", "input", "tpm", "graphics", "audio",
    "video", "watchdog", "memballoon", "rng", "panic", "vsock"};
constexpr std::string_view kDisk[] = {"driver", "auth", "source", "backingStore", "mirror", "target", "iotune", "readonly", "shareable",
                                      "transient", "serial", "wwn", "vendor", "product", "encryption", "boot", "alias", "address"};
constexpr std::string_view kInterface[] = {"mac", "source", "virtualport", "ip", "route", "target", "guest", "model", "driver", "backend",
                                           "filterref", "tune", "link", "mtu", "bandwidth", "vlan", "port", "boot", "rom", "alias", "address"};
constexpr std::string_view kPort[] = {"source", "protocol", "log", "target", "alias", "address"};

size_t rank(std::span<const std::string_view> order, const Element& element) {
  auto place = std::find(order.begin(), order.end(), element.name());
  return static_cast<size_t>(place - order.begin());
}

void sort_children(Element& parent, std::span<const std::string_view> order) {
  parent.content().remove_if([](const Element& child) { return child.is_text(); });
  parent.content().sort([&](const Element& a, const Element& b) { return rank(order, a) < rank(order, b); });
}

}  // namespace

void put_in_order(Element& domain) {
  sort_children(domain, kTop);
  Element& devices = devices_of(domain);
  sort_children(devices, kDevices);
  for (Element& device : devices.content()) {
    if (device.name() == "disk") sort_children(device, kDisk);
    if (device.name() == "interface") sort_children(device, kInterface);
    if (device.name() == "serial" || device.name() == "console" || device.name() == "channel") sort_children(device, kPort);
  }
}

void drop_runtime(Element& domain) {
  domain.remove_attribute("id");
  for (Element& device : devices_of(domain).content()) {
    if (device.is_text()) continue;
    if (Element* alias = device.child("alias"); alias && !alias->attribute("name").starts_with("ua-")) device.remove("alias");
    if (device.name() == "disk") {
      device.remove("backingStore");
      if (Element* source = device.child("source")) source->remove_attribute("index");
    }
    if (device.name() == "interface")
      if (Element* target = device.child("target"); target && target->attribute("dev").starts_with("vnet")) {
        target->remove_attribute("dev");
        if (target->attributes().empty()) device.remove("target");
      }
    if (device.attribute("type") == "pty") {
      device.remove("source");
      device.remove_attribute("tty");
    }
    if (device.name() == "graphics" && device.attribute("autoport") == "yes") device.set("port", "-1");
  }
}

}  // namespace atl::manage
