#include "memory/guest_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/math.h"

namespace atl::memory {
namespace {

/// Calls visit(range, host pointer, bytes) for each piece of [at, at + size_bytes) until it returns false. False,
/// without a complete walk, if a part is not RAM.
template <class F>
bool walk(const GuestMemory& memory, GuestAddr at, u64 size_bytes, F visit) {
  if (!checked_add(at, size_bytes)) return false;
  while (size_bytes > 0) {
    const RamRange* range = memory.find(at);
    if (!range) return false;
    u64 n = std::min(size_bytes, range->end() - at);
    if (!visit(*range, range->host() + (at - range->base), n)) return false;
    at += n;
    size_bytes -= n;
  }
  return true;
}

bool can_walk(const GuestMemory& memory, GuestAddr at, u64 size_bytes, bool for_write) {
  return walk(memory, at, size_bytes, [&](const RamRange& range, u8*, u64) { return !(for_write && range.readonly); });
}

}  // namespace

GuestMemory::GuestMemory(std::vector<RamRange> ranges, WriteObserver* observer)
    : ranges_(std::move(ranges)), observer_(observer) {
  auto before = [](const RamRange& a, const RamRange& b) { return a.base < b.base; };
  CHECK(std::is_sorted(ranges_.begin(), ranges_.end(), before));
}

const RamRange* GuestMemory::find(GuestAddr at) const {
  auto next = std::upper_bound(ranges_.begin(), ranges_.end(), at,
                               [](GuestAddr a, const RamRange& range) { return a < range.base; });
  if (next == ranges_.begin()) return nullptr;
  const RamRange& range = *std::prev(next);
  return at - range.base < range.size ? &range : nullptr;
}

bool GuestMemory::read(GuestAddr at, std::span<u8> out) const {
  if (out.empty()) return true;  // memcpy wants an address even for no bytes
  if (u8* from = host(at, out.size(), false)) {
    std::memcpy(out.data(), from, out.size());
    return true;
  }
  u8* to = out.data();
  return walk(*this, at, out.size(), [&](const RamRange&, u8* from, u64 n) {
    std::memcpy(to, from, n);
    to += n;
    return true;
  });
}

bool GuestMemory::write(GuestAddr at, std::span<const u8> data) const {
  if (!can_walk(*this, at, data.size(), true)) return false;
  return load(at, data).has_value();
}

Status GuestMemory::load(GuestAddr at, std::span<const u8> data) const {
  if (!can_walk(*this, at, data.size(), false))
    return Error(ErrorKind::Invalid, fmt::format("{} bytes at guest address {:#x} are not all RAM", data.size(), at));
  const u8* from = data.data();
  walk(*this, at, data.size(), [&](const RamRange&, u8* to, u64 n) {
    std::memcpy(to, from, n);
    from += n;
    return true;
  });
  wrote(at, data.size());
  return {};
}

bool GuestMemory::fill(GuestAddr at, u8 value, u64 size_bytes) const {
  if (!can_walk(*this, at, size_bytes, true)) return false;
  walk(*this, at, size_bytes, [&](const RamRange&, u8* to, u64 n) {
    std::memset(to, value, n);
    return true;
  });
  wrote(at, size_bytes);
  return true;
}

u8* GuestMemory::host(GuestAddr at, u64 size_bytes, bool for_write) const {
  const RamRange* range = find(at);
  if (!range || (for_write && range->readonly) || size_bytes > range->end() - at) return nullptr;
  return range->host() + (at - range->base);
}

bool GuestMemory::append_iovecs(GuestAddr at, u64 size_bytes, bool for_write, std::vector<iovec>& out) const {
  size_t before = out.size();
  bool whole = walk(*this, at, size_bytes, [&](const RamRange& range, u8* host, u64 n) {
    if (for_write && range.readonly) return false;
    out.push_back({host, n});
    return true;
  });
  if (!whole) out.resize(before);
  return whole;
}

}  // namespace atl::memory
