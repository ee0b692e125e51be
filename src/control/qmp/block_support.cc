#include "control/qmp/block_support.h"

#include <fmt/format.h>

namespace atl::control {

using block::NodePtr;

bool flag_argument(const Json& arguments, const char* name, bool fallback) {
  auto at = arguments.find(name);
  const auto* flag = at == arguments.end() ? nullptr : at->get_ptr<const bool*>();
  return flag ? *flag : fallback;
}

Result<BlockStore::Located> find_node(QmpContext& c, const std::string& name) { return store(c).locate(name); }

Result<BlockStore::Located> find_node(QmpContext& c, const Json& arguments) {
  for (const char* key : {"device", "node-name", "node"}) {
    std::string name = text_argument(arguments, key);
    if (!name.empty()) return find_node(c, name);
  }
  return Error(ErrorKind::Invalid, "Must specify either device or node-name");
}

NodePtr find_in_chain(const NodePtr& top, const std::string& filename) {
  for (NodePtr node = top; node; node = block::backing_of(*node)) {
    if (node->info().filename == filename) return node;
  }
  return nullptr;
}

Status check_idle(const BlockStore::Located& located) {
  bool used = located.place->thread.run_on([&] { return located.place->jobs.uses(*located.node); });
  if (!used) return {};
  return Error(ErrorKind::Busy, fmt::format("Node '{}' is busy: block device is in use by block job", located.node->info().node_name));
}

Task<Result<NodePtr>> open_new_image(block::Graph& graph, NodePtr source, NewImage image) {
  const block::NodeInfo below = source->info();
  if (image.format.empty()) image.format = image.backed ? "qcow2" : below.driver;
  const block::Driver* driver = block::find_driver(image.format);
  if (!driver) co_return Error(ErrorKind::Invalid, fmt::format("Unknown driver '{}'", image.format));
  if (image.backed && !driver->supports_backing)
    co_return Error(ErrorKind::Unsupported, fmt::format("Backing file not supported for file format '{}'", image.format));
  if (image.create) {
    Json options = {{"size", std::to_string(source->size_bytes())}};
    if (image.backed) {
      options["backing_file"] = below.filename;
      options["backing_fmt"] = below.driver;
    }
    Status created = co_await graph.create(*driver, image.filename, std::move(options));
    CO_TRY(std::move(created));
  }
  Json tree = {{"driver", image.format}, {"filename", image.filename}};
  if (!image.node_name.empty()) tree["node-name"] = image.node_name;
  if (image.backed && image.open_backing) tree["backing"] = below.node_name;
  block::OpenMode mode;
  mode.cache_direct = below.cache_direct;
  mode.cache_no_flush = below.cache_no_flush;
  mode.discard = below.can_discard;
  mode.no_backing = !image.open_backing;
  co_return co_await graph.open(std::move(tree), std::move(mode));
}

}  // namespace atl::control
