// Dirty bitmaps of block nodes.
#include <fmt/format.h>

#include "control/qmp/block_support.h"
#include "machine/persistent_bitmaps.h"

namespace atl::control {
namespace {

using block::DirtyBitmap;

constexpr u64 kGranularity = 65536;

struct Found {
  BlockStore::Located at;
  std::shared_ptr<DirtyBitmap> bitmap;
};

Result<Found> find_bitmap(QmpContext& c, const std::string& node, const std::string& name) {
  auto located = TRY(find_node(c, node));
  auto bitmap = located.place->thread.run_on([&]() -> std::shared_ptr<DirtyBitmap> {
    auto* entry = located.place->find_bitmap_entry(*located.node, name);
    return entry ? entry->bitmap : nullptr;
  });
  if (!bitmap) return Error(ErrorKind::NotFound, fmt::format("Dirty bitmap '{}' not found", name));
  return Found{std::move(located), std::move(bitmap)};
}

Result<Found> find_idle_bitmap(QmpContext& c, const Json& arguments) {
  auto found = TRY(find_bitmap(c, text_argument(arguments, "node"), text_argument(arguments, "name")));
  if (found.bitmap->busy)
    return Error(ErrorKind::Busy, fmt::format("Bitmap '{}' is currently in use by another operation and cannot be used",
                                              found.bitmap->name()));
  return found;
}

/// A copy of what the bitmap holds, to be put back.
std::shared_ptr<DirtyBitmap> copy_of(const DirtyBitmap& bitmap) {
  auto copy = std::make_shared<DirtyBitmap>("copy", bitmap.size_bytes(), bitmap.granularity());
  copy->merge(bitmap);
  return copy;
}

void put_bitmap(BlockStore::Place& place, const block::NodePtr& node, std::shared_ptr<DirtyBitmap> bitmap) {
  block::Observation observation(place.graph, *node, *bitmap);
  place.bitmaps.push_back({node, std::move(bitmap), std::move(observation)});
}

void drop_bitmap(BlockStore::Place& place, const DirtyBitmap& bitmap) {
  place.bitmaps.remove_if([&](const auto& entry) { return entry.bitmap.get() == &bitmap; });
}

Undo restore_content(Found found) {
  auto saved = found.at.place->thread.run_on([&] { return copy_of(*found.bitmap); });
  return [found = std::move(found), saved] {
    found.at.place->thread.run_on([&] {
      found.bitmap->clear_all();
      found.bitmap->merge(*saved);
    });
  };
}

Status update(const Found& found) {
  return finish_on(found.at.place->thread, [&] { return machine::update_stored_bitmap(*found.at.place, found.at.node, found.bitmap); });
}

Result<Undo> set_enabled(QmpContext& c, const Json& arguments, bool enabled) {
  TRY(check_arguments({"", "node:s name:s", nullptr}, arguments));
  auto found = TRY(find_idle_bitmap(c, arguments));
  auto& thread = found.at.place->thread;
  bool before = thread.run_on([&] { return std::exchange(found.bitmap->enabled, enabled); });
  TRY(update(found));
  return Undo([&thread, bitmap = found.bitmap, before] { thread.run_on([&] { bitmap->enabled = before; }); });
}

}  // namespace

Result<Undo> bitmap_add(QmpContext& c, const Json& arguments) {
  TRY(check_arguments({"", "node:s name:s granularity?:i persistent?:b disabled?:b", nullptr}, arguments));
  auto located = TRY(find_node(c, text_argument(arguments, "node")));
  const std::string name = text_argument(arguments, "name");
  if (name.empty()) return Error(ErrorKind::Invalid, "Bitmap name cannot be empty");
  u64 granularity = number_argument(arguments, "granularity").value_or(kGranularity);
  TRY(DirtyBitmap::check_granularity(granularity));
  BlockStore::Place& place = *located.place;
  if (place.thread.run_on([&] { return place.find_bitmap(*located.node, name) != nullptr; }))
    return Error(ErrorKind::Exists, fmt::format("Bitmap already exists: {}", name));
  auto bitmap = std::make_shared<DirtyBitmap>(name, located.node->size_bytes(), static_cast<u32>(granularity));
  bitmap->enabled = !flag_argument(arguments, "disabled", false);
  bitmap->persistent = flag_argument(arguments, "persistent", false);
  if (bitmap->persistent)
    TRY(finish_on(place.thread, [&] { return machine::make_persistent(place, located.node, *bitmap); }));
  place.thread.run_on([&] { put_bitmap(place, located.node, bitmap); });
  return Undo([&place, node = located.node, bitmap] {
    place.thread.run_on([&] { drop_bitmap(place, *bitmap); });
    if (bitmap->persistent)
      static_cast<void>(finish_on(place.thread, [&] { return machine::remove_stored_bitmap(place, node, bitmap->name()); }));
  });
}

/// One that was not closed properly is in the image only, and can but be removed.
static Result<Undo> remove_inconsistent(QmpContext& c, const Json& arguments, Error error) {
  if (error.kind() != ErrorKind::NotFound) return error;
  auto located = find_node(c, text_argument(arguments, "node"));
  if (!located) return error;
  BlockStore::Place& place = *located->place;
  TRY(finish_on(place.thread, [&] { return machine::remove_stored_bitmap(place, located->node, text_argument(arguments, "name")); }));
  return Undo();
}

Result<Undo> bitmap_remove(QmpContext& c, const Json& arguments) {
  TRY(check_arguments({"", "node:s name:s", nullptr}, arguments));
  auto idle = find_idle_bitmap(c, arguments);
  if (!idle) return remove_inconsistent(c, arguments, std::move(idle).error());
  Found found = std::move(*idle);
  BlockStore::Place& place = *found.at.place;
  if (found.bitmap->persistent)
    TRY(finish_on(place.thread, [&] { return machine::remove_stored_bitmap(place, found.at.node, found.bitmap->name()); }));
  place.thread.run_on([&] { drop_bitmap(place, *found.bitmap); });
  return Undo([found = std::move(found)] {
    found.at.place->thread.run_on([&] { put_bitmap(*found.at.place, found.at.node, found.bitmap); });
  });
}

Result<Undo> bitmap_clear(QmpContext& c, const Json& arguments) {
  TRY(check_arguments({"", "node:s name:s", nullptr}, arguments));
  auto found = TRY(find_idle_bitmap(c, arguments));
  Undo undo = restore_content(found);
  found.at.place->thread.run_on([&] { found.bitmap->clear_all(); });
  return undo;
}

Result<Undo> bitmap_enable(QmpContext& c, const Json& arguments) { return set_enabled(c, arguments, true); }
Result<Undo> bitmap_disable(QmpContext& c, const Json& arguments) { return set_enabled(c, arguments, false); }

Result<Undo> bitmap_merge(QmpContext& c, const Json& arguments) {
  TRY(check_arguments({"", "node:s target:s bitmaps:a", nullptr}, arguments));
  const std::string node = text_argument(arguments, "node");
  Json target_name = {{"node", node}, {"name", text_argument(arguments, "target")}};
  auto target = TRY(find_idle_bitmap(c, target_name));
  std::vector<Found> sources;
  for (const Json& item : arguments["bitmaps"]) {
    const auto* name = item.get_ptr<const std::string*>();
    if (!name && !item.is_object()) return Error(ErrorKind::Invalid, "Invalid parameter type for 'bitmaps'");
    sources.push_back(TRY(name ? find_bitmap(c, node, *name) : find_bitmap(c, text_argument(item, "node"), text_argument(item, "name"))));
    if (sources.back().bitmap->size_bytes() != target.bitmap->size_bytes())
      return Error(ErrorKind::Invalid, fmt::format("Bitmaps are of different sizes (destination size is {} and source size is {}) and can't be merged",
                                                   target.bitmap->size_bytes(), sources.back().bitmap->size_bytes()));
  }
  Undo undo = restore_content(target);
  for (const Found& source : sources) {
    auto copy = source.at.place->thread.run_on([&] { return copy_of(*source.bitmap); });
    target.at.place->thread.run_on([&] { target.bitmap->merge(*copy); });
  }
  TRY(update(target));
  return undo;
}

namespace {

template <Result<Undo> (*action)(QmpContext&, const Json&)>
Reply command(QmpContext& c, const Json& arguments) {
  TRY(action(c, arguments));
  return Json::object();
}

constexpr QmpCommand kCommands[] = {
    {"block-dirty-bitmap-add", "*", command<bitmap_add>},
    {"block-dirty-bitmap-remove", "*", command<bitmap_remove>},
    {"block-dirty-bitmap-clear", "*", command<bitmap_clear>},
    {"block-dirty-bitmap-enable", "*", command<bitmap_enable>},
    {"block-dirty-bitmap-disable", "*", command<bitmap_disable>},
    {"block-dirty-bitmap-merge", "*", command<bitmap_merge>},
};

}  // namespace

std::span<const QmpCommand> bitmap_commands() { return kCommands; }

}  // namespace atl::control
