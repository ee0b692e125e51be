#include "block/format/qcow2_cache.h"

#include <limits.h>

#include <algorithm>
#include <cstring>

#include "base/math.h"
#include "base/task_group.h"
#include "block/format/qcow2_io.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kMinSlices = 8;
constexpr unsigned kWritesAtOnce = 8;
constexpr size_t kSlicesPerWrite = 256;

}  // namespace

Bytes::Bytes(u64 size) : size_(size) {
  data_.reset(static_cast<u8*>(std::aligned_alloc(kPageSize, align_up(std::max<u64>(size, 1), kPageSize))));
  CHECK(data_ != nullptr);
  std::memset(data_.get(), 0, size);
}

/// A read in flight and the requests that wait for it: two of them would race with changes made in between.
struct Cache::Load {
  std::vector<std::coroutine_handle<>> waiters;
  Result<Ref> result = Ref();
};

struct Cache::WaitForLoad {
  Load& load;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) { load.waiters.push_back(waiter); }
  void await_resume() const {}
};

Cache::Cache(Node& file, u64 slice_bytes, u64 limit_bytes) : file_(file), slice_bytes_(slice_bytes), limit_(0) {
  set_limit(limit_bytes);
}

Cache::~Cache() { CHECK(loads_.empty()); }

void Cache::set_limit(u64 limit_bytes) { limit_ = std::max(limit_bytes / slice_bytes_, kMinSlices); }

Task<Result<Cache::Ref>> Cache::get(u64 offset) {
  offset = align_down(offset, slice_bytes_);
  if (auto found = slices_.find(offset); found != slices_.end()) {
    found->second->used = true;
    co_return found->second;
  }
  if (auto loading = loads_.find(offset); loading != loads_.end()) {
    // The result is kept alive by the waiter's own copy: the load ends with its first owner.
    Load& load = *loading->second;
    WaitForLoad wait{load};
    co_await wait;
    co_return load.result;
  }
  Load load;
  loads_[offset] = &load;
  auto slice = std::make_shared<Slice>();
  slice->offset = offset;
  slice->bytes = Bytes(slice_bytes_);
  Status status = co_await read_padded(file_, offset, slice->bytes.span());
  loads_.erase(offset);
  if (status)
    load.result = insert(std::move(slice));
  else
    load.result = Error(status.error());
  for (auto waiter : std::exchange(load.waiters, {})) waiter.resume();
  co_return load.result;
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
}

void Cache::drop(u64 offset, u64 bytes) {
  for (u64 at = offset; at < offset + bytes; at += slice_bytes_)
    if (slices_.contains(at)) erase(at);
}

void Cache::clear() {
  slices_.clear();
  order_.clear();
  dirty_.clear();
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
  Status status = co_await file_.write(slices.front()->offset, parts, kNoFlags);
  CO_TRY(std::move(status));
  for (const Ref& slice : slices) {
    slice->dirty = false;
    dirty_.erase(slice->offset);
  }
  co_return Status{};
}

}  // namespace atl::block::qcow2
