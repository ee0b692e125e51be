// USB controllers from their properties.
#pragma once

#include "machine/makers/device_makers.h"
#include "machine/property_reader.h"

namespace atl::machine {

/// UHCI, EHCI and xHCI by their type.
Result<MadeDevice> make_usb_controller(const PropertyReader& p, const MakerContext& context);

}  // namespace atl::machine
