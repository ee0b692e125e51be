// Clusters of metadata (L2 tables, refcount blocks) in memory, written back on request.
#pragma once

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/endian.h"
#include "block/node.h"

namespace atl::block {

struct MetaCluster {
  u64 offset = 0;  // in the file
  std::vector<u8> bytes;
  bool dirty = false;
  u64 last_use = 0;

  u64 entry(u64 index) const { return load_be<u64>(&bytes[8 * index]); }
  void set_entry(u64 index, u64 value) {
    store_be(&bytes[8 * index], value);
    dirty = true;
  }
};

/// Dirty clusters stay until write_back(); clean ones go when there are too many, the longest unused first.
class MetaCache {
 public:
  using Ref = std::shared_ptr<MetaCluster>;

  MetaCache(Node& file, u64 cluster_bytes, u64 limit_bytes)
      : file_(file), cluster_bytes_(cluster_bytes), limit_(std::clamp<u64>(limit_bytes / cluster_bytes, 4, 1024)) {}

  Task<Result<Ref>> get(u64 offset);
  /// A cluster that starts out as `bytes` (zeroes if empty), dirty, whatever the file holds there.
  Ref add(u64 offset, std::vector<u8> bytes = {});
  /// Forgets a cluster that has been freed.
  void drop(u64 offset) { clusters_.erase(offset); }
  Task<Status> write_back();
  bool has_dirty() const;
  /// Dirty clusters have piled up: their owner should write them back.
  bool is_overfull() const { return clusters_.size() >= 2 * limit_; }

 private:
  Ref insert(Ref cluster);
  void make_room();

  Node& file_;
  const u64 cluster_bytes_;
  const size_t limit_;
  u64 clock_ = 0;
  std::unordered_map<u64, Ref> clusters_;
};

/// Reads from a file that may end early; the rest is zeroes.
Task<Status> read_padded(Node& file, u64 offset, std::span<const iovec> out);
/// Writes, growing the file first if it ends before.
Task<Status> write_growing(Node& file, u64 offset, std::span<const iovec> data);
Task<Status> write_growing(Node& file, u64 offset, std::span<const u8> data);

}  // namespace atl::block
