#include "block/format/qcow2/bitmaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {

Task<Status> load_bitmaps(Core& core) {
  core.bitmaps = std::make_unique<Bitmaps>(core);
  if (!core.header.bitmaps) co_return Status{};
  Status status = co_await core.bitmaps->load();
  if (!status && core.options.for_check) status = {};   // which tells about it
  co_return status;
}

Task<Status> Bitmaps::load() {
  Result<std::vector<BitmapEntry>> read = co_await read_bitmap_directory(core_);
  std::vector<BitmapEntry> entries = CO_TRY(std::move(read));
  for (BitmapEntry& entry : entries) {
    auto bitmap = std::make_unique<Bitmap>(core_, std::move(entry));
    const u32 known = kBitmapInUse | kBitmapAuto | kBitmapExtraCompatible;
    const bool foreign = bitmap->entry.type != kDirtyTracking || (bitmap->entry.flags & ~known) ||
                         (!bitmap->entry.extra.empty() && !(bitmap->entry.flags & kBitmapExtraCompatible));
    if (foreign)
      co_return Error(ErrorKind::Invalid, fmt::format("Bitmap '{}' doesn't satisfy the constraints", bitmap->entry.name), EINVAL);
    if ((bitmap->entry.flags & kBitmapInUse)) bitmap->set_unusable();
    all_.push_back(std::move(bitmap));
  }
  co_return Status{};
}

bool Bitmaps::tracking() const {
  return std::ranges::any_of(all_, [](auto& bitmap) { return bitmap->usable() && bitmap->enabled(); });
}

bool Bitmaps::changed() const {
  return in_use_ || std::ranges::any_of(all_, [](auto& bitmap) { return bitmap->changed(); });
}

