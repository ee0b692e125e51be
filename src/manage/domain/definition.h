// From the XML that a client sends to a normalised tree: checked, completed with defaults, implied devices and addresses, in
// libvirt's order. Reading a normalised tree again changes nothing.
//
// XML: https://libvirt.org/formatdomain.html. What has no meaning here is kept as it came (metadata, titles, elements that
// only describe); what would change the VM and cannot be had is refused by name (support.h).
#pragma once

#include <string>
#include <string_view>

#include "manage/domain/tree.h"

namespace atl::manage {

/// What the host gives to a definition that leaves it open.
struct DefinitionHost {
  std::string emulator = "/usr/bin/atoll-vmm";
  std::string state = "/var/lib/atoll";  // the daemon's folder of what it keeps
};

/// Any definition, of a running domain too (whose run-time parts are dropped).
Result<Element> read_definition(std::string_view text, const DefinitionHost& host);
/// The same for a tree that was changed: fills in what is new and checks all of it.
Status complete_definition(Element& domain, const DefinitionHost& host);
/// The address of a disk on a bus of drives, from its name; one that has an address keeps it.
void place_drive(Element& disk);
/// One device as attach and update take it, completed as if it stood in the domain (which is not changed); its address still open.
Result<Element> read_device(std::string_view text, const Element& domain);

/// The machine's versioned name; an error if there is no such machine.
Result<std::string> versioned_machine(std::string_view name);

// Steps of completing, each in its own file.
/// support.cc: refuses what cannot be had, by name.
Status check_support(const Element& domain);
/// defaults.cc: everything but devices.
Status fill_defaults(Element& domain);
/// device_defaults.cc: one device as it stands.
Status fill_device_defaults(Element& device, const Element& domain);
/// implied_devices.cc: controllers, consoles, input devices, video and balloon that others imply.
void add_implied_devices(Element& domain, const DefinitionHost& host);
/// order.cc: libvirt's order of elements.
void put_in_order(Element& domain);
/// order.cc: drops what only a running domain has: aliases, generated names, ids.
void drop_runtime(Element& domain);

}  // namespace atl::manage
