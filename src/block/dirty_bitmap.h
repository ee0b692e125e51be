// Which parts of a disk were written since some moment: a bit for each `granularity` bytes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "block/root.h"

namespace atl::block {

class DirtyBitmap final : public WriteObserver {
 public:
  /// `granularity`: a power of two, 512 bytes to 2 GiB.
  DirtyBitmap(std::string name, u64 size_bytes, u32 granularity);
  static Status check_granularity(u64 granularity);

  const std::string& name() const { return name_; }
  u32 granularity() const { return granularity_; }
  u64 size_bytes() const { return size_bytes_; }
  u64 dirty_bytes() const { return dirty_ * granularity_; }
  bool is_clean() const { return dirty_ == 0; }

  bool enabled = true;       // records writes
  bool persistent = false;   // kept in the image
  bool busy = false;         // a job or an export works with it

  void set(u64 offset, u64 bytes);
  void clear(u64 offset, u64 bytes);
  void clear_all() { clear(0, size_bytes_); }
  bool get(u64 offset) const;
  /// The next dirty stretch at or after `offset`, at most `limit` bytes long, cut at the disk's end.
  struct Run {
    u64 offset = 0, bytes = 0;
  };
  std::optional<Run> next_dirty(u64 offset, u64 limit = ~u64{0}) const;
  /// Sets what is set in the other; granularities may differ.
  void merge(const DirtyBitmap& other);
  void resize(u64 size_bytes);

  void written(u64 offset, u64 bytes) override {
    if (enabled) set(offset, bytes);
  }

 private:
  u64 bits() const { return (size_bytes_ + granularity_ - 1) / granularity_; }
  template <class F>
  void change(u64 first, u64 end, F change_word);

  const std::string name_;
  u64 size_bytes_;
  const u32 granularity_;
  std::vector<u64> words_;
  u64 dirty_ = 0;
};

}  // namespace atl::block
