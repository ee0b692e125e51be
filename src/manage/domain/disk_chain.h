// The images that a disk is made of: the one that is written to, and those that it is based on. In the tree of what runs they are
// <source> and nested <backingStore> elements, each with the number that is in the names of its block nodes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "manage/domain/domains.h"

namespace atl::manage {

struct ChainImage {
  std::string index, path, format;
};
/// From the one that is written to down to the base.
std::vector<ChainImage> chain_of(const Element& disk);
/// The place in chain_of() of an image that a client names: "vda[3]", or a path.
Result<size_t> find_image(const Element& disk, const std::string& name);

/// Writes <backingStore> from the images' headers, and gives the files to the VM. Images keep the numbers that `known` has by path.
Status describe_chain(RunningVm& vm, Element& disk, const std::string& path, const std::map<std::string, std::string>& known = {});

/// What a disk reads from now, as the VM says: jobs and snapshots change it.
struct Medium {
  std::string alias, target, node, file, format;
};
/// The running domain's disk with this target or path; InvalidArg with libvirt's words if there is none.
Result<Medium> medium_of(const Domain& domain, const std::string& path);
/// The trees of what runs and of the definition follow the VM, so that the next start finds the disk's data. Nodes and files that
/// are not part of the disk any more are let go. Under the domain's job.
Status follow_medium(Domains& domains, Domain& domain, const std::string& target);

}  // namespace atl::manage
