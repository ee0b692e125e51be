// Which guest pages hold decoded code, and a version for each that every write to it raises.
#pragma once

#include <atomic>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/types.h"
#include "memory/guest_memory.h"

namespace atl::soft {

/// Any thread, but for resize(). A block remembers the word of its pages and is stale once it differs.
class CodePages final : public memory::WriteObserver {
 public:
  /// Who keeps something about code and must know that it changes. Any thread.
  class Listener {
   public:
    virtual ~Listener() = default;
    /// A marked page was written; `old_word` is what version() was.
    virtual void code_changed(GuestAddr page, u32 old_word) = 0;
  };
  /// Before the vCPUs run.
  void set_listener(Listener* listener) { listener_ = listener; }

  /// Covers guest physical pages below `limit`; what lies above is never cached. Before the vCPUs run: forgets all marks.
  void resize(GuestAddr limit);
  u64 size() const { return size_; }  // in pages
  bool covers(GuestAddr gpa) const { return gpa >> 12 < size_; }
  bool holds_code(GuestAddr gpa) const { return covers(gpa) && (word(gpa).load(std::memory_order_acquire) & kMarked); }
  /// Marks a page before code is read from it. True if it was not marked: every core must then drop its write tags.
  bool mark(GuestAddr gpa) { return !(word(gpa).fetch_or(kMarked, std::memory_order_seq_cst) & kMarked); }
  /// A number that changes with every write to the marked page. The page is covered.
  u32 version(GuestAddr gpa) const { return word(gpa).load(std::memory_order_acquire); }
  const std::atomic<u32>& word(GuestAddr gpa) const { return pages_.get()[gpa >> 12]; }
  /// A write happened: raises the versions of the marked pages in the range and unmarks them.
  void wrote(GuestAddr gpa, u64 size_bytes);
  void host_wrote(GuestAddr at, u64 size_bytes) override { wrote(at, size_bytes); }

 private:
  static constexpr u32 kMarked = 1;
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::atomic<u32>& word(GuestAddr gpa) { return pages_.get()[gpa >> 12]; }

  // Bit 0: holds code; the rest: version. From calloc, so that a word costs no memory until its page holds code.
  std::unique_ptr<std::atomic<u32>, Free> pages_;
  u64 size_ = 0;
  Listener* listener_ = nullptr;
};

}  // namespace atl::soft
