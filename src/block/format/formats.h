// Image formats as nodes, for their drivers, tests and fuzz targets: each opens what a file holds. Drivers add options,
// children and creation.
#pragma once

#include "block/driver.h"
#include "block/format/mapped_node.h"

namespace atl::block {

Task<Result<NodePtr>> open_vdi_node(NodePtr file, MappedOptions options);
Task<Result<NodePtr>> open_vhdx_node(NodePtr file, MappedOptions options);
/// Those with a backing file record it; replace_child("backing") sets it.
Task<Result<NodePtr>> open_qed_node(NodePtr file, MappedOptions options);
/// `password` opens encrypted images; nothing leaves them closed.
Task<Result<NodePtr>> open_qcow_node(NodePtr file, std::optional<std::string> password, MappedOptions options);
/// `to_check`: an image that was not closed may be opened for writing.
Task<Result<NodePtr>> open_parallels_node(NodePtr file, bool to_check, MappedOptions options);
struct VpcOptions {
  enum Size : u8 { ByCreator, ByGeometry, ByField } size = ByCreator;
};
Task<Result<NodePtr>> open_vpc_node(NodePtr file, VpcOptions vpc, MappedOptions options);

/// How a vmdk descriptor's other files are opened, by their names as written.
class VmdkExtents {
 public:
  virtual ~VmdkExtents() = default;
  virtual Task<Result<NodePtr>> open(std::string name) = 0;
};
Task<Result<NodePtr>> open_vmdk_node(NodePtr file, VmdkExtents& opener, MappedOptions options);

Task<Result<NodePtr>> open_bochs_node(NodePtr file, MappedOptions options);
Task<Result<NodePtr>> open_cloop_node(NodePtr file, MappedOptions options);
Task<Result<NodePtr>> open_dmg_node(NodePtr file, MappedOptions options);
/// The driver's open() of a format that cannot be written and has no options.
Task<Result<NodePtr>> open_read_only_format(Graph& graph, Json options, OpenMode mode, std::string node_name,
                                            const char* driver,
                                            Task<Result<NodePtr>> (*open)(NodePtr file, MappedOptions options));

/// Opens the backing file that the image records, or that the options tell instead, and puts `node` on it.
Task<Status> attach_backing(Graph& graph, OptionReader& reader, Node& node, const Node& file, OpenMode mode);

/// How `mode` applies to a node on `file`.
inline MappedOptions mapped_options(const OpenMode& mode, const Node& file, std::string node_name) {
  return {std::move(node_name), mode.readonly || file.info().readonly, mode.discard};
}

}  // namespace atl::block
