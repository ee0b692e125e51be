#include "block/format/qcow2_cache.h"

#include <algorithm>

#include "block/iovecs.h"

namespace atl::block {

Task<Status> read_padded(Node& file, u64 offset, std::span<const iovec> out) {
  u64 size = iovec_bytes(out), file_bytes = file.size_bytes();
  u64 inside = offset < file_bytes ? std::min(size, file_bytes - offset) : 0;
  if (inside == size) co_return co_await file.read(offset, out);
  iovec_clear(out, inside);
  if (inside == 0) co_return Status{};
  auto part = iovec_slice(out, 0, inside);
  co_return co_await file.read(offset, part);
}

Task<Status> write_growing(Node& file, u64 offset, std::span<const iovec> data) {
  u64 end = offset + iovec_bytes(data);
  if (end > file.size_bytes()) {
    Status status = co_await file.resize(end, Preallocation::Off);
    CO_TRY(std::move(status));
  }
  co_return co_await file.write(offset, data, kNoFlags);
}

Task<Status> write_growing(Node& file, u64 offset, std::span<const u8> data) {
  iovec whole{const_cast<u8*>(data.data()), data.size()};  // only written from
  co_return co_await write_growing(file, offset, std::span<const iovec>(&whole, 1));
}

Task<Result<MetaCache::Ref>> MetaCache::get(u64 offset) {
  if (auto found = clusters_.find(offset); found != clusters_.end()) {
    found->second->last_use = ++clock_;
    co_return found->second;
  }
  auto cluster = std::make_shared<MetaCluster>();
  cluster->offset = offset;
  cluster->bytes.resize(cluster_bytes_);
  iovec whole{cluster->bytes.data(), cluster_bytes_};
  Status status = co_await read_padded(file_, offset, {&whole, 1});
  CO_TRY(std::move(status));
  co_return insert(std::move(cluster));
}

/// If another request loaded the same cluster meanwhile, that one counts.
MetaCache::Ref MetaCache::insert(Ref cluster) {
  if (auto found = clusters_.find(cluster->offset); found != clusters_.end()) return found->second;
  make_room();
  cluster->last_use = ++clock_;
  clusters_[cluster->offset] = cluster;
  return cluster;
}

MetaCache::Ref MetaCache::add(u64 offset, std::vector<u8> bytes) {
  clusters_.erase(offset);
  auto cluster = std::make_shared<MetaCluster>();
  cluster->offset = offset;
  cluster->bytes = std::move(bytes);
  cluster->bytes.resize(cluster_bytes_);
  cluster->dirty = true;
  return insert(std::move(cluster));
}

void MetaCache::make_room() {
  if (clusters_.size() < limit_) return;
  auto oldest = clusters_.end();
  for (auto at = clusters_.begin(); at != clusters_.end(); ++at) {
    bool removable = !at->second->dirty && at->second.use_count() == 1;
    if (removable && (oldest == clusters_.end() || at->second->last_use < oldest->second->last_use)) oldest = at;
  }
  if (oldest != clusters_.end()) clusters_.erase(oldest);
}

bool MetaCache::has_dirty() const {
  return std::any_of(clusters_.begin(), clusters_.end(), [](auto& entry) { return entry.second->dirty; });
}

Task<Status> MetaCache::write_back() {
  std::vector<Ref> dirty;
  for (auto& entry : clusters_)
    if (entry.second->dirty) dirty.push_back(entry.second);
  std::sort(dirty.begin(), dirty.end(), [](const Ref& a, const Ref& b) { return a->offset < b->offset; });
  for (Ref& cluster : dirty) {
    Status status = co_await write_growing(file_, cluster->offset, cluster->bytes);
    CO_TRY(std::move(status));
    cluster->dirty = false;
  }
  co_return Status{};
}

}  // namespace atl::block
