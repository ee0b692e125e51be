// Persistent dirty bitmaps: which parts of the disk were written since some time.
//
// What is in the file counts only while its "in use" mark is clear. Before the first change the mark is set and flushed;
// store() writes what has changed and clears it again. So after a crash bitmaps are known to be incomplete, never taken for
// complete.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "block/format/qcow2/bitmap_table.h"
#include "block/image.h"

namespace atl::block::qcow2 {

/// One bitmap. Bits are in memory a cluster of them at a time, where they were needed.
class Bitmap {
 public:
  Bitmap(Core& core, BitmapEntry entry_of_file) : entry(std::move(entry_of_file)), core_(core) {}

  u64 granularity() const { return u64{1} << entry.granularity_bits; }
  bool usable() const { return usable_; }
  bool enabled() const { return entry.flags & kBitmapAuto; }
  bool changed() const { return changed_; }
  void set_unusable() { usable_ = false; }
  /// Reads the table, the first time.
  Task<Status> load();
  Task<Status> set(u64 offset, u64 bytes);
  Task<Result<Image::BitmapRun>> run(u64 offset, u64 bytes);
  Task<Result<u64>> dirty_bytes();
  Task<Status> clear();
  /// For a disk of another size. `tables` is held, as for the following.
  Task<Status> resize(u64 size_bytes);
  /// Writes what has changed, but for the directory.
  Task<Status> store();
  /// Gives all clusters back. Nothing on the disk leads to them any more.
  void free_clusters();

  BitmapEntry entry;

 private:
  struct Chunk {
    Bytes bits;
    bool dirty = false;
  };
  u64 chunk_bits() const { return core_.geometry().cluster_bytes() * 8; }
  Task<Result<Chunk*>> chunk(u64 index);
  Task<Status> store_chunk(u64 index, Chunk& chunk);
  /// Whether all bits of a chunk are alike, as far as that shows without reading it.
  std::optional<bool> uniform(u64 index) const;
  Task<Result<bool>> bit(u64 number);

  Core& core_;
  bool loaded_ = false, usable_ = true, changed_ = false;
  std::vector<u64> table_;
  std::map<u64, Chunk> chunks_;
};

class Bitmaps {
 public:
  explicit Bitmaps(Core& core) : core_(core) {}
  Task<Status> load();

  /// Whether writes must be told.
  bool tracking() const;
  /// Before the bytes are written.
  Task<Status> mark(u64 offset, u64 bytes);
  bool changed() const;
  /// Everything changed goes to the file, and the marks are cleared. `tables` is held, as for the rest.
  Task<Status> store();
  Task<Status> add(BitmapInfo info);
  Task<Status> remove(std::string name);
  Task<Status> enable(std::string name, bool enabled);
  Task<Status> clear(std::string name);
  Task<Status> set(std::string name, u64 offset, u64 bytes);
  Task<Status> resize(u64 size_bytes);
  Result<Bitmap*> find(std::string_view name);
  Result<Bitmap*> find_usable(std::string_view name);
  Task<Result<std::vector<BitmapInfo>>> list();
  bool empty() const { return all_.empty(); }

 private:
  /// Sets the marks of bitmaps that are about to change.
  Task<Status> begin_use();
  Task<Status> write_flags();
  /// A new directory at another place.
  Task<Status> write_directory();

  Core& core_;
  std::vector<std::unique_ptr<Bitmap>> all_;
  bool in_use_ = false;   // the marks are set in the file
};

/// For an image that has bitmaps, or may get some.
Task<Status> load_bitmaps(Core& core);

}  // namespace atl::block::qcow2
