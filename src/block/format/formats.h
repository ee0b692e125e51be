// Image formats as nodes, for their drivers, tests and fuzz targets: each opens what a file holds. Drivers add options,
// children and creation.
#pragma once

#include "block/driver.h"
#include "block/format/mapped_node.h"

namespace atl::block {

Task<Result<NodePtr>> open_vdi_node(NodePtr file, MappedOptions options);
struct VpcOptions {
  enum Size : u8 { ByCreator, ByGeometry, ByField } size = ByCreator;
};
Task<Result<NodePtr>> open_vpc_node(NodePtr file, VpcOptions vpc, MappedOptions options);

/// How `mode` applies to a node on `file`.
inline MappedOptions mapped_options(const OpenMode& mode, const Node& file, std::string node_name) {
  return {std::move(node_name), mode.readonly || file.info().readonly, mode.discard};
}

}  // namespace atl::block
