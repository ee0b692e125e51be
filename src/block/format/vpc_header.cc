#include <fmt/format.h>
#include <time.h>

#include <algorithm>

#include "base/endian.h"
#include "base/math.h"
#include "block/crypto/hash.h"
#include "block/format/file_bytes.h"
#include "block/format/vpc_spec.h"

namespace atl::block::vpc {
namespace {

constexpr std::string_view kFooterCookie = "conectix", kDynamicCookie = "cxsparse";
constexpr u32 kVersion = 0x0001'0000, kReservedFeature = 2;
constexpr i64 kEpoch = 946684800;  // 2000-01-01, from which time stamps count
constexpr u64 kFooterSumAt = 64, kDynamicSumAt = 36;

bool has_cookie(std::span<const u8> bytes, std::string_view cookie) {
  return bytes.size() >= cookie.size() && std::equal(cookie.begin(), cookie.end(), bytes.begin());
}

/// One's complement of the sum of all bytes, the sum's own counted as zero.
u32 checksum(std::span<const u8> bytes, u64 sum_at) {
  u32 sum = 0;
  for (u64 i = 0; i < bytes.size(); ++i)
    if (i < sum_at || i >= sum_at + 4) sum += bytes[i];
  return ~sum;
}

}  // namespace

std::optional<Footer> parse_footer(std::span<const u8> bytes) {
  if (bytes.size() < kFooterBytes || !has_cookie(bytes, kFooterCookie)) return std::nullopt;
  return Footer{.type = load_be<u32>(&bytes[60]),
                .header_offset = load_be<u64>(&bytes[16]),
                .creator = std::string(reinterpret_cast<const char*>(&bytes[28]), 4),
                .disk_bytes = load_be<u64>(&bytes[48]),
                .geometry = {load_be<u16>(&bytes[56]), bytes[58], bytes[59]}};
}

Result<DynamicHeader> parse_dynamic(std::span<const u8> bytes) {
  auto bad = [](std::string text) { return bad_image("vpc", "dynamic header: " + std::move(text)); };
  if (!has_cookie(bytes, kDynamicCookie)) return bad("no cookie 'cxsparse'");
  DynamicHeader header{load_be<u64>(&bytes[16]), load_be<u32>(&bytes[28]), load_be<u32>(&bytes[32])};
  if (!is_power_of_two(header.block_bytes) || header.block_bytes < kSectorBytes)
    return bad(fmt::format("a block size of {} bytes", header.block_bytes));
  if (header.entries > kMaxSectors * kSectorBytes / header.block_bytes + 1)
    return bad(fmt::format("a table of {} blocks is too large", header.entries));
  if (!range_fits(header.table_offset, 4 * u64{header.entries}, u64{1} << 62))
    return bad(fmt::format("the table's offset {:#x}", header.table_offset));
  return header;
}

Result<std::vector<u8>> build_footer(const Footer& footer) {
  std::vector<u8> bytes(kFooterBytes);
  std::ranges::copy(kFooterCookie, bytes.begin());
  store_be(&bytes[8], kReservedFeature);
  store_be(&bytes[12], kVersion);
  store_be(&bytes[16], footer.header_offset);
  store_be(&bytes[24], static_cast<u32>(::time(nullptr) - kEpoch));
  std::ranges::copy(footer.creator, &bytes[28]);
  store_be<u16>(&bytes[32], 5);
  store_be<u16>(&bytes[34], 3);
  std::ranges::copy(std::string_view("Wi2k"), &bytes[36]);
  store_be(&bytes[40], footer.disk_bytes);
  store_be(&bytes[48], footer.disk_bytes);
  store_be(&bytes[56], static_cast<u16>(footer.geometry.cylinders));
  bytes[58] = static_cast<u8>(footer.geometry.heads);
  bytes[59] = static_cast<u8>(footer.geometry.sectors);
  store_be(&bytes[60], footer.type);
  TRY(crypto::fill_random(std::span(bytes).subspan(68, 16)));
  store_be(&bytes[kFooterSumAt], checksum(bytes, kFooterSumAt));
  return bytes;
}

std::vector<u8> build_dynamic(const DynamicHeader& header) {
  std::vector<u8> bytes(kDynamicBytes);
  std::ranges::copy(kDynamicCookie, bytes.begin());
  store_be(&bytes[8], ~u64{0});
  store_be(&bytes[16], header.table_offset);
  store_be(&bytes[24], kVersion);
  store_be(&bytes[28], header.entries);
  store_be(&bytes[32], header.block_bytes);
  store_be(&bytes[kDynamicSumAt], checksum(bytes, kDynamicSumAt));
  return bytes;
}

Geometry geometry_of(u64 sectors) {
  sectors = std::min(sectors, kLargest.total());
  Geometry g{0, 16, 255};
  u64 tracks = sectors / g.sectors;
  if (sectors <= u64{65535} * 16 * 63) {
    g.sectors = 17;
    tracks = sectors / g.sectors;
    g.heads = std::max<u32>(4, static_cast<u32>((tracks + 1023) / 1024));
    if (tracks >= u64{g.heads} * 1024 || g.heads > 16) {
      g.heads = 16;
      g.sectors = 31;
      tracks = sectors / g.sectors;
    }
    if (tracks >= u64{g.heads} * 1024) {
      g.sectors = 63;
      tracks = sectors / g.sectors;
    }
  }
  g.cylinders = static_cast<u32>((tracks + g.heads - 1) / g.heads);
  return g;
}

Geometry geometry_for(u64 sectors) {
  if (sectors >= kLargest.total()) return kLargest;
  Geometry g = geometry_of(sectors);
  for (u64 more = 1; g.total() < sectors; ++more) g = geometry_of(sectors + more);
  return g;
}

}  // namespace atl::block::vpc
