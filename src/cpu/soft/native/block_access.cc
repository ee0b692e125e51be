#include "cpu/soft/native/block_access.h"

#include <algorithm>
#include <utility>

#include "cpu/soft/mmu/access.h"

namespace atl::soft {
namespace {

constexpr unsigned kPiece = 64;  // what read_slow and write_slow take

unsigned up_to_page_end(u64 linear, unsigned left) { return std::min(left, static_cast<unsigned>(kPageSize - (linear & (kPageSize - 1)))); }

/// Calls fast(host, size) for stretches that the TLB has, and slow(size) for pieces of the others, until all is done or slow() fails.
template <class Fast, class Slow>
bool for_stretches(Core& core, u64 linear, unsigned size, Access access, Fast fast, Slow slow) {
  while (size) {
    unsigned done = up_to_page_end(linear, size);
    if (u8* host = fast_host(core, linear, done, access)) fast(host, done);
    else if (!slow(linear, done = std::min(done, kPiece))) return false;
    linear += done, size -= done;
  }
  return true;
}

}  // namespace

bool read_block(Core& core, u64 linear, u8* out, unsigned size) {
  return for_stretches(
      core, linear, size, Access::Read, [&](const u8* host, unsigned n) { out = std::copy_n(host, n, out); },
      [&](u64 at, unsigned n) { return read_slow(core, at, std::exchange(out, out + n), n); });
}

bool probe_write_block(Core& core, u64 linear, unsigned size) {
  return for_stretches(
      core, linear, size, Access::Write, [](const u8*, unsigned) {}, [&](u64 at, unsigned n) { return probe_write(core, at, n); });
}

bool write_block(Core& core, u64 linear, const u8* data, unsigned size) {
  if (!probe_write_block(core, linear, size)) return false;
  return for_stretches(
      core, linear, size, Access::Write, [&](u8* host, unsigned n) { std::copy_n(std::exchange(data, data + n), n, host); },
      [&](u64 at, unsigned n) { return write_slow(core, at, std::exchange(data, data + n), n); });
}

}  // namespace atl::soft
