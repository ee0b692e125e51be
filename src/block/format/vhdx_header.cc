#include <fmt/format.h>

#include <algorithm>

#include "base/endian.h"
#include "base/math.h"
#include "block/crypto/hash.h"
#include "block/format/file_bytes.h"
#include "block/format/vhdx_spec.h"

namespace atl::block::vhdx {
namespace {

Error bad(std::string text) { return bad_image("vhdx", std::move(text)); }

/// As the specification writes it, "2DC27766-F623-4200-9D64-115E9BFD4A08", in the order of bytes on the disk.
constexpr Guid guid(u32 a, u16 b, u16 c, u64 d) {
  Guid out{};
  for (u32 i = 0; i < 4; ++i) out[i] = static_cast<u8>(a >> (8 * i));
  for (u32 i = 0; i < 2; ++i) out[4 + i] = static_cast<u8>(b >> (8 * i));
  for (u32 i = 0; i < 2; ++i) out[6 + i] = static_cast<u8>(c >> (8 * i));
  for (u32 i = 0; i < 8; ++i) out[8 + i] = static_cast<u8>(d >> (8 * (7 - i)));
  return out;
}
constexpr Guid kTableGuid = guid(0x2dc27766, 0xf623, 0x4200, 0x9d64115e9bfd4a08);
constexpr Guid kMetadataGuid = guid(0x8b7ca206, 0x4790, 0x4b9a, 0xb8fe575f050f886e);
constexpr Guid kFileParameters = guid(0xcaa16737, 0xfa36, 0x4d43, 0xb3b633f0aa44e76b);
constexpr Guid kDiskSize = guid(0x2fa54224, 0xcd1b, 0x4876, 0xb2115dbed83bf4b8);
constexpr Guid kDiskId = guid(0xbeca12ab, 0xb2e6, 0x4523, 0x93efc309e000c746);
constexpr Guid kLogicalSector = guid(0x8141bf1d, 0xa96f, 0x4709, 0xba47f233a8faab5f);
constexpr Guid kPhysicalSector = guid(0xcda348c7, 0x445d, 0x4471, 0x9cc9e9885251c556);

constexpr u32 kFixedBlocks = 1, kHasParent = 2;  // flags of the file parameters
constexpr u32 kIsDisk = 2, kIsRequired = 4;      // flags of a metadata item
constexpr u64 kEntryBytes = 32, kRegionEntriesAt = 16, kItemsAt = 32, kMaxItems = 2047, kMaxRegions = 2047;

constexpr auto kCrcTable = [] {
  std::array<u32, 256> table{};
  for (u32 i = 0; i < 256; ++i) {
    u32 value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
    table[i] = value;
  }
  return table;
}();

Guid guid_at(std::span<const u8> bytes, u64 at) {
  Guid out;
  std::copy_n(&bytes[at], out.size(), out.begin());
  return out;
}

std::optional<Header> parse_header(std::span<const u8> bytes, u64 at) {
  if (bytes.size() < kHeaderBytes || load_le<u32>(&bytes[0]) != kHeadMagic) return std::nullopt;
  if (checksum(bytes.first(kHeaderBytes), 4) != load_le<u32>(&bytes[4])) return std::nullopt;
  return Header{.at = at,
                .sequence = load_le<u64>(&bytes[8]),
                .file_write = guid_at(bytes, 16),
                .data_write = guid_at(bytes, 32),
                .log = guid_at(bytes, 48),
                .version = load_le<u16>(&bytes[66]),
                .log_bytes = load_le<u32>(&bytes[68]),
                .log_offset = load_le<u64>(&bytes[72])};
}

bool is_region(u64 offset, u64 bytes) {
  return offset >= kMiB && offset % kMiB == 0 && bytes % kMiB == 0 && bytes > 0 && offset < u64{1} << 62;
}

Status parse_item(const Guid& id, std::span<const u8> data, bool required, Metadata& out) {
  auto word = [&](u64 at) { return data.size() >= at + 4 ? load_le<u32>(&data[at]) : 0; };
  if (id == kFileParameters) {
    out.block_bytes = word(0);
    out.fixed = word(4) & kFixedBlocks;
    if (word(4) & kHasParent)
      return Error(ErrorKind::Unsupported, "vhdx: differencing images are not supported", ENOTSUP);
  } else if (id == kDiskSize) {
    out.disk_bytes = data.size() >= 8 ? load_le<u64>(data.data()) : 0;
  } else if (id == kLogicalSector) {
    out.sector_bytes = word(0);
  } else if (id == kPhysicalSector) {
    out.physical_sector_bytes = word(0);
  } else if (required && id != kDiskId) {
    return Error(ErrorKind::Unsupported, "vhdx: an unknown required metadata item", ENOTSUP);
  }
  return {};
}

Status check_metadata(const Metadata& m) {
  if (!is_power_of_two(m.block_bytes) || m.block_bytes < kMinBlockBytes || m.block_bytes > kMaxBlockBytes)
    return bad(fmt::format("a block size of {} bytes", m.block_bytes));
  if (m.sector_bytes != 512)
    return Error(ErrorKind::Unsupported,
                 fmt::format("vhdx: logical sectors of {} bytes are not supported", m.sector_bytes), ENOTSUP);
  if (m.disk_bytes > kMaxDiskBytes || m.disk_bytes % m.sector_bytes)
    return bad(fmt::format("a disk size of {} bytes", m.disk_bytes));
  return {};
}

}  // namespace

u32 checksum(std::span<const u8> bytes, u64 sum_at) {
  u32 crc = ~u32{0};
  for (u64 i = 0; i < bytes.size(); ++i) {
    u8 byte = i >= sum_at && i < sum_at + 4 ? u8{0} : bytes[i];
    crc = crc >> 8 ^ kCrcTable[(crc ^ byte) & 0xff];
  }
  return ~crc;
}

Result<Header> choose_header(std::span<const u8> first, std::span<const u8> second) {
  auto a = parse_header(first, kHeader1At), b = parse_header(second, kHeader2At);
  if (!a && !b) return bad("neither of the headers is valid");
  Header header = !b || (a && a->sequence > b->sequence) ? *a : *b;
  if (header.version != 1)
    return Error(ErrorKind::Unsupported, fmt::format("vhdx: version {} is not supported", header.version), ENOTSUP);
  if (!is_region(header.log_offset, header.log_bytes) || header.log_bytes > 256 * kMiB)
    return bad(fmt::format("a log of {} bytes at {:#x}", header.log_bytes, header.log_offset));
  return header;
}

Result<Regions> parse_regions(std::span<const u8> bytes) {
  if (bytes.size() < kRegionBytes || load_le<u32>(&bytes[0]) != kRegionMagic ||
      checksum(bytes.first(kRegionBytes), 4) != load_le<u32>(&bytes[4]))
    return bad("the region table's checksum is wrong");
  const u32 count = load_le<u32>(&bytes[8]);
  if (count > kMaxRegions) return bad(fmt::format("a region table of {} entries", count));
  Regions regions;
  for (u64 at = kRegionEntriesAt; at < kRegionEntriesAt + count * kEntryBytes; at += kEntryBytes) {
    const Guid id = guid_at(bytes, at);
    const Region region{load_le<u64>(&bytes[at + 16]), load_le<u32>(&bytes[at + 24])};
    const bool known = id == kTableGuid || id == kMetadataGuid;
    if (!known && load_le<u32>(&bytes[at + 28]) & 1)
      return Error(ErrorKind::Unsupported, "vhdx: an unknown required region", ENOTSUP);
    if (!known) continue;
    if (!is_region(region.offset, region.bytes))
      return bad(fmt::format("a region of {} bytes at {:#x}", region.bytes, region.offset));
    Region& place = id == kTableGuid ? regions.table : regions.metadata;
    if (place.bytes) return bad("a region is listed twice");
    place = region;
  }
  if (!regions.table.bytes || !regions.metadata.bytes) return bad("a region is missing: block table or metadata");
  return regions;
}

Result<Metadata> parse_metadata(std::span<const u8> region) {
  if (region.size() < kMetadataTableBytes || load_le<u64>(&region[0]) != kMetadataMagic)
    return bad("no metadata table");
  const u32 count = load_le<u16>(&region[10]);
  if (count > kMaxItems) return bad(fmt::format("a metadata table of {} entries", count));
  Metadata metadata;
  for (u64 at = kItemsAt; at < kItemsAt + count * kEntryBytes; at += kEntryBytes) {
    const u32 offset = load_le<u32>(&region[at + 16]), bytes = load_le<u32>(&region[at + 20]),
              flags = load_le<u32>(&region[at + 24]);
    if (!range_fits(offset, bytes, region.size()))
      return bad(fmt::format("a metadata item of {} bytes at {:#x}", bytes, offset));
    TRY(parse_item(guid_at(region, at), region.subspan(offset, bytes), flags & kIsRequired, metadata));
  }
  TRY(check_metadata(metadata));
  return metadata;
}

std::vector<u8> build_header(const Header& header) {
  std::vector<u8> bytes(kHeaderBytes);
  store_le(&bytes[0], kHeadMagic);
  store_le(&bytes[8], header.sequence);
  std::ranges::copy(header.file_write, &bytes[16]);
  std::ranges::copy(header.data_write, &bytes[32]);
  std::ranges::copy(header.log, &bytes[48]);
  store_le(&bytes[66], header.version);
  store_le(&bytes[68], header.log_bytes);
  store_le(&bytes[72], header.log_offset);
  store_le(&bytes[4], checksum(bytes, 4));
  return bytes;
}

std::vector<u8> build_regions(const Regions& regions) {
  std::vector<u8> bytes(kRegionBytes);
  store_le(&bytes[0], kRegionMagic);
  store_le(&bytes[8], u32{2});
  auto put = [&](u64 at, const Guid& id, const Region& region) {
    std::ranges::copy(id, &bytes[at]);
    store_le(&bytes[at + 16], region.offset);
    store_le(&bytes[at + 24], region.bytes);
    store_le(&bytes[at + 28], u32{1});
  };
  put(kRegionEntriesAt, kTableGuid, regions.table);
  put(kRegionEntriesAt + kEntryBytes, kMetadataGuid, regions.metadata);
  store_le(&bytes[4], checksum(bytes, 4));
  return bytes;
}

Result<std::vector<u8>> build_metadata(const Metadata& m) {
  std::vector<u8> bytes(kMetadataTableBytes);
  store_le(&bytes[0], kMetadataMagic);
  u16 count = 0;
  auto add = [&](const Guid& id, std::span<const u8> data, u32 flags) {
    const u64 at = kItemsAt + count++ * kEntryBytes;
    std::ranges::copy(id, &bytes[at]);
    store_le(&bytes[at + 16], static_cast<u32>(bytes.size()));
    store_le(&bytes[at + 20], static_cast<u32>(data.size()));
    store_le(&bytes[at + 24], flags);
    bytes.insert(bytes.end(), data.begin(), data.end());
  };
  u8 item[16] = {};
  store_le(&item[0], m.block_bytes);
  store_le(&item[4], m.fixed ? kFixedBlocks : u32{0});
  add(kFileParameters, {item, 8}, kIsRequired);
  store_le(&item[0], m.disk_bytes);
  add(kDiskSize, {item, 8}, kIsRequired | kIsDisk);
  TRY(crypto::fill_random(item));
  add(kDiskId, item, kIsRequired | kIsDisk);
  store_le(&item[0], m.sector_bytes);
  add(kLogicalSector, {item, 4}, kIsRequired | kIsDisk);
  store_le(&item[0], m.physical_sector_bytes);
  add(kPhysicalSector, {item, 4}, kIsRequired | kIsDisk);
  store_le(&bytes[10], count);
  return bytes;
}

}  // namespace atl::block::vhdx
