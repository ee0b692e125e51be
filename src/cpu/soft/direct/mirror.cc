#include "cpu/soft/direct/mirror.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

namespace atl::soft::direct {
namespace {

Order unmap(u64 from, u64 to) { return {SYS_munmap, {from, to - from}}; }

int protection(u8 rights) {
  return (rights & kRead ? PROT_READ : 0) | (rights & kWrite ? PROT_WRITE : 0) | (rights & kExecute ? PROT_EXEC : 0);
}

}  // namespace

void Mirror::map(u64 linear, const Backing& backing, u8 rights, u8 page_shift) {
  if (page_shift > 21) has_gib_pages_ = true;
  else if (page_shift > 12) large_.insert(linear >> 21);
  pages_[linear >> 12] = {backing.gpa, rights};
  if (!fresh_.empty()) {
    Range& last = fresh_.back();
    if (last.first + last.pages * kPageSize == linear && last.backing.file == backing.file && last.rights == rights &&
        last.backing.offset + last.pages * kPageSize == backing.offset) {
      ++last.pages;
      return;
    }
  }
  fresh_.push_back({linear, 1, backing, rights});
}

void Mirror::drop(u64 linear) {
  if (has_gib_pages_) return drop_all();
  if (!large_.contains(linear >> 21)) return drop_small(linear >> 12);
  const u64 first = linear >> 21 << 9;
  for (u64 number = first; number < first + 512; ++number) drop_small(number);
  large_.erase(linear >> 21);
}

void Mirror::drop_small(u64 number) {
  if (pages_.erase(number)) stale_.push_back(number << 12);
}

void Mirror::drop_all() {
  pages_.clear();
  stale_.clear();
  fresh_.clear();
  large_.clear();
  has_gib_pages_ = false;
  all_stale_ = true;
}

void Mirror::drop_written_code(const CodePages& code) {
  std::erase_if(pages_, [&](const auto& entry) {
    const bool gone = (entry.second.rights & kWrite) && code.holds_code(entry.second.gpa);
    if (gone) stale_.push_back(entry.first << 12);
    return gone;
  });
}

const std::vector<Order>& Mirror::take_orders() {
  list_orders();
  if (orders_.size() <= Exchange::kOrders) return orders_;
  drop_all();
  list_orders();
  return orders_;
}

void Mirror::list_orders() {
  orders_.clear();
  if (all_stale_) {
    orders_.push_back(unmap(0, kStub));
    orders_.push_back(unmap(kReservedEnd, kUserEnd));
  }
  std::ranges::sort(stale_);
  for (u64 page : stale_) {
    const bool follows = orders_.size() > (all_stale_ ? 2 : 0) && orders_.back().arguments[0] + orders_.back().arguments[1] == page;
    if (follows) orders_.back().arguments[1] += kPageSize;
    else orders_.push_back(unmap(page, page + kPageSize));
  }
  for (const Range& range : fresh_) {
    constexpr u64 kFlags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
    orders_.push_back({SYS_mmap,
                       {range.first, range.pages * kPageSize, static_cast<u64>(protection(range.rights)), kFlags,
                        static_cast<u64>(range.backing.file), range.backing.offset}});
  }
}

void Mirror::confirm(size_t done) {
  if (done != orders_.size()) return drop_all();
  stale_.clear();
  fresh_.clear();
  all_stale_ = false;
}

}  // namespace atl::soft::direct
