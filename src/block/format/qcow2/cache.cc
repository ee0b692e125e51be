#include "block/format/qcow2/cache.h"

#include <limits.h>

#include <algorithm>
#include <cstring>

#include "base/math.h"
#include "base/task_group.h"
#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kMinSlices = 8;
constexpr unsigned kWritesAtOnce = 8;
constexpr size_t kSlicesPerWrite = 256;
constexpr u64 kReadAheadBytes = 64 * kKiB;
constexpr u64 kMinPaged = 32 * kKiB;

}  // namespace

Bytes::Bytes(u64 size) {
  *this = for_overwrite(size);
  std::memset(data_.get(), 0, size);
}

Bytes Bytes::for_overwrite(u64 size) {
  // Small ones on pages of their own would take twice their size.
  const u64 alignment = size < kMinPaged ? kSectorBytes : kPageSize;
  Bytes bytes;
  bytes.size_ = size;
  bytes.data_.reset(static_cast<u8*>(std::aligned_alloc(alignment, align_up(std::max<u64>(size, 1), alignment))));
  CHECK(bytes.data_ != nullptr);
  return bytes;
}

/// A read in flight of some slices in a row, and the requests that wait for it: two of them would race with changes made in
/// between.
struct Cache::Load {
  u64 offset = 0;   // of the slice that it is for; the others come along
  std::vector<Ref> slices;
  std::vector<std::coroutine_handle<>> waiters;
  std::optional<Result<Ref>> result;   // none: what was read has been overtaken by a change

  bool owns(const std::unordered_map<u64, Load*>& loads, u64 at) const {
    auto found = loads.find(at);
    return found != loads.end() && found->second == this;
  }
};

struct Cache::WaitForLoad {
  Load& load;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) { load.waiters.push_back(waiter); }
  void await_resume() const {}
};

Cache::Cache(Node& file, u64 slice_bytes, u64 table_bytes, u64 limit_bytes, Steps steps)
    : file_(file), debug_(file.debug_points()), steps_(steps), slice_bytes_(slice_bytes), table_bytes_(table_bytes), limit_(0) {
  set_limit(limit_bytes);
}

Cache::~Cache() { CHECK(loads_.empty()); }

void Cache::set_limit(u64 limit_bytes) { limit_ = std::max(limit_bytes / slice_bytes_, kMinSlices); }

Task<Result<Cache::Ref>> Cache::get(u64 offset) {
  offset = align_down(offset, slice_bytes_);
  while (true) {
    if (auto found = slices_.find(offset); found != slices_.end()) {
      found->second->used = true;
      co_return found->second;
    }
    auto loading = loads_.find(offset);
    if (loading == loads_.end()) break;
    // The result is kept alive by the waiter's own copy: the load ends with its first owner.
    Load& load = *loading->second;
    WaitForLoad wait{load};
    co_await wait;
    if (load.offset == offset && load.result) co_return *load.result;
  }
  co_return co_await load(offset);
}

/// Where a read of the slice at `offset` ends: with it, or with its table if the table is being read in a row.
u64 Cache::load_end(u64 offset) const {
  const bool in_a_row = offset % table_bytes_ == 0 || slices_.contains(offset - slice_bytes_);
  u64 end = offset + slice_bytes_;
  if (!in_a_row) return end;
  const u64 most = std::min(align_down(offset, table_bytes_) + table_bytes_, offset + limit_ / 4 * slice_bytes_);
  while (end < most && end - offset < kReadAheadBytes && !slices_.contains(end) && !loads_.contains(end)) end += slice_bytes_;
  return end;
}

Task<Result<Cache::Ref>> Cache::load(u64 offset) {
  Load load;
  load.offset = offset;
  std::vector<iovec> parts;
  for (u64 at = offset, end = load_end(offset); at < end; at += slice_bytes_) {
    auto slice = std::make_shared<Slice>();
    slice->offset = at;
    slice->bytes = Bytes::for_overwrite(slice_bytes_);
    parts.push_back(slice->bytes.vec());
    load.slices.push_back(std::move(slice));
    loads_[at] = &load;
  }
  debug_step(debug_, steps_.load);
  Status status = co_await read_padded(file_, offset, parts);
  if (!status && parts.size() > 1) {  // the part that was asked for may be readable
    iovec first = load.slices[0]->bytes.vec();
    status = co_await read_padded(file_, offset, std::span<const iovec>(&first, 1));
    parts.resize(1);
  }
  if (!status) load.result = Error(status.error());
  for (size_t i = 0; i < load.slices.size(); ++i) {
    const u64 at = offset + i * slice_bytes_;
    if (!load.owns(loads_, at)) continue;
    loads_.erase(at);
    if (!status || i >= parts.size()) continue;
    Ref slice = insert(std::move(load.slices[i]));
    if (i == 0) load.result = std::move(slice);
  }
  for (auto waiter : std::exchange(load.waiters, {})) waiter.resume();
  if (load.result) co_return *load.result;
  co_return co_await get(offset);
}

