// Which guest pages hold decoded code, and a version for each that every write to it raises.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/types.h"
#include "memory/guest_memory.h"

namespace atl::soft {

/// Any thread. A block remembers the version of its pages and is stale once it differs.
class CodePages final : public memory::WriteObserver {
 public:
  /// Covers guest physical pages below `limit`; what lies above is never cached.
  void resize(GuestAddr limit);
  bool covers(GuestAddr gpa) const { return gpa >> 12 < size_; }
  bool holds_code(GuestAddr gpa) const;
  /// Marks a page before code is read from it. True if it was not marked: every core must then drop its write tags.
  bool mark(GuestAddr gpa);
  u32 version(GuestAddr gpa) const;
  /// A write happened: raises the versions of the marked pages in the range and unmarks them.
  void wrote(GuestAddr gpa, u64 size_bytes);
  void host_wrote(GuestAddr at, u64 size_bytes) override { wrote(at, size_bytes); }

 private:
  std::unique_ptr<std::atomic<u32>[]> pages_;  // bit 0: holds code; the rest: version
  u64 size_ = 0;
};

}  // namespace atl::soft
