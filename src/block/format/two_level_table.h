// Tables of tables: a first level of offsets, each leading to a table of entries. Used by qed, qcow and vmdk.
#pragma once

#include "block/format/table_cache.h"

namespace atl::block {

struct TwoLevelShape {
  u64 first_offset = 0;  // of the first level, in the file
  u64 first_entries = 0;
  u64 second_entries = 0;  // of each second-level table
  EntryForm form;          // of both
  u64 unit = 1;            // what the first level counts in: bytes, or sectors
  u64 alignment = 512;     // of second-level tables
  u64 mirror_offset = 0;   // a second first level that leads to copies of all tables; 0: none
};

/// Changes stay in memory until write_back(): second-level tables before what leads to them.
class TwoLevelTable {
 public:
  TwoLevelTable(Node& file, TwoLevelShape shape, u64 cache_bytes);

  struct Entry {
    u64 value = 0;
    bool has_table = false;  // else all entries of this second level are missing
  };
  Task<Result<Entry>> get(u64 index);
  /// Makes a second-level table at the file's end where there is none.
  Task<Status> set(u64 index, u64 value);
  bool is_dirty() const { return first_cache_.has_dirty() || second_cache_.has_dirty(); }
  bool is_overfull() const { return second_cache_.is_overfull(); }
  /// Flushes where the order of writes demands it; data must be on the disk already.
  Task<Status> write_back();

  /// Offset of the second-level table, 0 if there is none; an error if it cannot be there.
  Task<Result<u64>> table_at(u64 first_index);
  u64 second_bytes() const { return shape_.second_entries * shape_.form.width; }
  const TwoLevelShape& shape() const { return shape_; }

 private:
  Task<Result<u64>> follow(FlatTable& first, u64 first_index);
  Task<Result<u64>> provide(FlatTable& first, u64 first_index);
  Task<Status> set_in(FlatTable& first, u64 index, u64 value);

  Node& file_;
  const TwoLevelShape shape_;
  TableCache first_cache_, second_cache_;
  FlatTable first_, mirror_;
};

}  // namespace atl::block
