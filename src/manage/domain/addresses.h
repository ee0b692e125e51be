// PCI addresses of a domain's devices: those given are checked, the others assigned in libvirt's order, so that a definition
// that moves here from libvirt, or a device added later, moves nothing else.
#pragma once

#include <bitset>
#include <map>
#include <string>

#include "manage/domain/tree.h"

namespace atl::manage {

/// One slot or function on a bus.
struct PciAddress {
  u32 domain = 0, bus = 0, slot = 0, function = 0;
  bool operator==(const PciAddress&) const = default;
};

/// The element <address type='pci'> of a device; nothing if it has none of that kind.
Result<std::optional<PciAddress>> pci_address(const Element& device);

/// Gives addresses to all devices that need one and have none.
Status assign_addresses(Element& domain);
/// The same for one device that is added to a domain.
Status assign_address(const Element& domain, Element& device);

}  // namespace atl::manage
