#include "machine/persistent_bitmaps.h"

#include <fmt/format.h>

#include <algorithm>

namespace atl::machine {
namespace {

using block::BitmapInfo;
using block::DirtyBitmap;
using block::Image;
using block::NodePtr;

/// The node and all that it stands on, each once.
void collect(const NodePtr& node, std::vector<NodePtr>& list) {
  if (!node || std::ranges::find(list, node) != list.end()) return;
  list.push_back(node);
  for (const block::Child& child : node->children()) collect(child.node, list);
}

Task<Result<std::shared_ptr<DirtyBitmap>>> read_bitmap(Image& image, BitmapInfo info, u64 size) {
  auto bitmap = std::make_shared<DirtyBitmap>(info.name, size, info.granularity);
  for (u64 at = 0; at < size;) {
    Result<Image::BitmapRun> found = co_await image.bitmap_run(info.name, at, size - at);
    const Image::BitmapRun run = CO_TRY(std::move(found));
    if (run.dirty) bitmap->set(at, run.bytes);
    at += run.bytes;
  }
  bitmap->enabled = info.enabled;
  bitmap->persistent = true;
  co_return bitmap;
}

Task<Status> load_of_image(BlockStore::Place& place, NodePtr node) {
  Result<std::vector<BitmapInfo>> found = co_await node->image()->bitmaps();
  if (!found) co_return Status{};   // the format has none
  for (const BitmapInfo& info : *found) {
    if (info.in_use || place.find_bitmap(*node, info.name)) continue;
    Result<std::shared_ptr<DirtyBitmap>> read = co_await read_bitmap(*node->image(), info, node->size_bytes());
    std::shared_ptr<DirtyBitmap> bitmap = CO_TRY(std::move(read));
    block::Observation observation(place.graph, *node, *bitmap);
    place.bitmaps.push_back({node, std::move(bitmap), std::move(observation)});
  }
  co_return Status{};
}

bool has(const std::vector<BitmapInfo>& list, const std::string& name) {
  return std::ranges::any_of(list, [&](const BitmapInfo& info) { return info.name == name; });
}

/// The image's own copy becomes what is in memory.
Task<Status> store_bitmap(Image& image, bool is_there, std::shared_ptr<DirtyBitmap> bitmap) {
  Status status;
  BitmapInfo info;
  info.name = bitmap->name();
  info.granularity = bitmap->granularity();
  info.enabled = false;   // while its bits are set by hand
  if (is_there) status = co_await image.clear_bitmap(info.name);
  else status = co_await image.add_bitmap(info);
  for (u64 at = 0; status;) {
    auto run = bitmap->next_dirty(at);
    if (!run) break;
    status = co_await image.set_bitmap(info.name, run->offset, run->bytes);
    at = run->offset + run->bytes;
  }
  if (status) status = co_await image.enable_bitmap(info.name, bitmap->enabled);
  co_return std::move(status).context(fmt::format("Failed to store bitmap '{}'", bitmap->name()));
}

Task<Status> store_of_image(BlockStore::Place& place, NodePtr node) {
  std::vector<std::shared_ptr<DirtyBitmap>> mine;
  for (const auto& entry : place.bitmaps)
    if (entry.bitmap->persistent && entry.node.lock() == node) mine.push_back(entry.bitmap);
  if (mine.empty() || node->info().readonly) co_return Status{};
  Result<std::vector<BitmapInfo>> found = co_await node->image()->bitmaps();
  std::vector<BitmapInfo> there = CO_TRY(std::move(found));
  for (const auto& bitmap : mine) {
    Status status = co_await store_bitmap(*node->image(), has(there, bitmap->name()), bitmap);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

using Step = Task<Status> (*)(BlockStore::Place& place, NodePtr node);

/// Every image is tried; the first error counts.
Task<Status> for_each_image(BlockStore::Place& place, NodePtr top, Step step) {
  std::vector<NodePtr> nodes;
  collect(top, nodes);
  Status first;
  for (const NodePtr& node : nodes) {
    if (!node->image()) continue;
    Status status = co_await step(place, node);
    if (!status && first) first = std::move(status);
  }
  co_return first;
}

}  // namespace

Task<Status> load_bitmaps(BlockStore::Place& place, NodePtr node) { return for_each_image(place, std::move(node), load_of_image); }

Task<Status> store_bitmaps(BlockStore::Place& place, NodePtr node) { return for_each_image(place, std::move(node), store_of_image); }

Task<Status> make_persistent(BlockStore::Place& place, NodePtr node, const DirtyBitmap& bitmap) {
  BitmapInfo info;
  info.name = bitmap.name();
  info.granularity = bitmap.granularity();
  info.enabled = bitmap.enabled;
  static_cast<void>(co_await place.graph.drain());
  Status added = Error(ErrorKind::Unsupported, "Operation not supported", ENOTSUP);
  const bool has_bitmaps = node->image() && node->info().driver == "qcow2";
  if (has_bitmaps) added = co_await node->image()->add_bitmap(info);
  place.graph.resume();
  const std::string name = node->info().node_name;
  if (!added && !has_bitmaps)
    co_return Error(ErrorKind::Unsupported, fmt::format("Can't store persistent bitmaps to {}: Operation not supported", name), ENOTSUP);
  if (!added) co_return std::move(added).error().with_context(fmt::format("Can't make bitmap '{}' persistent in '{}'", info.name, name));
  co_return Status{};
}

Task<Status> update_stored_bitmap(BlockStore::Place& place, NodePtr node, std::shared_ptr<DirtyBitmap> bitmap) {
  if (!bitmap->persistent || !node->image() || node->info().readonly) co_return Status{};
  static_cast<void>(co_await place.graph.drain());
  Status status = co_await store_bitmap(*node->image(), true, std::move(bitmap));
  place.graph.resume();
  co_return status;
}

Task<Status> remove_stored_bitmap(BlockStore::Place& place, NodePtr node, std::string name) {
  Status status = Error(ErrorKind::NotFound, fmt::format("Dirty bitmap '{}' not found", name));
  if (!node->image()) co_return status;
  static_cast<void>(co_await place.graph.drain());
  // An image that a snapshot has just put under an overlay may be written for this once.
  const bool frozen = node->info().readonly && !place.graph.stays_readonly(*node);
  if (frozen) static_cast<void>(co_await node->set_readonly(false));   // else removing fails
  Result<std::vector<BitmapInfo>> found = co_await node->image()->bitmaps();
  if (found && has(*found, name)) status = co_await node->image()->remove_bitmap(name);
  if (frozen) {
    Status closed = co_await node->set_readonly(true);
    if (status) status = std::move(closed);
  }
  place.graph.resume();
  co_return status;
}

}  // namespace atl::machine
