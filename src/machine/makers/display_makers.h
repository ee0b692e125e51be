// Makers of display adapters and virtio input devices, for device_makers.cc.
#pragma once

#include "machine/makers/device_makers.h"
#include "machine/property_reader.h"

namespace atl::machine {

/// "VGA", "secondary-vga", "bochs-display".
Result<MadeDevice> make_vga(const PropertyReader& p, const MakerContext& context);
/// "virtio-gpu-pci", "virtio-vga".
Result<MadeDevice> make_virtio_gpu(const PropertyReader& p, const MakerContext& context);
Result<MadeDevice> make_virtio_vga(const PropertyReader& p, const MakerContext& context);
/// "virtio-keyboard-pci" and the like.
Result<MadeDevice> make_virtio_input(const PropertyReader& p, const MakerContext& context);

}  // namespace atl::machine
