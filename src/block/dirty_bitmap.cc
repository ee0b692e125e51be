#include "block/dirty_bitmap.h"

#include <algorithm>
#include <bit>

namespace atl::block {

DirtyBitmap::DirtyBitmap(std::string name, u64 size_bytes, u32 granularity)
    : name_(std::move(name)), size_bytes_(size_bytes), granularity_(granularity), words_((bits() + 63) / 64) {}

Status DirtyBitmap::check_granularity(u64 granularity) {
  if (granularity >= 512 && granularity <= 2 * kGiB && std::has_single_bit(granularity)) return {};
  return Error(ErrorKind::Invalid, "Granularity must be a power of 2 between 512 and 2 GiB");
}

/// Calls `change_word(word, mask)` for the bits from `first` to before `end`, and counts.
template <class F>
void DirtyBitmap::change(u64 first, u64 end, F change_word) {
  while (first < end) {
    u64& word = words_[first / 64];
    const u64 in_word = first % 64, count = std::min(64 - in_word, end - first);
    const u64 mask = (count == 64 ? ~u64{0} : (u64{1} << count) - 1) << in_word;
    dirty_ -= static_cast<u64>(std::popcount(word));
    change_word(word, mask);
    dirty_ += static_cast<u64>(std::popcount(word));
    first += count;
  }
}

void DirtyBitmap::set(u64 offset, u64 bytes) {
  if (offset >= size_bytes_ || !bytes) return;
  u64 end = offset + std::min(bytes, size_bytes_ - offset);
  change(offset / granularity_, (end + granularity_ - 1) / granularity_, [](u64& word, u64 mask) { word |= mask; });
}

void DirtyBitmap::clear(u64 offset, u64 bytes) {
  if (offset >= size_bytes_ || !bytes) return;
  u64 end = offset + std::min(bytes, size_bytes_ - offset);
  change(offset / granularity_, (end + granularity_ - 1) / granularity_, [](u64& word, u64 mask) { word &= ~mask; });
}

bool DirtyBitmap::get(u64 offset) const {
  if (offset >= size_bytes_) return false;
  const u64 bit = offset / granularity_;
  return words_[bit / 64] >> (bit % 64) & 1;
}

std::optional<DirtyBitmap::Run> DirtyBitmap::next_dirty(u64 offset, u64 limit) const {
  if (offset >= size_bytes_) return std::nullopt;
  u64 bit = offset / granularity_;
  const u64 end = bits();
  while (bit < end) {
    u64 rest = words_[bit / 64] >> (bit % 64);
    if (rest) {
      bit += static_cast<u64>(std::countr_zero(rest));
      break;
    }
    bit = (bit / 64 + 1) * 64;
  }
  if (bit >= end) return std::nullopt;
  Run run{std::max(bit * granularity_, offset), 0};
  u64 last = bit;
  while (last < end && words_[last / 64] >> (last % 64) & 1 && last * granularity_ < run.offset + std::min(limit, size_bytes_ - run.offset))
    ++last;
  run.bytes = std::min({last * granularity_ - run.offset, limit, size_bytes_ - run.offset});
  return run;
}

void DirtyBitmap::merge(const DirtyBitmap& other) {
  auto run = other.next_dirty(0);
  while (run) {
    set(run->offset, run->bytes);
    run = other.next_dirty(run->offset + run->bytes);
  }
}

void DirtyBitmap::resize(u64 size_bytes) {
  if (size_bytes < size_bytes_) clear(size_bytes, size_bytes_ - size_bytes);
  size_bytes_ = size_bytes;
  words_.resize((bits() + 63) / 64);
}

}  // namespace atl::block
