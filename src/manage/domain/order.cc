// The order in which libvirt prints elements, and what is left out of a stored definition.
#include <algorithm>
#include <array>
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
    "video", "hub", "watchdog", "memballoon", "rng", "panic", "vsock"};
constexpr std::string_view kDisk[] = {"driver", "auth", "source", "backingStore", "mirror", "target", "iotune", "readonly", "shareable",
                                      "transient", "serial", "wwn", "vendor", "product", "encryption", "boot", "alias", "address"};
constexpr std::string_view kInterface[] = {"mac", "source", "virtualport", "ip", "route", "target", "guest", "model", "driver", "backend",
                                           "filterref", "tune", "link", "mtu", "bandwidth", "vlan", "port", "boot", "rom", "alias", "address"};
constexpr std::string_view kOs[] = {"type", "firmware", "loader", "nvram", "kernel", "initrd", "cmdline", "dtb", "boot", "bootmenu", "smbios",
                                    "bios"};
constexpr std::string_view kCputune[] = {"shares", "period", "quota", "global_period", "global_quota", "emulator_period", "emulator_quota",
                                         "iothread_period", "iothread_quota", "vcpupin", "emulatorpin", "iothreadpin"};
constexpr std::string_view kPm[] = {"suspend-to-mem", "suspend-to-disk"};
constexpr std::string_view kBlkiotune[] = {"weight", "device"};
constexpr std::string_view kBlkioDevice[] = {"path", "weight", "read_iops_sec", "write_iops_sec", "read_bytes_sec", "write_bytes_sec"};
constexpr std::string_view kCpu[] = {"model", "vendor", "topology", "cache", "maxphysaddr", "feature", "numa"};
constexpr std::string_view kPort[] = {"source", "protocol", "log", "target", "alias", "address"};

size_t rank(std::span<const std::string_view> order, const Element& element) {
  auto place = std::find(order.begin(), order.end(), element.name());
  return static_cast<size_t>(place - order.begin());
}

/// Of devices without an order of their own: these come last.
constexpr std::string_view kLast[] = {"boot", "alias", "address"};

struct AttributeOrder {
  std::string_view element;
  std::array<std::string_view, 8> first;
};
constexpr AttributeOrder kAttributes[] = {{"controller", {"type", "index", "model", "ports"}}, {"loader", {"readonly", "secure", "type", "stateless"}}, {"disk", {"type", "device", "model", "snapshot"}},
                                          {"graphics", {"type", "port", "autoport", "listen"}}, {"input", {"type", "bus", "model"}},
                                          {"driver", {"name", "type", "cache", "error_policy", "rerror_policy", "io", "discard", "iothread"}},
                                          {"vcpu", {"placement", "cpuset", "current"}}, {"cpu", {"mode", "match", "check", "migratable"}},
                                          {"topology", {"sockets", "dies", "cores", "threads"}}, {"type", {"arch", "machine"}},
                                          {"target", {"type", "port"}}};

void sort_attributes(Element& element) {
  auto found = std::ranges::find(kAttributes, element.name(), &AttributeOrder::element);
  if (found == std::end(kAttributes)) return;
  auto attributes = element.attributes();
  auto place = [&](const auto& attribute) { return std::ranges::find(found->first, attribute.first) - found->first.begin(); };
  std::ranges::stable_sort(attributes, {}, place);
  element.set_attributes(std::move(attributes));
}

void put_last(Element& device) {
  auto place = [](const Element& child) {
    auto found = std::ranges::find(kLast, child.name());
    return found == std::end(kLast) ? -1 : found - std::begin(kLast);
  };
  device.content().sort([&](const Element& a, const Element& b) { return place(a) < place(b); });
}

void sort_children(Element& parent, std::span<const std::string_view> order) {
  parent.content().remove_if([](const Element& child) { return child.is_text(); });
  parent.content().sort([&](const Element& a, const Element& b) { return rank(order, a) < rank(order, b); });
}

}  // namespace

void put_in_order(Element& domain) {
  sort_children(domain, kTop);
  if (Element* os = domain.child("os")) {
    sort_children(*os, kOs);
    for (const char* part : {"loader", "type"})
      if (Element* element = os->child(part)) sort_attributes(*element);
  }
  if (Element* vcpu = domain.child("vcpu")) sort_attributes(*vcpu);
  if (Element* pm = domain.child("pm")) sort_children(*pm, kPm);
  if (Element* cpu = domain.child("cpu")) {
    sort_children(*cpu, kCpu);
    sort_attributes(*cpu);
    if (Element* topology = cpu->child("topology")) sort_attributes(*topology);
  }
  if (Element* tune = domain.child("cputune")) sort_children(*tune, kCputune);
  if (Element* tune = domain.child("blkiotune")) {
    sort_children(*tune, kBlkiotune);
    for (Element* device : each(*tune, "device")) sort_children(*device, kBlkioDevice);
  }
  Element& devices = devices_of(domain);
  sort_children(devices, kDevices);
  for (Element& device : devices.content()) {
    sort_attributes(device);
    if (device.name() != "disk" && device.name() != "interface" && device.name() != "serial" && device.name() != "console" && device.name() != "channel")
      put_last(device);
    if (device.name() == "disk") sort_children(device, kDisk);
    else if (device.name() == "interface") sort_children(device, kInterface);
    else if (device.name() == "serial" || device.name() == "console" || device.name() == "channel") sort_children(device, kPort);
    if (device.name() == "disk" && device.child("driver")) sort_attributes(*device.child("driver"));
    if ((device.name() == "serial" || device.name() == "console") && device.child("target")) sort_attributes(*device.child("target"));
  }
}

namespace {

/// A channel's socket in the folder that a VM has while it runs (start.cc).
bool is_own_socket(const Element& device) {
  if (device.name() != "channel" || device.attribute("type") != "unix") return false;
  const std::string path = at(device, "source", "path"), target = at(device, "target", "name");
  return path.find("/vm/") != std::string::npos && path.ends_with("/" + target);
}

}  // namespace

void drop_runtime(Element& domain) {
  domain.remove_attribute("id");
  for (Element& device : devices_of(domain).content()) {
    if (device.is_text()) continue;
    if (Element* alias = device.child("alias"); alias && !alias->attribute("name").starts_with("ua-")) device.remove("alias");
    if (device.name() == "disk") {
      device.remove("backingStore");
      device.remove("mirror");
      if (Element* source = device.child("source")) source->remove_attribute("index");
    }
    if (device.name() == "interface")
      if (Element* target = device.child("target"); target && target->attribute("dev").starts_with("vnet")) {
        target->remove_attribute("dev");
        if (target->attributes().empty()) device.remove("target");
      }
    if (is_own_socket(device)) device.remove("source");
    if (device.name() == "channel" && device.child("target")) device.child("target")->remove_attribute("state");
    if (device.attribute("type") == "pty") {
      device.remove("source");
      device.remove_attribute("tty");
    }
    if (device.name() == "graphics" && device.attribute("autoport") == "yes") device.set("port", "-1");
  }
}

}  // namespace atl::manage
