// Which of the guest's pages a helper has mapped, and the orders that it has yet to perform: a software TLB whose entries are mappings
// of the helper. It stands for one address space. Own thread.
#pragma once

#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/types.h"
#include "cpu/soft/code_pages.h"
#include "cpu/soft/direct/exchange.h"

namespace atl::soft::direct {

enum Rights : u8 { kRead = 1, kWrite = 2, kExecute = 4 };

/// Where a page lies in a file that the helper has.
struct Backing {
  int file = -1;
  u64 offset = 0;
  GuestAddr gpa = 0;
};

class Mirror {
 public:
  static constexpr size_t kMostPages = 30'000;  // below vm.max_map_count, one mapping each

  u8 rights(u64 linear) const {
    auto at = pages_.find(linear >> 12);
    return at == pages_.end() ? u8{0} : at->second.rights;
  }
  size_t size() const { return pages_.size(); }

  /// `page_shift`: of the guest's page, which may be larger.
  void map(u64 linear, const Backing& backing, u8 rights, u8 page_shift);
  void drop(u64 linear);
  void drop_all();
  /// Pages that are written to and have come to hold code.
  void drop_written_code(const CodePages& code);

  /// What the helper must do before it goes on. At most Exchange::kOrders.
  const std::vector<Order>& take_orders();
  /// How many of them it did. What became of the others is not known.
  void confirm(size_t done);

 private:
  struct Page {
    GuestAddr gpa;
    u8 rights;
  };
  struct Range {
    u64 first = 0, pages = 0;
    Backing backing;
    u8 rights = 0;
  };

  void drop_small(u64 number);
  void list_orders();

  std::unordered_map<u64, Page> pages_;
  std::unordered_set<u64> large_;  // addresses of guest pages of 2 MiB of which there is something
  bool has_gib_pages_ = false;
  std::vector<u64> stale_;    // pages to unmap
  std::vector<Range> fresh_;  // to map
  std::vector<Order> orders_;
  bool all_stale_ = true;     // a new helper holds what it was forked from
};

}  // namespace atl::soft::direct
