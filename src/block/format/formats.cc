#include "block/format/formats.h"

namespace atl::block {

Task<Status> attach_backing(Graph& graph, OptionReader& reader, Node& node, const Node& file, OpenMode mode) {
  Image* image = node.image();
  std::string name = image->backing_file(), format = image->backing_format();
  Result<NodePtr> opened = co_await graph.open_backing(reader, std::move(name), std::move(format), file, mode);
  NodePtr backing = CO_TRY(std::move(opened));
  if (!backing) co_return Status{};
  co_return node.replace_child("backing", std::move(backing));
}

}  // namespace atl::block
