#include "manage/host/guest_support.h"

namespace atl::manage::host {

namespace {

constexpr MachineType kMachines[] = {
    {"pc-i440fx-7.2", "", 255}, {"pc", "pc-i440fx-7.2", 255}, {"pc-q35-7.2", "", 255},
    {"q35", "pc-q35-7.2", 255}, {"microvm", "", 255},
};

constexpr Choice kChoices[] = {
    {"disk", "diskDevice", "disk cdrom floppy"},
    {"disk", "bus", "ide fdc scsi virtio sata"},
    {"disk", "model", "virtio virtio-transitional virtio-non-transitional"},
    {"graphics", "type", "vnc"},
    {"video", "modelType", "vga virtio none"},
    {"rng", "model", "virtio virtio-transitional virtio-non-transitional"},
    {"rng", "backendModel", "random builtin"},
    {"channel", "type", "pty unix"},
};

}  // namespace

std::span<const MachineType> machine_types() { return kMachines; }

const MachineType* find_machine(std::string_view name) {
  for (const MachineType& machine : kMachines)
    if (machine.name == name) return &machine;
  return nullptr;
}

std::span<const Choice> device_choices() { return kChoices; }

}  // namespace atl::manage::host
