// The guest's buffers of one command, as a disk controller gathers them from descriptors: addresses in, iovecs out.
//
// Threads: one at a time.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <vector>

#include "memory/guest_memory.h"

namespace atl::devices {

class DmaList {
 public:
  /// `to_guest`: the device writes to the buffers.
  DmaList(std::shared_ptr<const memory::GuestMemory> memory, bool to_guest) : memory_(std::move(memory)), to_guest_(to_guest) {}

  /// False, and nothing added, if any of it is not RAM.
  bool add(GuestAddr at, u64 size_bytes) {
    if (size_bytes == 0) return true;
    if (!memory_->append_iovecs(at, size_bytes, to_guest_, iovecs_)) return false;
    ranges_.push_back({at, size_bytes});
    bytes_ += size_bytes;
    return true;
  }
  u64 bytes() const { return bytes_; }
  std::span<const iovec> iovecs() const { return iovecs_; }
  /// Tells the machine that the buffers have been written to.
  void wrote() const {
    if (!to_guest_) return;
    for (const Range& range : ranges_) memory_->wrote(range.at, range.size);
  }

 private:
  struct Range {
    GuestAddr at;
    u64 size;
  };

  std::shared_ptr<const memory::GuestMemory> memory_;
  bool to_guest_;
  std::vector<Range> ranges_;
  std::vector<iovec> iovecs_;
  u64 bytes_ = 0;
};

}  // namespace atl::devices
