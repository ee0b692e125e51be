// Which clusters of an image's file are in use: the refcount table and its blocks. Calls must not overlap: whoever makes
// them holds the lock on the tables.
#pragma once

#include <optional>
#include <set>
#include <unordered_set>
#include <vector>

#include "block/format/qcow2/cache.h"
#include "block/format/qcow2/header.h"
#include "block/format/qcow2/inflight.h"

namespace atl::block::qcow2 {

u64 load_refcount(const u8* block, u64 index, u32 order);
void store_refcount(u8* block, u64 index, u32 order, u64 value);

/// Clusters in a row.
struct Place {
  u64 offset = 0, clusters = 0;
  bool fresh = false;  // never written: reads as zeroes
};

/// Whom a discard of a freed cluster serves, for the options that pass it on to the file.
enum class FreedBy : u8 { Request, Snapshot, Other };

struct DiscardPolicy {
  bool request = false, snapshot = true, other = false;
  bool passes(FreedBy by) const {
    return by == FreedBy::Request ? request : by == FreedBy::Snapshot ? snapshot : other;
  }
};

class Refcounts {
 public:
  /// `header` outlives this; its refcount table fields follow when the table moves.
  Refcounts(Node& file, Header& header, Epochs& epochs, u64 cache_bytes, DiscardPolicy policy);

  /// Reads the table, the first time.
  Task<Status> load();
  Task<Result<u64>> get(u64 cluster);
  /// The same for many clusters that lie close together: remembers where the last one was counted. Not across changes.
  class Cursor {
   public:
    explicit Cursor(Refcounts& refcounts) : refcounts_(refcounts) {}
    /// Without I/O, if the cluster lies in the part that is at hand.
    std::optional<u64> get_now(u64 cluster) const;
    Task<Result<u64>> get(u64 cluster);

   private:
    Refcounts& refcounts_;
    Cache::Ref slice_;
    u64 first_ = 0;   // the cluster that the slice begins with
  };
  /// Adds `delta` to the refcounts of some clusters in a row; never below zero nor above what fits.
  Task<Status> change(u64 offset, u64 clusters, i64 delta);
  /// Free clusters in a row, each with refcount 1 from now on and inside the file: `at_most`, or what there is in one place
  /// if that is `at_least`.
  Task<Result<Place>> allocate(u64 at_least, u64 at_most);
  /// Room for compressed data, which share clusters; gives its offset.
  Task<Result<u64>> allocate_bytes(u64 bytes);
  /// Takes one reference from each of the clusters, at once: nothing ever led to them.
  Task<Status> give_back(Place place) { return change(place.offset, place.clusters, -1); }
  /// Takes one reference from each once what pointed to them is gone from the disk, see release().
  void free_later(u64 offset, u64 clusters, FreedBy by);
  /// Puts what was allocated on the disk. Flushes only where the order of writes demands it.
  Task<Status> write_back();
  /// The tables that pointed to the clusters freed until now have been written and flushed. Gives back those that no
  /// request uses any more.
  Task<Status> release();
  bool has_freed() const { return !freed_.empty() || !waiting_.empty(); }
  bool is_overfull() const { return blocks_.is_overfull() || freed_.size() >= kMostFreed; }
  bool is_dirty() const { return !dirty_table_.empty() || blocks_.has_dirty(); }
  bool loaded() const { return loaded_; }
  const std::vector<u64>& table() const { return table_; }
  Cache& blocks() { return blocks_; }
  /// The cluster from which on nothing has been allocated yet.
  u64 end_of_use() const { return end_of_use_; }
  /// Metadata that no data may be written over: what the tables in memory lead to.
  void guard(u64 offset, u64 clusters);
  void unguard(u64 offset) { guarded_.erase(offset >> header_.geometry.cluster_bits); }
  bool is_guarded(u64 offset) const { return guarded_.contains(offset >> header_.geometry.cluster_bits); }
  /// Forgets all, to be loaded anew from a header that changed.
  void reset();
  /// The file has been made longer by zeroes: clusters from `offset` on count as fresh until they are allocated.
  void set_fresh_from(u64 offset) { fresh_from_ = offset; }
  void set_cache(u64 bytes) { blocks_.set_limit(bytes); }

 private:
  static constexpr size_t kMostFreed = 1 << 16;
  struct Freed {
    u64 offset, clusters;
    FreedBy by;
  };
  struct Waiting {
    u64 epoch;
    std::vector<Freed> list;
  };

  u64 offset_of(u64 cluster) const { return cluster << header_.geometry.cluster_bits; }
  u64 per_block() const { return header_.geometry.refcounts_per_block(); }
  u64 per_slice() const { return blocks_.slice_bytes() * 8 >> header_.geometry.refcount_order; }
  Task<Result<Cache::Ref>> slice_of(u64 cluster);
  Task<Status> provide_block(u64 cluster, u64 spare);
  Task<Result<Place>> search(u64 at_least, u64 at_most);
  Task<Result<bool>> extend(u64 offset, u64 bytes);
  Task<Status> grow_table();
  Task<Status> write_table();
  void add_block(u64 index, u64 at);
  Task<Status> release_list(std::vector<Freed> list);
  Error corrupt(std::string text) const;
  void step(std::string_view event) const { debug_step(file_.debug_points(), event); }

  Node& file_;
  Header& header_;
  Epochs& epochs_;
  DiscardPolicy policy_;
  Cache blocks_;
  bool loaded_ = false;
  std::vector<u64> table_;  // offsets of blocks; 0: none yet
  std::set<u64> dirty_table_;  // 512 byte pieces of it
  u64 first_free_ = 1;  // no cluster below is free, but for gaps that were too small
  u64 end_of_use_ = 0;  // no cluster from here on can be in use: bounds the search in images that lie
  u64 fresh_from_ = ~u64{0};
  u64 tail_ = 0;  // where the next compressed data may begin; 0: in a new cluster
  std::vector<Freed> freed_;
  std::vector<Waiting> waiting_;
  std::unordered_set<u64> guarded_;
};

}  // namespace atl::block::qcow2
