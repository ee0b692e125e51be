#include "cpu/soft/code_pages.h"

#include <algorithm>

#include "base/check.h"

namespace atl::soft {

void CodePages::resize(GuestAddr limit) {
  u64 pages = (limit + kPageSize - 1) / kPageSize;
  pages_.reset(static_cast<std::atomic<u32>*>(std::calloc(pages, sizeof(std::atomic<u32>))));
  CHECK(pages_ || pages == 0);
  size_ = pages;
}

void CodePages::wrote(GuestAddr gpa, u64 size_bytes) {
  if (size_bytes == 0 || !covers(gpa)) return;
  u64 last = std::min((gpa + size_bytes - 1) >> 12, size_ - 1);
  for (u64 page = gpa >> 12; page <= last; ++page) {
    std::atomic<u32>& w = pages_.get()[page];
    u32 old = w.load(std::memory_order_relaxed);
    while ((old & kMarked) && !w.compare_exchange_weak(old, (old & ~kMarked) + 2, std::memory_order_seq_cst)) {
    }
    if ((old & kMarked) && listener_) listener_->code_changed(page << 12, old);
  }
}

}  // namespace atl::soft
