// What a domain may not ask for, because it would change the VM and atoll-vmm does not have it. Everything is refused by name
// with libvirt's CONFIG_UNSUPPORTED (67).
#include <algorithm>

#include <fmt/format.h>

#include "manage/domain/definition.h"

namespace atl::manage {
namespace {

// More than a board has room for; names and addresses are looked for one by one.
constexpr size_t kMaxDevices = 1024;
constexpr u64 kMaxIoThreads = 1024;

struct Refused {
  std::string_view path;       // from <domain>, or from <devices> for devices
  std::string_view attribute;  // "": the element at all
  std::string_view value;      // "": any
};

constexpr Refused kRefused[] = {
    {"bootloader", "", ""}, {"idmap", "", ""}, {"launchSecurity", "", ""}, {"keywrap", "", ""}, {"perf", "", ""},
    {"memoryBacking/source", "type", "file"}, {"memoryBacking/discard", "", ""}, {"maxMemory", "", ""}, {"numatune/memnode", "", ""},
    {"resource/fibrechannel", "", ""}, {"features/hyperv", "mode", "passthrough"}, {"features/smm/tseg", "", ""},
    {"features/pmu", "state", "on"}, {"os/init", "", ""}, {"vcpus", "", ""},
};

constexpr std::string_view kRefusedDevices[] = {"sound",   "hostdev", "shmem",    "memory", "filesystem", "smartcard", "redirdev",
                                                "redirfilter", "parallel", "lease",  "iommu",      "crypto",    "nvram"};

struct Refinement {
  std::string_view device, path, attribute, value;
};
// Kinds of a device that we know and lack.
constexpr Refinement kRefusedKinds[] = {
    {"disk", "", "device", "lun"},       {"disk", "", "type", "vhostuser"},
    {"disk", "", "type", "nvme"},        {"disk", "", "type", "vhostvdpa"},      
    {"disk", "target", "bus", "xen"},    {"disk", "target", "bus", "uml"},       {"disk", "target", "bus", "sd"},
    {"interface", "", "type", "hostdev"}, {"interface", "", "type", "vhostuser"}, {"interface", "", "type", "vdpa"},
    {"interface", "", "type", "server"}, {"interface", "", "type", "client"},    {"interface", "", "type", "mcast"},
    {"interface", "", "type", "udp"},    {"interface", "", "type", "internal"},  {"interface", "teaming", "", ""},
    {"interface", "virtualport", "type", "openvswitch"},
    {"graphics", "", "type", "spice"},   {"graphics", "", "type", "sdl"},        {"graphics", "", "type", "rdp"},
    {"graphics", "", "type", "desktop"}, {"graphics", "", "type", "egl-headless"}, {"graphics", "", "type", "dbus"},
    {"serial", "", "type", "spicevmc"},  {"channel", "", "type", "spicevmc"},    {"channel", "", "type", "spiceport"},
    {"serial", "", "type", "udp"},       {"console", "", "type", "udp"},         {"channel", "", "type", "udp"},
    {"channel", "target", "type", "xen"}, {"channel", "target", "type", "guestfwd"},
    {"input", "", "type", "passthrough"}, {"input", "", "type", "evdev"},
    {"input", "", "bus", "xen"},         {"video", "model", "type", "qxl"},      {"video", "model", "type", "vmvga"},
    {"video", "model", "type", "cirrus"},
    {"video", "model", "type", "xen"},   {"video", "model", "type", "ramfb"},
    {"rng", "backend", "model", "egd"},  {"tpm", "backend", "type", "passthrough"},
    {"memballoon", "", "model", "xen"},
};

Error refused(const std::string& what) { return config_unsupported(fmt::format("{} is not supported by atoll-vmm", what)); }

bool asks_for(const Element* element, std::string_view attribute, std::string_view value) {
  if (!element) return false;
  if (attribute.empty()) return true;
  const std::string* text = element->find_attribute(attribute);
  return text && (value.empty() || *text == value);
}

std::string describe(std::string_view path, std::string_view attribute, std::string_view value) {
  if (attribute.empty()) return fmt::format("<{}>", path);
  return fmt::format("<{} {}='{}'>", path, attribute, value);
}

Status check_device(const Element& device) {
  const std::string& name = device.name();
  if (std::find(std::begin(kRefusedDevices), std::end(kRefusedDevices), name) != std::end(kRefusedDevices))
    return refused(fmt::format("device <{}>", name));
  for (const auto& kind : kRefusedKinds) {
    if (kind.device != name) continue;
    const Element* place = kind.path.empty() ? &device : device.find(kind.path);
    if (!asks_for(place, kind.attribute, kind.value)) continue;
    const std::string path = kind.path.empty() ? name : fmt::format("{}/{}", name, kind.path);
    return refused(describe(path, kind.attribute, kind.value));
  }
  return {};
}

}  // namespace

Status check_support(const Element& domain) {
  for (const auto& item : kRefused)
    if (asks_for(domain.find(item.path), item.attribute, item.value)) return refused(describe(item.path, item.attribute, item.value));
  const auto devices = devices_of(domain).children();
  if (devices.size() > kMaxDevices) return config_unsupported(fmt::format("a domain has at most {} devices", kMaxDevices));
  for (const Element* device : devices) TRY(check_device(*device));
  if (const Element* threads = domain.child("iothreads"); threads && parse_u64(trim(threads->text())).value_or(0) > kMaxIoThreads)
    return config_unsupported(fmt::format("a domain has at most {} I/O threads", kMaxIoThreads));
  return {};
}

}  // namespace atl::manage