Task<Status> Bitmaps::mark(u64 offset, u64 bytes) {
  Status status = co_await begin_use();
  CO_TRY(std::move(status));
  for (auto& bitmap : all_) {
    if (!bitmap->usable() || !bitmap->enabled()) continue;
    status = co_await bitmap->set(offset, bytes);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

/// Several requests may come here at a time: each waits until the marks are on the disk.
Task<Status> Bitmaps::begin_use() {
  if (in_use_) co_return Status{};
  co_await core_.tables.exclusive();
  Status status;
  if (!in_use_) {
    for (auto& bitmap : all_)
      if (bitmap->usable()) bitmap->entry.flags |= kBitmapInUse;
    status = co_await write_flags();
    if (status) in_use_ = true;
  }
  core_.tables.release();
  co_return status;
}

/// The directory at its place: only flags differ.
Task<Status> Bitmaps::write_flags() {
  if (!core_.header.bitmaps) co_return Status{};
  std::vector<BitmapEntry> entries;
  for (auto& bitmap : all_) entries.push_back(bitmap->entry);
  std::vector<u8> bytes = build_bitmap_directory(entries);
  CHECK(bytes.size() <= core_.geometry().cluster_end(core_.header.bitmaps->directory_bytes));
  Status status = co_await write_growing(*core_.file, core_.header.bitmaps->directory_offset, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return co_await core_.file->flush();
}

Task<Status> Bitmaps::write_directory() {
  const Geometry& g = core_.geometry();
  std::vector<BitmapEntry> entries;
  for (auto& bitmap : all_) entries.push_back(bitmap->entry);
  std::vector<u8> bytes = build_bitmap_directory(entries);
  if (bytes.size() > kMaxBitmapDirectoryBytes || entries.size() > kMaxBitmaps)
    co_return Error(ErrorKind::NoSpace, "Too many bitmaps", EFBIG);
  Header changed = core_.header;
  changed.bitmaps.reset();
  changed.autoclear &= ~kBitmapsValid;
  if (!entries.empty()) {
    Result<Place> got = co_await core_.refcounts.allocate(g.clusters(bytes.size()), g.clusters(bytes.size()));
    const Place place = CO_TRY(std::move(got));
    Status status = co_await write_growing(*core_.file, place.offset, std::span<const u8>(bytes));
    CO_TRY(std::move(status));
    changed.bitmaps = BitmapsExtension{static_cast<u32>(entries.size()), bytes.size(), place.offset};
    changed.autoclear |= kBitmapsValid;
  }
  Status status = co_await core_.sync(true);
  CO_TRY(std::move(status));
  status = co_await write_header(*core_.file, changed);
  CO_TRY(std::move(status));
  status = co_await core_.file->flush();
  CO_TRY(std::move(status));
  if (core_.header.bitmaps)
    core_.refcounts.free_later(core_.header.bitmaps->directory_offset, g.clusters(core_.header.bitmaps->directory_bytes), FreedBy::Other);
  core_.header = std::move(changed);
  co_return Status{};
}

Task<Status> Bitmaps::store() {
  if (!changed()) co_return Status{};
  Status status = co_await core_.prepare_for_writing();
  CO_TRY(std::move(status));
  for (auto& bitmap : all_) {
    if (!bitmap->usable()) continue;
    status = co_await bitmap->store();
    CO_TRY(std::move(status));
  }
  status = co_await core_.sync(true);
  CO_TRY(std::move(status));
  for (auto& bitmap : all_)
    if (bitmap->usable()) bitmap->entry.flags &= ~kBitmapInUse;
  status = co_await write_flags();
  if (status) in_use_ = false;
  co_return status;
}

// --- changes of the list ---

Result<Bitmap*> Bitmaps::find(std::string_view name) {
  for (auto& bitmap : all_)
    if (bitmap->entry.name == name) return bitmap.get();
  return Error(ErrorKind::NotFound, fmt::format("Dirty bitmap '{}' not found", name), ENOENT);
}

Result<Bitmap*> Bitmaps::find_usable(std::string_view name) {
  Bitmap* bitmap = TRY(find(name));
  if (!bitmap->usable())
    return Error(ErrorKind::Invalid, fmt::format("Bitmap '{}' is inconsistent and cannot be used", name), EINVAL);
  return bitmap;
}

Task<Status> Bitmaps::add(BitmapInfo info) {
  if (core_.header.version < 3)
    co_return Error(ErrorKind::Unsupported, "Cannot store dirty bitmaps in qcow2 v2 files", ENOTSUP);
  if (find(info.name)) co_return Error(ErrorKind::Exists, "Bitmap already exists: " + info.name, EEXIST);
  if (info.name.empty() || info.name.size() > kMaxBitmapNameBytes)
    co_return Error(ErrorKind::Invalid, "Bitmap name must have 1 to 1023 bytes", EINVAL);
  if (!is_power_of_two(info.granularity) || info.granularity < u64{1} << kMinGranularityBits)
    co_return Error(ErrorKind::Invalid, "Granularity must be a power of two between 512 and 2 GiB", EINVAL);
  BitmapEntry entry;
  entry.name = info.name;
  entry.granularity_bits = static_cast<u8>(std::countr_zero(info.granularity));
  entry.flags = info.enabled ? kBitmapAuto : 0;
  const u64 entries = bitmap_table_entries(core_.geometry(), core_.header.size_bytes, entry.granularity_bits);
  if (8 * entries > kMaxBitmapTableBytes)
    co_return Error(ErrorKind::Invalid, "Too much space would be needed for the bitmap. Use a larger granularity", EFBIG);
  entry.table_entries = static_cast<u32>(entries);
  Status status = co_await core_.prepare_for_writing();
  CO_TRY(std::move(status));
  status = co_await store();
  CO_TRY(std::move(status));
  const u64 clusters = core_.geometry().clusters(8 * entries);
  if (clusters) {
    Result<Place> got = co_await core_.refcounts.allocate(clusters, clusters);
    entry.table_offset = CO_TRY(std::move(got)).offset;
  }
  std::vector<u64> table(entries);
  status = co_await write_bitmap_table(core_, entry, table);
  CO_TRY(std::move(status));
  all_.push_back(std::make_unique<Bitmap>(core_, std::move(entry)));
  status = co_await write_directory();
  if (!status) all_.pop_back();
  co_return status;
}

Task<Status> Bitmaps::remove(std::string name) {
  Bitmap* bitmap = CO_TRY(find(name));
  Status status = co_await core_.prepare_for_writing();
  CO_TRY(std::move(status));
  // Its clusters must be known before it is gone; one that cannot be read leaves leaks to a check.
  const bool readable = (co_await bitmap->load()).has_value();
  auto at = std::ranges::find_if(all_, [&](auto& other) { return other.get() == bitmap; });
  std::unique_ptr<Bitmap> removed = std::move(*at);
  const auto index = at - all_.begin();
  all_.erase(at);
  status = co_await write_directory();
  if (!status) {
    all_.insert(all_.begin() + index, std::move(removed));
    co_return status;
  }
  if (readable) removed->free_clusters();
  co_return co_await core_.sync(true);
}

Task<Status> Bitmaps::enable(std::string name, bool enabled) {
  Bitmap* bitmap = CO_TRY(find_usable(name));
  Status status = co_await core_.prepare_for_writing();
  CO_TRY(std::move(status));
  bitmap->entry.flags = enabled ? bitmap->entry.flags | kBitmapAuto : bitmap->entry.flags & ~kBitmapAuto;
  co_return co_await write_flags();
}

Task<Status> Bitmaps::clear(std::string name) {
  Bitmap* bitmap = CO_TRY(find_usable(name));
  Status status = co_await bitmap->clear();
  CO_TRY(std::move(status));
  in_use_ = true;   // so that the table is written before its old clusters are free
  co_return co_await store();
}

Task<Status> Bitmaps::set(std::string name, u64 offset, u64 bytes) {
  Bitmap* bitmap = CO_TRY(find_usable(name));
  Status status = co_await begin_use();
  CO_TRY(std::move(status));
  co_return co_await bitmap->set(offset, bytes);
}

Task<Status> Bitmaps::resize(u64 size_bytes) {
  if (all_.empty()) co_return Status{};
  for (auto& bitmap : all_) {
    if (!bitmap->usable()) co_return Error(ErrorKind::Invalid, fmt::format("Cannot resize: bitmap '{}' is inconsistent", bitmap->entry.name), EINVAL);
    Status status = co_await bitmap->resize(size_bytes);
    CO_TRY(std::move(status));
    bitmap->entry.flags |= kBitmapInUse;
  }
  in_use_ = true;
  co_return co_await write_directory();
}

Task<Result<std::vector<BitmapInfo>>> Bitmaps::list() {
  std::vector<BitmapInfo> infos;
  for (auto& bitmap : all_) {
    BitmapInfo info;
    info.name = bitmap->entry.name;
    info.granularity = static_cast<u32>(bitmap->granularity());
    info.enabled = bitmap->enabled();
    info.in_use = !bitmap->usable();
    if (bitmap->usable()) {
      Result<u64> dirty = co_await bitmap->dirty_bytes();
      info.dirty_bytes = CO_TRY(std::move(dirty));
    }
    infos.push_back(std::move(info));
  }
  co_return infos;
}

}  // namespace atl::block::qcow2
