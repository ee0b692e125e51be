// Expansion ROM images. PCI Firmware Specification 3.0 section 5.1 (header and PCIR structure).
// Supported: files of several images, whose vendor and device numbers are made those of the function that carries them.
// Missing: building images.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "devices/pci/function.h"

namespace atl::devices {

/// Writes vendor and device into every image of `rom` and corrects the checksums. False: it is no option ROM.
bool patch_option_rom(std::span<u8> rom, u16 vendor, u16 device);
/// Gives `function` the ROM in file `path`, patched to its own numbers. The error names the file.
Status add_option_rom(PciFunction& function, const std::string& path);

}  // namespace atl::devices
