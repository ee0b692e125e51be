#include "block/format/qcow2/bitmap_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kFixedBytes = 24;

Error bad(std::string text) { return Error(ErrorKind::Invalid, "qcow2 bitmap directory: " + std::move(text), EINVAL); }

Status check_entry(const Header& header, const BitmapEntry& entry, u64 file_bytes) {
  if (entry.granularity_bits < kMinGranularityBits || entry.granularity_bits > kMaxGranularityBits)
    return bad(fmt::format("'{}' has a granularity of 1 << {}", entry.name, entry.granularity_bits));
  if (header.geometry.in_cluster(entry.table_offset))
    return bad(fmt::format("table offset {:#x} of '{}' is not aligned", entry.table_offset, entry.name));
  const u64 bytes = 8 * u64{entry.table_entries};
  if (bytes > kMaxBitmapTableBytes || !range_fits(entry.table_offset, bytes, header.geometry.cluster_end(file_bytes)))
    return bad(fmt::format("the table of '{}' has {} entries", entry.name, entry.table_entries));
  return {};
}

Result<BitmapEntry> parse_entry(std::span<const u8> bytes, u64& at) {
  if (!range_fits(at, kFixedBytes, bytes.size())) return bad(fmt::format("cut short at byte {}", at));
  const u8* fixed = &bytes[at];
  BitmapEntry entry;
  entry.table_offset = load_be<u64>(fixed);
  entry.table_entries = load_be<u32>(fixed + 8);
  entry.flags = load_be<u32>(fixed + 12);
  entry.type = fixed[16];
  entry.granularity_bits = fixed[17];
  const u64 name_bytes = load_be<u16>(fixed + 18), extra_bytes = load_be<u32>(fixed + 20);
  if (name_bytes == 0 || name_bytes > kMaxBitmapNameBytes) return bad(fmt::format("a name of {} bytes", name_bytes));
  if (!range_fits(at + kFixedBytes, extra_bytes + name_bytes, bytes.size())) return bad(fmt::format("cut short at byte {}", at));
  entry.extra.assign(fixed + kFixedBytes, fixed + kFixedBytes + extra_bytes);
  entry.name.assign(reinterpret_cast<const char*>(fixed + kFixedBytes + extra_bytes), name_bytes);
  at = align_up(at + kFixedBytes + extra_bytes + name_bytes, 8);
  return entry;
}

}  // namespace

u64 bitmap_table_entries(const Geometry& g, u64 size_bytes, u32 granularity_bits) {
  const u64 per_entry = g.cluster_bytes() * 8;
  const u64 bits = (size_bytes >> granularity_bits) + ((size_bytes & ((u64{1} << granularity_bits) - 1)) != 0);
  return bits / per_entry + (bits % per_entry != 0);
}

Task<Result<std::vector<BitmapEntry>>> read_bitmap_directory(Core& core) {
  std::vector<BitmapEntry> entries;
  if (!core.header.bitmaps) co_return entries;
  const BitmapsExtension place = *core.header.bitmaps;
  const u64 file_bytes = core.file->size_bytes();
  if (!range_fits(place.directory_offset, place.directory_bytes, core.geometry().cluster_end(file_bytes)))
    co_return bad("it lies past the end of the file");
  std::vector<u8> bytes(place.directory_bytes);
  Status status = co_await read_padded(*core.file, place.directory_offset, std::span<u8>(bytes));
  CO_TRY(std::move(status));
  for (u64 at = 0; entries.size() < place.count;) {
    BitmapEntry entry = CO_TRY(parse_entry(bytes, at));
    CO_TRY(check_entry(core.header, entry, file_bytes));
    entries.push_back(std::move(entry));
  }
  co_return entries;
}

std::vector<u8> build_bitmap_directory(const std::vector<BitmapEntry>& entries) {
  std::vector<u8> bytes;
  for (const BitmapEntry& entry : entries) {
    const u64 at = bytes.size();
    bytes.resize(at + kFixedBytes);
    u8* fixed = &bytes[at];
    store_be(fixed, entry.table_offset);
    store_be(fixed + 8, entry.table_entries);
    store_be(fixed + 12, entry.flags);
    fixed[16] = entry.type;
    fixed[17] = entry.granularity_bits;
    store_be(fixed + 18, static_cast<u16>(entry.name.size()));
    store_be(fixed + 20, static_cast<u32>(entry.extra.size()));
    bytes.insert(bytes.end(), entry.extra.begin(), entry.extra.end());
    bytes.insert(bytes.end(), entry.name.begin(), entry.name.end());
    bytes.resize(align_up(bytes.size(), 8));
  }
  return bytes;
}

Task<Result<std::vector<u64>>> read_bitmap_table(Core& core, const BitmapEntry& entry) {
  std::vector<u8> bytes(8 * u64{entry.table_entries});
  Status status = co_await read_padded(*core.file, entry.table_offset, std::span<u8>(bytes));
  CO_TRY(std::move(status));
  std::vector<u64> table(entry.table_entries);
  for (size_t i = 0; i < table.size(); ++i) {
    table[i] = load_be<u64>(&bytes[8 * i]);
    const u64 cluster = table[i] & kOffsetMask;
    if (core.geometry().in_cluster(cluster) || (table[i] & ~(kOffsetMask | kAllOnes)) || (cluster && (table[i] & kAllOnes)))
      co_return core.corrupt(fmt::format("entry {} of the table of bitmap '{}' is {:#x}", i, entry.name, table[i]));
  }
  co_return table;
}

Task<Status> write_bitmap_table(Core& core, const BitmapEntry& entry, const std::vector<u64>& table) {
  std::vector<u8> bytes(8 * table.size());
  for (size_t i = 0; i < table.size(); ++i) store_be(&bytes[8 * i], table[i]);
  co_return co_await write_growing(*core.file, entry.table_offset, std::span<const u8>(bytes));
}

}  // namespace atl::block::qcow2
