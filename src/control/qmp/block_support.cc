#include "control/qmp/block_support.h"

#include <fmt/format.h>

#include <filesystem>

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
  return Error(ErrorKind::NotFound, "Cannot find device='' nor node-name=''");
}

namespace {

/// Names of one file are alike whatever way they take through folders.
std::string canonical(const std::string& name) {
  if (block::has_protocol(name)) return name;
  std::error_code error;
  auto path = std::filesystem::weakly_canonical(name, error);
  return error ? name : path.string();
}

}  // namespace

NodePtr find_in_chain(const block::Graph& graph, const NodePtr& top, const std::string& filename) {
  for (NodePtr node = block::below_filters(top); node;) {
    NodePtr below = block::backing_of(*node);
    if (!below) return nullptr;
    const std::string name = graph.name_of(*block::below_filters(below));
    const std::string wanted = block::resolve_backing_name(filename, node->info().filename);
    if (filename == name || canonical(wanted) == canonical(name)) return below;
    node = block::below_filters(below);
  }
  return nullptr;
}

Status check_idle(const BlockStore::Located& located) {
  return located.place->thread.run_on([&]() -> Status {
    auto user = located.place->jobs.user_of(*located.node);
    if (!user) return {};
    const bool is_drive = located.drive && located.drive->config.from_drive_option;
    const std::string name = is_drive ? located.drive->config.id : located.node->info().node_name;
    return Error(ErrorKind::Busy, fmt::format("Node '{}' is busy: block device is in use by block job: {}", name, user->type()));
  });
}

Task<Result<NodePtr>> open_new_image(block::Graph& graph, NodePtr source, NewImage image) {
  const block::NodeInfo below = source->info();
  // An image that is there already shows itself what it is.
  if (image.format.empty() && image.create) image.format = image.backed ? "qcow2" : below.driver;
  const block::Driver* driver = block::find_driver(image.format);
  if (!driver && !image.format.empty()) co_return Error(ErrorKind::Invalid, fmt::format("Unknown driver '{}'", image.format));
  if (image.backed && driver && !driver->supports_backing)
    co_return Error(ErrorKind::Unsupported, fmt::format("Backing file not supported for file format '{}'", image.format));
  if (image.create) {
    Json options = {{"size", std::to_string(image.size_bytes.value_or(source->size_bytes()))}};
    if (image.backed) {
      options["backing_file"] = graph.name_of(*source);
      options["backing_fmt"] = below.driver;
    }
    Status created = co_await graph.create(*driver, image.filename, std::move(options));
    CO_TRY(std::move(created));
  }
  Json tree = {{"filename", image.filename}};
  if (driver) tree["driver"] = image.format;
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
