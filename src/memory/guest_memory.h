// Guest RAM as devices and loaders reach it: checked, by guest physical address.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/mapping.h"
#include "base/result.h"
#include "base/types.h"

namespace atl::memory {

/// How the host backs a RAM block.
struct RamOptions {
  enum class Backing : u8 { Anonymous, Memfd, File, HugePages };
  Backing backing = Backing::Anonymous;
  bool shared = false;       // MAP_SHARED: others may map the same memfd or file
  bool prealloc = false;     // touch every page at start
  bool merge = true;         // MADV_MERGEABLE (KSM)
  bool dump = true;          // false: MADV_DONTDUMP
  std::string path;          // File: a file (created and grown as needed), or a directory of hugetlbfs/tmpfs/any
  u64 huge_page_bytes = 0;   // HugePages: 0 is the host's default size
};

/// One contiguous piece of guest RAM or ROM in host memory. Its host address never changes.
class RamBlock {
 public:
  /// `size_bytes` is rounded up to whole pages of the backing. The memory reads as zero, but for a file that existed.
  /// Memory that the host can never provide is refused here, not when the guest touches it. Errors name the block.
  static Result<std::shared_ptr<RamBlock>> create(std::string name, u64 size_bytes, const RamOptions& options);

  const std::string& name() const { return name_; }
  u8* data() const { return mapping_.data(); }
  u64 size() const { return mapping_.size(); }
  std::span<u8> bytes() const { return mapping_.span(); }
  /// The memfd or file behind the block; invalid for anonymous memory.
  const Fd& fd() const { return fd_; }
  /// Whether mapping the file again gives the same memory (MAP_SHARED).
  bool is_shared() const { return shared_; }
  /// Gives the whole pages inside a range back to the host (balloon); they read as zero afterwards. A range outside the
  /// block is ignored. Any thread.
  void discard(u64 offset, u64 size_bytes);
  u64 page_bytes() const { return page_bytes_; }

 private:
  RamBlock(std::string name, Fd fd, Mapping mapping, u64 page_bytes, bool shared)
      : name_(std::move(name)), fd_(std::move(fd)), mapping_(std::move(mapping)), page_bytes_(page_bytes), shared_(shared) {}

  std::string name_;
  Fd fd_;
  Mapping mapping_;
  u64 page_bytes_;
  bool shared_;
};

/// A stretch of the guest physical address space that is RAM.
struct RamRange {
  GuestAddr base = 0;
  u64 size = 0;
  std::shared_ptr<RamBlock> block;
  u64 offset = 0;  // of `base` inside the block
  bool readonly = false;

  u8* host() const { return block->data() + offset; }
  GuestAddr end() const { return base + size; }
};

/// Told about writes that the host side makes to guest RAM (device DMA, loaders), so that cached translations of code
/// are dropped. Any thread.
class WriteObserver {
 public:
  virtual ~WriteObserver() = default;
  virtual void host_wrote(GuestAddr at, u64 size_bytes) = 0;
};

/// An immutable list of RAM ranges, ordered by address. Values that the guest can change meanwhile are copied once.
/// Every accessor fails (false, empty span, or Result) on a range that is not RAM; none aborts. Any thread.
class GuestMemory {
 public:
  explicit GuestMemory(std::vector<RamRange> ranges, WriteObserver* observer = nullptr);

  bool read(GuestAddr at, std::span<u8> out) const;
  /// Writes also to read-only (ROM) ranges only through `load`.
  bool write(GuestAddr at, std::span<const u8> data) const;
  /// For loaders: like write, but ROM too.
  Status load(GuestAddr at, std::span<const u8> data) const;
  bool fill(GuestAddr at, u8 value, u64 size_bytes) const;

  template <class T>
  bool read_object(GuestAddr at, T& out) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return read(at, {reinterpret_cast<u8*>(&out), sizeof out});
  }
  template <class T>
  bool write_object(GuestAddr at, const T& value) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return write(at, {reinterpret_cast<const u8*>(&value), sizeof value});
  }

  /// Host pointer to `size_bytes` contiguous bytes of RAM (not ROM if `for_write`), or nullptr. After writing through it,
  /// call wrote().
  u8* host(GuestAddr at, u64 size_bytes, bool for_write) const;
  /// Host iovecs for a guest range that may span adjacent RAM blocks; false if any of it is not RAM.
  bool append_iovecs(GuestAddr at, u64 size_bytes, bool for_write, std::vector<iovec>& out) const;
  /// Tells the observer that the caller wrote through a host pointer.
  void wrote(GuestAddr at, u64 size_bytes) const {
    if (observer_ && size_bytes) observer_->host_wrote(at, size_bytes);
  }

  const RamRange* find(GuestAddr at) const;
  const std::vector<RamRange>& ranges() const { return ranges_; }

 private:
  std::vector<RamRange> ranges_;
  WriteObserver* observer_;
};

}  // namespace atl::memory
