// What the block commands share: finding nodes, running tasks on their loops, undoing.
#pragma once

#include <functional>
#include <string>

#include <nlohmann/json.hpp>

#include "control/qmp/command.h"
#include "machine/block_store.h"

namespace atl::control {

using Json = nlohmann::json;
using Reply = Result<Json>;
using machine::BlockStore;

/// Takes back what an action of a transaction did. May be empty.
using Undo = std::function<void()>;

inline BlockStore& store(QmpContext& c) { return c.vm.machine().blocks(); }
inline Reply done(Status status) {
  if (!status) return std::move(status).error();
  return Json::object();
}
bool flag_argument(const Json& arguments, const char* name, bool fallback);

/// The node that "device" or "node-name" names.
Result<BlockStore::Located> find_node(QmpContext& c, const Json& arguments);
Result<BlockStore::Located> find_node(QmpContext& c, const std::string& name);
/// The node below `top` whose file is called so: by the name that the image above records, or by the whole one. On its loop.
block::NodePtr find_in_chain(const block::Graph& graph, const block::NodePtr& top, const std::string& filename);
/// An error if a job works with the node.
Status check_idle(const BlockStore::Located& located);

/// Creates an image file of the size of `source` (with it as backing file, if asked for) and opens it. On the place's loop.
struct NewImage {
  std::string filename, format, node_name;
  bool create = true;
  bool backed = false;      // by the source
  std::optional<u64> size_bytes;   // not that of the source
  bool open_backing = true; // false: it stays closed, for the target of a mirror
};
Task<Result<block::NodePtr>> open_new_image(block::Graph& graph, block::NodePtr source, NewImage image);

Reply blockdev_reopen(QmpContext& c, const Json& arguments);    // reopen.cc
Reply blockdev_create(QmpContext& c, const Json& arguments);    // create_image.cc

// Actions that transactions have, too.
Result<Undo> snapshot_sync(QmpContext& c, const Json& arguments);
Result<Undo> snapshot(QmpContext& c, const Json& arguments);
Result<Undo> snapshot_internal(QmpContext& c, const Json& arguments);
Result<Undo> start_blockdev_backup(QmpContext& c, const Json& arguments);
Result<Undo> start_drive_backup(QmpContext& c, const Json& arguments);
Result<Undo> bitmap_add(QmpContext& c, const Json& arguments);
Result<Undo> bitmap_remove(QmpContext& c, const Json& arguments);
Result<Undo> bitmap_clear(QmpContext& c, const Json& arguments);
Result<Undo> bitmap_enable(QmpContext& c, const Json& arguments);
Result<Undo> bitmap_disable(QmpContext& c, const Json& arguments);
Result<Undo> bitmap_merge(QmpContext& c, const Json& arguments);

}  // namespace atl::control
