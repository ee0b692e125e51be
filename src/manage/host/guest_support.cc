#include "manage/host/guest_support.h"

namespace atl::manage::host {

namespace {

constexpr Choice kChoices[] = {
    {"disk", "diskDevice", "disk cdrom floppy"},
    {"disk", "bus", "ide fdc scsi virtio sata"},
    {"disk", "model", "virtio virtio-transitional virtio-non-transitional"},
    {"graphics", "type", "vnc"},
    {"video", "modelType", "vga virtio none bochs"},
    {"rng", "model", "virtio virtio-transitional virtio-non-transitional"},
    {"rng", "backendModel", "random builtin"},
    {"tpm", "model", "tpm-tis tpm-crb"},
    {"tpm", "backendModel", "emulator"},
    {"tpm", "backendVersion", "1.2 2.0"},
    {"channel", "type", "pty unix"},
};

}  // namespace

std::span<const Choice> device_choices() { return kChoices; }

}  // namespace atl::manage::host
