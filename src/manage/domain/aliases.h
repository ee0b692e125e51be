// What a running domain's tree has beyond its definition: aliases of devices and numbers of block nodes, as libvirt names them.
#pragma once

#include <string>

#include "manage/domain/tree.h"

namespace atl::manage {

/// Gives every device that has none its alias, and every disk's source its index.
void assign_aliases(Element& domain);
/// The same for one device that is about to join a running domain.
void assign_alias(const Element& domain, Element& device);
/// "" if the device has none.
inline std::string alias_of(const Element& device) { return at(device, "alias", "name"); }

/// The block node that a disk's device reads from: "libvirt-1-format"; "" without a medium.
std::string disk_node(const Element& disk);
/// The lowest index that no source of the domain has yet.
u64 next_source_index(const Element& domain);

}  // namespace atl::manage
