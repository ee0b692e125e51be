// One bitmap: its bits, in memory as far as needed.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "block/format/qcow2/bitmaps.h"
#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {
namespace {

bool all_equal(std::span<const u8> bytes, u8 value) {
  return std::ranges::all_of(bytes, [&](u8 byte) { return byte == value; });
}

void set_bits(std::span<u8> bits, u64 first, u64 end) {
  for (; first < end && first % 8; ++first) bits[first / 8] = static_cast<u8>(bits[first / 8] | 1u << (first % 8));
  for (; end > first && end % 8; --end) bits[(end - 1) / 8] = static_cast<u8>(bits[(end - 1) / 8] | 1u << ((end - 1) % 8));
  if (first < end) std::memset(&bits[first / 8], 0xff, (end - first) / 8);
}

bool test_bit(std::span<const u8> bits, u64 number) { return bits[number / 8] >> (number % 8) & 1; }

}  // namespace

Task<Status> Bitmap::load() {
  if (loaded_) co_return Status{};
  const u64 expected = bitmap_table_entries(core_.geometry(), core_.header.size_bytes, entry.granularity_bits);
  if (entry.table_entries != expected)
    co_return core_.corrupt(fmt::format("the table of bitmap '{}' has {} entries, not {}", entry.name, entry.table_entries, expected));
  Result<std::vector<u64>> read = co_await read_bitmap_table(core_, entry);
  table_ = CO_TRY(std::move(read));
  loaded_ = true;
  co_return Status{};
}

std::optional<bool> Bitmap::uniform(u64 index) const {
  if (chunks_.contains(index) || (table_[index] & kOffsetMask)) return std::nullopt;
  return (table_[index] & kAllOnes) != 0;
}

Task<Result<Bitmap::Chunk*>> Bitmap::chunk(u64 index) {
  if (auto found = chunks_.find(index); found != chunks_.end()) co_return &found->second;
  Bytes bits(core_.geometry().cluster_bytes());
  if (const u64 place = table_[index] & kOffsetMask) {
    Status status = co_await read_padded(*core_.file, place, bits.span());
    CO_TRY(std::move(status));
  } else if (table_[index] & kAllOnes) {
    std::memset(bits.data(), 0xff, bits.size());
  }
  // Another request may have been faster: its bits count.
  Chunk fresh{std::move(bits), false};
  co_return &chunks_.try_emplace(index, std::move(fresh)).first->second;
}

Task<Status> Bitmap::set(u64 offset, u64 bytes) {
  Status status = co_await load();
  CO_TRY(std::move(status));
  const u64 end = ((offset + bytes - 1) >> entry.granularity_bits) + 1;
  for (u64 at = offset >> entry.granularity_bits; at < end;) {
    const u64 index = at / chunk_bits(), chunk_end = std::min(end, (index + 1) * chunk_bits());
    if (index >= table_.size()) break;   // the odd end of a disk
    Result<Chunk*> got = co_await chunk(index);
    Chunk* part = CO_TRY(std::move(got));
    set_bits(part->bits.span(), at % chunk_bits(), at % chunk_bits() + (chunk_end - at));
    part->dirty = changed_ = true;
    at = chunk_end;
  }
  co_return Status{};
}

Task<Result<bool>> Bitmap::bit(u64 number) {
  const u64 index = number / chunk_bits();
  if (auto same = uniform(index)) co_return *same;
  Result<Chunk*> got = co_await chunk(index);
  co_return test_bit(CO_TRY(std::move(got))->bits.span(), number % chunk_bits());
}

Task<Result<Image::BitmapRun>> Bitmap::run(u64 offset, u64 bytes) {
  Status status = co_await load();
  CO_TRY(std::move(status));
  const u64 first = offset >> entry.granularity_bits, end = ((offset + bytes - 1) >> entry.granularity_bits) + 1;
  Result<bool> got = co_await bit(first);
  Image::BitmapRun run;
  run.dirty = CO_TRY(std::move(got));
  u64 at = first + 1;
  while (at < end) {
    const u64 index = at / chunk_bits();
    if (auto same = uniform(index)) {
      if (*same != run.dirty) break;
      at = (index + 1) * chunk_bits();
      continue;
    }
    got = co_await bit(at);
    if (CO_TRY(std::move(got)) != run.dirty) break;
    ++at;
  }
  run.bytes = std::min((at << entry.granularity_bits) - offset, bytes);
  co_return run;
}

