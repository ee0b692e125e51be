// Which clusters of a qcow2 image are in use: the refcount table and its blocks. Calls must not overlap.
#pragma once

#include <vector>

#include "block/format/qcow2.h"
#include "block/format/qcow2_cache.h"

namespace atl::block {

class Qcow2Allocator {
 public:
  /// `header` outlives this; its refcount table fields follow when the table moves.
  Qcow2Allocator(Node& file, Qcow2Header& header);

  Task<Status> load();
  Task<Result<u64>> refcount(u64 cluster);
  struct Clusters {
    u64 offset = 0;  // of the first
    u64 count = 0;
  };
  /// Free clusters in a row, each with refcount 1 from now on: `at_most`, or what there is in one place if that is
  /// `at_least`.
  Task<Result<Clusters>> allocate(u64 at_least, u64 at_most);
  /// Takes one reference from a cluster once what pointed to it is gone from the disk, see release_pending().
  void free_later(u64 offset) { pending_.push_back(offset); }
  /// Puts what was allocated on the disk. Flushes only where the order of writes demands it.
  Task<Status> write_back();
  /// To be called when the tables that pointed to freed clusters have been written and flushed.
  Task<Status> release_pending();
  bool is_overfull() const { return blocks_.is_overfull(); }
  bool is_dirty() const { return table_dirty_ || !pending_.empty() || blocks_.has_dirty(); }

 private:
  Task<Result<MetaCache::Ref>> block_of(u64 cluster);
  Task<Status> provide_block(u64 cluster);
  Task<Status> set_refcount(u64 cluster, u64 value);
  Task<Status> grow_table();
  Task<Status> write_table();
  void add_block_at(u64 cluster);
  std::vector<u8> table_bytes() const;
  u64 offset_of(u64 cluster) const { return cluster << geometry_.cluster_bits; }

  Node& file_;
  Qcow2Header& header_;
  const qcow2::Geometry geometry_;
  MetaCache blocks_;
  std::vector<u64> table_;  // offsets of blocks; 0: none yet
  bool table_dirty_ = false;
  u64 first_free_ = 1;  // no cluster below is free, but for gaps that were too small
  u64 end_of_use_ = 0;  // no cluster from here on can be in use: bounds the search in images that lie
  std::vector<u64> pending_;
};

}  // namespace atl::block