/// What was added meanwhile counts more than what was read.
Cache::Ref Cache::insert(Ref slice) {
  if (auto found = slices_.find(slice->offset); found != slices_.end()) return found->second;
  make_room();
  slices_[slice->offset] = slice;
  order_.push_back(slice->offset);
  return slice;
}

Cache::Ref Cache::add(u64 offset) {
  erase(offset);
  auto slice = std::make_shared<Slice>();
  slice->offset = offset;
  slice->bytes = Bytes(slice_bytes_);
  insert(slice);
  mark_dirty(slice);
  return slice;
}

void Cache::mark_dirty(const Ref& slice) {
  if (slice->dirty) return;
  slice->dirty = true;
  dirty_[slice->offset] = slice;
}

void Cache::erase(u64 offset) {
  if (auto found = slices_.find(offset); found != slices_.end()) {
    slices_.erase(found);
    order_.remove(offset);
  }
  dirty_.erase(offset);
  loads_.erase(offset);   // what is being read is out of date
}

void Cache::drop(u64 offset, u64 bytes) {
  for (u64 at = offset; at < offset + bytes; at += slice_bytes_)
    if (slices_.contains(at) || loads_.contains(at)) erase(at);
}

void Cache::clear() {
  slices_.clear();
  order_.clear();
  dirty_.clear();
  loads_.clear();
}

/// The clock algorithm: a slice that was used since the hand last passed gets another round.
void Cache::make_room() {
  for (size_t looked = 0, most = 2 * order_.size(); slices_.size() >= limit_ && looked < most; ++looked) {
    auto found = slices_.find(order_.front());
    bool keep = found->second->dirty || found->second.use_count() > 1 || std::exchange(found->second->used, false);
    if (keep) {
      order_.splice(order_.end(), order_, order_.begin());
      continue;
    }
    slices_.erase(found);
    order_.pop_front();
  }
}

void Cache::drop_unused() {
  for (auto at = order_.begin(); at != order_.end();) {
    auto found = slices_.find(*at);
    bool keep = found->second->dirty || found->second.use_count() > 1 || std::exchange(found->second->used, false);
    if (keep) {
      ++at;
      continue;
    }
    slices_.erase(found);
    at = order_.erase(at);
  }
}

Task<Status> Cache::write_back() {
  if (dirty_.empty()) co_return Status{};
  Status grown = co_await grow_to(file_, dirty_.rbegin()->first + slice_bytes_);
  CO_TRY(std::move(grown));
  TaskGroup group(kWritesAtOnce);
  std::vector<Ref> row;
  std::vector<Ref> all;
  for (auto& entry : dirty_) all.push_back(entry.second);
  for (size_t i = 0; i < all.size(); ++i) {
    row.push_back(all[i]);
    bool goes_on = i + 1 < all.size() && all[i + 1]->offset == all[i]->offset + slice_bytes_;
    if (goes_on && row.size() < kSlicesPerWrite) continue;
    (void)co_await group.room();  // an error is told at the end
    group.add(write_slices(std::exchange(row, {})));
  }
  co_return co_await group.all();
}

Task<Status> Cache::write_slices(std::vector<Ref> slices) {
  std::vector<iovec> parts;
  for (const Ref& slice : slices) parts.push_back(slice->bytes.vec());
  debug_step(debug_, steps_.update);
  Status status = co_await file_.write(slices.front()->offset, parts, kNoFlags);
  CO_TRY(std::move(status));
  for (const Ref& slice : slices) {
    slice->dirty = false;
    dirty_.erase(slice->offset);
  }
  co_return Status{};
}

}  // namespace atl::block::qcow2