Task<Result<u64>> Bitmap::dirty_bytes() {
  Status status = co_await load();
  CO_TRY(std::move(status));
  u64 bits = 0;
  for (u64 index = 0; index < table_.size(); ++index) {
    if (auto same = uniform(index)) {
      if (*same) bits += chunk_bits();
      continue;
    }
    Result<Chunk*> got = co_await chunk(index);
    for (u8 byte : CO_TRY(std::move(got))->bits.span()) bits += static_cast<u64>(std::popcount(byte));
  }
  co_return std::min(bits << entry.granularity_bits, align_up(core_.header.size_bytes, granularity()));
}

Task<Status> Bitmap::clear() {
  Status status = co_await load();
  CO_TRY(std::move(status));
  for (u64& place : table_)
    if (place & kOffsetMask) core_.refcounts.free_later(place & kOffsetMask, 1, FreedBy::Other);
  std::ranges::fill(table_, 0);
  chunks_.clear();
  changed_ = true;
  co_return Status{};
}

Task<Status> Bitmap::resize(u64 size_bytes) {
  Status status = co_await load();
  CO_TRY(std::move(status));
  const Geometry& g = core_.geometry();
  const u64 entries = bitmap_table_entries(g, size_bytes, entry.granularity_bits);
  if (8 * entries > kMaxBitmapTableBytes) co_return Error(ErrorKind::Invalid, fmt::format("bitmap '{}' would be too large", entry.name), EFBIG);
  for (u64 i = entries; i < table_.size(); ++i)
    if (table_[i] & kOffsetMask) core_.refcounts.free_later(table_[i] & kOffsetMask, 1, FreedBy::Other);
  chunks_.erase(chunks_.lower_bound(entries), chunks_.end());
  table_.resize(entries);
  // Bits behind the end of a smaller disk must not come back with a larger one.
  const u64 bits = (size_bytes + granularity() - 1) >> entry.granularity_bits;
  if (entries && bits % chunk_bits() && size_bytes < core_.header.size_bytes) {
    Result<Chunk*> got = co_await chunk(entries - 1);
    Chunk* last = CO_TRY(std::move(got));
    for (u64 i = bits % chunk_bits(); i < chunk_bits(); ++i)
      last->bits.span()[i / 8] = static_cast<u8>(last->bits.span()[i / 8] & ~(1u << (i % 8)));
    last->dirty = true;
  }
  changed_ = true;
  const u64 clusters = g.clusters(8 * entries), before = g.clusters(8 * u64{entry.table_entries});
  if (before) core_.refcounts.free_later(entry.table_offset, before, FreedBy::Other);
  Place place;
  if (clusters) {
    Result<Place> got = co_await core_.refcounts.allocate(clusters, clusters);
    place = CO_TRY(std::move(got));
  }
  entry.table_offset = place.offset;
  entry.table_entries = static_cast<u32>(entries);
  co_return co_await write_bitmap_table(core_, entry, table_);
}

Task<Status> Bitmap::store_chunk(u64 index, Chunk& part) {
  u64& place = table_[index];
  const bool zero = all_equal(part.bits.span(), 0), ones = all_equal(part.bits.span(), 0xff);
  if (zero || ones) {
    if (place & kOffsetMask) core_.refcounts.free_later(place & kOffsetMask, 1, FreedBy::Other);
    place = ones ? kAllOnes : 0;
  } else {
    if (!(place & kOffsetMask)) {
      Result<Place> got = co_await core_.refcounts.allocate(1, 1);
      place = CO_TRY(std::move(got)).offset;
    }
    Status status = co_await write_growing(*core_.file, place, part.bits.span());
    CO_TRY(std::move(status));
  }
  part.dirty = false;
  co_return Status{};
}

Task<Status> Bitmap::store() {
  if (!changed_) co_return Status{};
  for (auto& [index, part] : chunks_) {
    if (!part.dirty) continue;
    Status status = co_await store_chunk(index, part);
    CO_TRY(std::move(status));
  }
  Status status = co_await write_bitmap_table(core_, entry, table_);
  if (status) changed_ = false;
  co_return status;
}

void Bitmap::free_clusters() {
  for (u64 place : table_)
    if (place & kOffsetMask) core_.refcounts.free_later(place & kOffsetMask, 1, FreedBy::Other);
  const u64 clusters = core_.geometry().clusters(8 * u64{entry.table_entries});
  if (clusters) core_.refcounts.free_later(entry.table_offset, clusters, FreedBy::Other);
}

}  // namespace atl::block::qcow2
