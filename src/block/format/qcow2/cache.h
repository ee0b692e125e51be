// Slices of metadata (L2 tables, refcount blocks) in memory, written back on request.
#pragma once

#include <coroutine>
#include <cstdlib>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/endian.h"
#include "base/math.h"
#include "block/debug_points.h"
#include "block/node.h"

namespace atl::block::qcow2 {

/// Memory on a page boundary, which direct I/O likes; zeroed, unless made for_overwrite().
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(u64 size);
  static Bytes for_overwrite(u64 size);
  u8* data() const { return data_.get(); }
  u64 size() const { return size_; }
  std::span<u8> span() const { return {data_.get(), size_}; }
  iovec vec() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(u8* bytes) const { ::free(bytes); }
  };
  std::unique_ptr<u8[], Free> data_;
  u64 size_ = 0;
};

struct Slice {
  u64 offset = 0;  // in the file
  Bytes bytes;
  bool dirty = false;
  bool used = true;  // since the last look around for slices to drop

  u64 word(u64 index) const { return load_be<u64>(bytes.data() + 8 * index); }
  void set_word(u64 index, u64 value) { store_be(bytes.data() + 8 * index, value); }
};

/// Dirty slices stay until write_back(); clean ones that nobody holds go when there are too many, those long unused first.
/// Changes to a slice are made at once after it was gotten, or while its Ref is held, and end with mark_dirty().
class Cache {
 public:
  using Ref = std::shared_ptr<Slice>;

  /// What blkdebug calls reading and writing of slices.
  struct Steps {
    const char *load, *update;
  };
  /// Slices lie in tables of `table_bytes`, each aligned to its size.
  Cache(Node& file, u64 slice_bytes, u64 table_bytes, u64 limit_bytes, Steps steps);
  ~Cache();

  u64 slice_bytes() const { return slice_bytes_; }
  /// The slice that holds `offset`, if it is in memory.
  Slice* find(u64 offset) {
    auto found = slices_.find(align_down(offset, slice_bytes_));
    if (found == slices_.end()) return nullptr;
    found->second->used = true;
    return found->second.get();
  }
  /// The same, read if need be.
  Task<Result<Ref>> get(u64 offset);
  /// A slice that starts out as zeroes, dirty, whatever the file holds there.
  Ref add(u64 offset);
  void mark_dirty(const Ref& slice);
  /// Forgets what lies in [offset, offset + bytes), which has been freed.
  void drop(u64 offset, u64 bytes);
  /// Nothing may be changed until this completes.
  Task<Status> write_back();
  bool has_dirty() const { return !dirty_.empty(); }
  /// Dirty slices have piled up: their owner should write them back.
  bool is_overfull() const { return dirty_.size() >= std::max<u64>(limit_ / 2, 2); }
  /// Drops clean slices that were not used since the last call.
  void drop_unused();
  /// Forgets everything, changed or not.
  void clear();
  void set_limit(u64 limit_bytes);

 private:
  struct Load;
  struct WaitForLoad;
  Task<Result<Ref>> load(u64 offset);
  u64 load_end(u64 offset) const;
  Ref insert(Ref slice);
  void make_room();
  void erase(u64 offset);
  Task<Status> write_slices(std::vector<Ref> slices);

  Node& file_;
  DebugPoints* const debug_;
  const Steps steps_;
  const u64 slice_bytes_, table_bytes_;
  u64 limit_;
  std::unordered_map<u64, Ref> slices_;
  std::list<u64> order_;  // offsets, candidates for dropping first
  std::map<u64, Ref> dirty_;
  std::unordered_map<u64, Load*> loads_;
};

}  // namespace atl::block::qcow2
