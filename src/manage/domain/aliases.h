// What a running domain's tree has beyond its definition: aliases of devices and numbers of block nodes, as libvirt names them.
#pragma once

#include <string>
#include <vector>

#include <string>

#include "manage/domain/tree.h"

namespace atl::manage {

/// Gives every device that has none its alias.
void assign_aliases(Element& domain);
/// The first images of all disks get their numbers, the last disk's first, as with libvirt.
void number_sources(Element& domain);
/// The same for one device that is about to join a running domain.
void assign_alias(const Element& domain, Element& device);
/// "" if the device has none.
inline std::string alias_of(const Element& device) { return at(device, "alias", "name"); }

/// The block node that a disk's device reads from: "libvirt-1-format"; "" without a medium.
std::string disk_node(const Element& disk);
/// The names of the two nodes of the image with that number; the first is "" without one.
std::string format_node(const std::string& index);
std::string storage_node(const std::string& index);
/// The numbers of a disk's images, from the one that is written to down to the base.
std::vector<std::string> chain_indexes(const Element& disk);

}  // namespace atl::manage
