#include "block/format/vhdx_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/endian.h"
#include "base/math.h"
#include "block/format/file_bytes.h"

namespace atl::block::vhdx {
namespace {

constexpr u64 kEntryHeaderBytes = 64, kDescriptorBytes = 32;
constexpr u64 kFirstDescriptors = (kLogSectorBytes - kEntryHeaderBytes) / kDescriptorBytes;
constexpr u64 kDescriptorsPerSector = kLogSectorBytes / kDescriptorBytes;
constexpr u64 kLeadingBytes = 8,
              kTrailingBytes = 4;  // of a data sector that its signature and sequence number stand upon
constexpr u64 kMaxEntryBytes = 64 * kMiB;
constexpr u64 kMaxReplays = 4096;  // entries of one sequence

u64 descriptor_sectors(u64 count) {
  u64 more = count > kFirstDescriptors ? count - kFirstDescriptors : 0;
  return 1 + (more + kDescriptorsPerSector - 1) / kDescriptorsPerSector;
}
u64 descriptor_at(u64 index) { return kEntryHeaderBytes + index * kDescriptorBytes; }

struct Entry {
  u64 at = 0, bytes = 0, tail = 0, sequence = 0;
  u32 descriptors = 0;
  u64 flushed_bytes = 0, last_bytes = 0;
};

/// The log is a ring.
Task<Result<std::vector<u8>>> read_ring(Node& file, const Header& header, u64 at, u64 bytes) {
  const u64 first = std::min(bytes, header.log_bytes - at);
  Result<std::vector<u8>> part = co_await read_bytes(file, header.log_offset + at, first, "the log");
  std::vector<u8> all = CO_TRY(std::move(part));
  if (first == bytes) co_return all;
  part = co_await read_bytes(file, header.log_offset, bytes - first, "the log");
  std::vector<u8> rest = CO_TRY(std::move(part));
  all.insert(all.end(), rest.begin(), rest.end());
  co_return all;
}

std::optional<Entry> parse_entry_header(std::span<const u8> b, const Header& header, u64 at) {
  if (load_le<u32>(&b[0]) != kLogMagic) return std::nullopt;
  Entry e{.at = at,
          .bytes = load_le<u32>(&b[8]),
          .tail = load_le<u32>(&b[12]),
          .sequence = load_le<u64>(&b[16]),
          .descriptors = load_le<u32>(&b[24]),
          .flushed_bytes = load_le<u64>(&b[48]),
          .last_bytes = load_le<u64>(&b[56])};
  const bool same_log = std::equal(header.log.begin(), header.log.end(), &b[32]);
  const bool sizes = e.bytes >= kLogSectorBytes && e.bytes % kLogSectorBytes == 0 &&
                     e.bytes <= std::min<u64>(header.log_bytes, kMaxEntryBytes);
  const bool places = e.tail % kLogSectorBytes == 0 && e.tail < header.log_bytes && e.sequence != 0;
  if (!same_log || !sizes || !places || e.descriptors > e.bytes / kDescriptorBytes) return std::nullopt;
  if (descriptor_sectors(e.descriptors) * kLogSectorBytes > e.bytes) return std::nullopt;
  return e;
}

/// Every descriptor and data sector bears the entry's sequence number.
bool is_complete(std::span<const u8> bytes, const Entry& e) {
  u64 data_at = descriptor_sectors(e.descriptors) * kLogSectorBytes;
  for (u64 i = 0; i < e.descriptors; ++i) {
    const u8* d = &bytes[descriptor_at(i)];
    const u32 magic = load_le<u32>(d);
    if ((magic != kZeroMagic && magic != kDescMagic) || load_le<u64>(d + 24) != e.sequence) return false;
    if (load_le<u64>(d + 16) % kLogSectorBytes) return false;
    if (magic == kZeroMagic) continue;
    if (data_at + kLogSectorBytes > bytes.size() || load_le<u32>(&bytes[data_at]) != kDataMagic) return false;
    const u64 sequence =
        u64{load_le<u32>(&bytes[data_at + 4])} << 32 | load_le<u32>(&bytes[data_at + kLogSectorBytes - 4]);
    if (sequence != e.sequence) return false;
    data_at += kLogSectorBytes;
  }
  return true;
}

/// The entry that starts there, if one does.
Task<Result<std::optional<Entry>>> read_entry(Node& file, const Header& header, u64 at) {
  Result<std::vector<u8>> head = co_await read_ring(file, header, at, kLogSectorBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  std::optional<Entry> entry = parse_entry_header(bytes, header, at);
  if (!entry) co_return entry;
  Result<std::vector<u8>> whole = co_await read_ring(file, header, at, entry->bytes);
  bytes = CO_TRY(std::move(whole));
  if (checksum(bytes, 4) != load_le<u32>(&bytes[4]) || !is_complete(bytes, *entry)) entry.reset();
  co_return entry;
}

/// All valid entries, found sector by sector.
Task<Result<std::vector<Entry>>> scan(Node& file, const Header& header) {
  std::vector<Entry> entries;
  for (u64 at = 0; at < header.log_bytes;) {
    Result<std::optional<Entry>> read = co_await read_entry(file, header, at);
    std::optional<Entry> entry = CO_TRY(std::move(read));
    if (entry) entries.push_back(*entry);
    at += entry ? entry->bytes : kLogSectorBytes;
  }
  co_return entries;
}

/// From the newest entry's tail on, each entry follows the one before; else the newest does not count.
std::vector<Entry> active_sequence(const std::vector<Entry>& entries, u64 log_bytes) {
  std::vector<const Entry*> newest_first;
  for (const Entry& e : entries) newest_first.push_back(&e);
  std::ranges::sort(newest_first, [](const Entry* a, const Entry* b) { return a->sequence > b->sequence; });
  for (const Entry* head : newest_first) {
    std::vector<Entry> chain;
    u64 at = head->tail;
    while (chain.size() < kMaxReplays) {
      auto next = std::ranges::find(entries, at, &Entry::at);
      if (next == entries.end() || (!chain.empty() && next->sequence != chain.back().sequence + 1)) break;
      chain.push_back(*next);
      if (next->at == head->at) return chain;
      at = (at + next->bytes) % log_bytes;
    }
  }
  return {};
}

Task<Status> replay_zero(Node& file, const u8* descriptor) {
  const u64 bytes = load_le<u64>(descriptor + 8), offset = load_le<u64>(descriptor + 16);
  if (!range_fits(offset, bytes, file.size_bytes()))
    co_return bad_image("vhdx", fmt::format("the log zeroes {} bytes at {:#x}", bytes, offset));
  co_return co_await file.write_zeroes(offset, bytes, kNoFlags);
}

Task<Status> replay_data(Node& file, const u8* descriptor, std::span<const u8> sector) {
  const u64 offset = load_le<u64>(descriptor + 16);
  if (!range_fits(offset, kLogSectorBytes, file.size_bytes()))
    co_return bad_image("vhdx", fmt::format("the log writes to {:#x}", offset));
  std::vector<u8> bytes(sector.begin(), sector.end());
  std::copy_n(descriptor + 8, kLeadingBytes, bytes.begin());
  std::copy_n(descriptor + 4, kTrailingBytes, bytes.end() - kTrailingBytes);
  co_return co_await write_growing(file, offset, std::span<const u8>(bytes));
}

Task<Status> replay_entry(Node& file, const Header& header, Entry e) {
  if (file.size_bytes() < e.flushed_bytes)
    co_return bad_image("vhdx", fmt::format("the file has lost data: the log knows of {} bytes", e.flushed_bytes));
  if (e.last_bytes > file.size_bytes() && e.last_bytes - file.size_bytes() > 2 * kMaxDiskBytes)
    co_return bad_image("vhdx", fmt::format("the log tells a file of {} bytes", e.last_bytes));
  Status status = co_await grow_to(file, e.last_bytes);
  CO_TRY(std::move(status));
  Result<std::vector<u8>> whole = co_await read_ring(file, header, e.at, e.bytes);
  std::vector<u8> bytes = CO_TRY(std::move(whole));
  u64 data_at = descriptor_sectors(e.descriptors) * kLogSectorBytes;
  for (u64 i = 0; i < e.descriptors; ++i) {
    const u8* descriptor = &bytes[descriptor_at(i)];
    const bool zero = load_le<u32>(descriptor) == kZeroMagic;
    if (zero)
      status = co_await replay_zero(file, descriptor);
    else
      status = co_await replay_data(file, descriptor, std::span<const u8>(bytes).subspan(data_at, kLogSectorBytes));
    CO_TRY(std::move(status));
    data_at += zero ? 0 : kLogSectorBytes;
  }
  co_return Status{};
}

}  // namespace

u64 log_capacity(u64 log_bytes) {
  const u64 sectors = log_bytes / kLogSectorBytes;
  u64 count = sectors - 1;
  while (count && descriptor_sectors(count) + count > sectors) --count;
  return count;
}

Result<std::vector<u8>> build_log_entry(const Header& header, u64 sequence, std::span<const LoggedSector> sectors,
                                        u64 file_bytes) {
  const u64 data_start = descriptor_sectors(sectors.size()) * kLogSectorBytes;
  std::vector<u8> b(data_start + sectors.size() * kLogSectorBytes);
  if (b.size() > header.log_bytes) return Error(ErrorKind::NoSpace, "vhdx: the log is too small", ENOSPC);
  store_le(&b[0], kLogMagic);
  store_le(&b[8], static_cast<u32>(b.size()));
  store_le(&b[16], sequence);
  store_le(&b[24], static_cast<u32>(sectors.size()));
  std::ranges::copy(header.log, &b[32]);
  store_le(&b[48], file_bytes);
  store_le(&b[56], file_bytes);
  for (u64 i = 0; i < sectors.size(); ++i) {
    u8* descriptor = &b[descriptor_at(i)];
    u8* data = &b[data_start + i * kLogSectorBytes];
    std::ranges::copy(sectors[i].bytes, data);
    store_le(descriptor, kDescMagic);
    std::copy_n(data, kLeadingBytes, descriptor + 8);
    std::copy_n(data + kLogSectorBytes - kTrailingBytes, kTrailingBytes, descriptor + 4);
    store_le(descriptor + 16, sectors[i].offset);
    store_le(descriptor + 24, sequence);
    store_le(data, kDataMagic);
    store_le(data + 4, static_cast<u32>(sequence >> 32));
    store_le(data + kLogSectorBytes - 4, static_cast<u32>(sequence));
  }
  store_le(&b[4], checksum(b, 4));
  return b;
}

Task<Result<bool>> replay_log(Node& file, const Header& header) {
  Result<std::vector<Entry>> scanned = co_await scan(file, header);
  std::vector<Entry> chain = active_sequence(CO_TRY(std::move(scanned)), header.log_bytes);
  for (const Entry& entry : chain) {
    Status status = co_await replay_entry(file, header, entry);
    CO_TRY(std::move(status));
  }
  Status status = co_await file.flush();
  CO_TRY(std::move(status));
  co_return !chain.empty();
}

}  // namespace atl::block::vhdx
