// A device that is one function of a PCI bus.
#pragma once

#include "devices/device.h"
#include "devices/pci/function.h"

namespace atl::devices {

class PciDevice : public Device {
 public:
  /// To put on a PciBus, and to take off before this is destroyed.
  virtual PciFunction& function() = 0;
};

}  // namespace atl::devices
