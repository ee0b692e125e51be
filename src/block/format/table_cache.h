// Allocation tables in memory a page at a time, whatever their size: read on demand, written back on request.
#pragma once

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <vector>

#include "base/endian.h"
#include "block/node.h"

namespace atl::block {

/// How a format writes the entries of a table.
struct EntryForm {
  u32 width = 4;  // bytes: 4 or 8
  bool big_endian = false;
};

struct TablePage {
  u64 offset = 0;  // in the file
  std::vector<u8> bytes;
  u64 dirty_from = ~u64{0}, dirty_to = 0;  // bytes that the file does not have yet
  u64 last_use = 0;

  bool is_dirty() const { return dirty_from < dirty_to; }
  u64 entry(u64 index, EntryForm form) const;
  void set_entry(u64 index, EntryForm form, u64 value);
};

/// Dirty pages stay until write_back(); clean ones go when there are too many, the longest unused first.
class TableCache {
 public:
  using Ref = std::shared_ptr<TablePage>;

  TableCache(Node& file, u64 limit_bytes) : file_(file), limit_(limit_bytes) {}

  /// `bytes` of the file from `offset` on. Callers cut a table into pages in one way only.
  Task<Result<Ref>> get(u64 offset, u64 bytes);
  /// A page of zeroes, dirty as a whole, whatever the file holds there.
  Ref add(u64 offset, u64 bytes);
  bool has_dirty() const;
  /// Dirty pages have piled up: their owner should write them back.
  bool is_overfull() const { return used_ > 2 * limit_; }
  Task<Status> write_back();
  std::vector<Ref> dirty_pages() const;
  void forget_all();

 private:
  Ref insert(Ref page);
  void make_room();

  Node& file_;
  const u64 limit_;
  u64 used_ = 0, clock_ = 0;
  std::map<u64, Ref> pages_;  // by offset
};

/// A table of numbers that lies in one piece.
class FlatTable {
 public:
  FlatTable(TableCache& cache, u64 offset, u64 entries, EntryForm form)
      : cache_(cache), offset_(offset), entries_(entries), form_(form) {}

  u64 offset() const { return offset_; }
  u64 entries() const { return entries_; }
  Task<Result<u64>> get(u64 index);
  Task<Status> set(u64 index, u64 value);
  /// The table has been moved or has grown; nothing of it may be dirty.
  void move_to(u64 offset, u64 entries) {
    offset_ = offset;
    entries_ = entries;
  }

 private:
  static constexpr u64 kPageBytes = 32 * kKiB;
  u64 per_page() const { return kPageBytes / form_.width; }
  Task<Result<TableCache::Ref>> page_of(u64 index);

  TableCache& cache_;
  u64 offset_, entries_;
  const EntryForm form_;
};

}  // namespace atl::block
