// Devices and small objects: -device, device_add, -object, object-add.
#include <unistd.h>

#include <fmt/format.h>

#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

// Names without a bus mean the one that the board has; the longer names of virtio over PCI differ in features that only
// pre-1.0 drivers use.
struct Alias {
  std::string_view name, pc, microvm;
};
constexpr Alias kAliases[] = {
    {"virtio-blk", "virtio-blk-pci", "virtio-blk-device"},
    {"virtio-net", "virtio-net-pci", "virtio-net-device"},
    {"virtio-scsi", "virtio-scsi-pci", "virtio-scsi-device"},
    {"virtio-rng", "virtio-rng-pci", "virtio-rng-device"},
    {"virtio-serial", "virtio-serial-pci", "virtio-serial-device"},
    {"virtio-balloon", "virtio-balloon-pci", "virtio-balloon-device"},
};

}  // namespace

std::string board_device_name(std::string_view type, machine::BoardKind board) {
  for (const auto& alias : kAliases) {
    if (alias.name != type) continue;
    auto name = board == machine::BoardKind::Microvm ? alias.microvm : alias.pc;
    return std::string(name.empty() ? type : name);
  }
  return std::string(type);
}

Result<machine::DeviceConfig> device_from_values(KeyValues values) {
  machine::DeviceConfig device;
  device.type = TRY(values.take_required("driver"));
  device.id = values.take("id").value_or("");
  if (!device.id.empty()) TRY(check_id(device.id));
  for (const auto& entry : values.entries()) device.properties.emplace_back(entry.key, entry.value);
  return device;
}

Result<machine::RngConfig> rng_from_values(KeyValues values) {
  machine::RngConfig rng;
  std::string type = TRY(values.take_required("qom-type"));
  if (type != "rng-random" && type != "rng-builtin")
    return invalid(fmt::format("Parameter 'qom-type' does not accept value '{}'", type));
  rng.id = TRY(values.take_required("id"));
  TRY(check_id(rng.id));
  if (type == "rng-random") rng.path = values.take("filename").value_or(rng.path);
  if (::access(rng.path.c_str(), R_OK) != 0) return os_error(fmt::format("Could not open '{}'", rng.path));
  TRY(values.expect_empty());
  return rng;
}

}  // namespace atl::control
