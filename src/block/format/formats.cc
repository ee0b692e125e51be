#include "block/format/formats.h"

#include <fmt/format.h>

namespace atl::block {

Task<Status> attach_backing(Graph& graph, OptionReader& reader, Node& node, const Node& file, OpenMode mode) {
  Image* image = node.image();
  std::string name = image->backing_file(), format = image->backing_format();
  Result<NodePtr> opened = co_await graph.open_backing(reader, std::move(name), std::move(format), file, mode);
  NodePtr backing = CO_TRY(std::move(opened));
  if (!backing) co_return Status{};
  co_return node.replace_child("backing", std::move(backing));
}

Task<Result<NodePtr>> open_read_only_format(Graph& graph, Json options, OpenMode mode, std::string node_name,
                                            const char* driver,
                                            Task<Result<NodePtr>> (*open)(NodePtr file, MappedOptions options)) {
  OptionReader reader(std::move(options), driver);
  if (!mode.readonly && !mode.auto_readonly)
    co_return Error(ErrorKind::Permission, fmt::format("Block node is read-only: {} images cannot be written", driver),
                    EACCES);
  mode.readonly = true;
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  CO_TRY(reader.finish());
  MappedOptions mapped = mapped_options(mode, *file, std::move(node_name));
  co_return co_await open(std::move(file), std::move(mapped));
}

}  // namespace atl::block
