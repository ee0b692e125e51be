// The header: what its bytes mean, and which headers are refused.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/endian.h"
#include "base/math.h"
#include "block/format/qcow2.h"

namespace atl::block {

using namespace qcow2;

namespace {

Error bad(std::string text) { return Error(ErrorKind::Invalid, "qcow2 header: " + std::move(text)); }

struct Feature {
  u64 bit;
  const char* name;
};
constexpr Feature kRefused[] = {
    {kDataFile, "an external data file"},
    {kExtendedL2, "extended L2 entries"},
};
constexpr u64 kHarmless = kDirty | kCorrupt | kCompressionType;  // matter to writers and to compressed clusters

Status check_features(const Qcow2Header& header) {
  u64 rest = header.incompatible & ~kHarmless;
  for (const Feature& feature : kRefused)
    if (rest & feature.bit)
      return Error(ErrorKind::Unsupported, fmt::format("qcow2 images with {} are not supported", feature.name));
  if (rest) return Error(ErrorKind::Unsupported, fmt::format("unknown incompatible qcow2 features {:#x}", rest));
  return {};
}

Status check_table(const char* name, u64 offset, u64 bytes, u64 cluster_bytes) {
  if (offset % cluster_bytes) return bad(fmt::format("{} at {:#x} is not aligned to a cluster", name, offset));
  if (!checked_add(offset, bytes) || offset + bytes > (u64{1} << 56))
    return bad(fmt::format("{} at {:#x} is too far out", name, offset));
  return {};
}

Status check_sizes(const Qcow2Header& header) {
  const Geometry& g = header.geometry;
  if (header.l1_entries > kMaxL1Bytes / 8)
    return bad(fmt::format("an L1 table of {} entries is too large", header.l1_entries));
  if (g.l1_entries(header.size_bytes) > header.l1_entries)
    return bad(
        fmt::format("an L1 table of {} entries is too small for {} bytes", header.l1_entries, header.size_bytes));
  if (header.refcount_table_clusters == 0 || header.refcount_table_clusters > kMaxRefcountTableBytes >> g.cluster_bits)
    return bad(fmt::format("a refcount table of {} clusters", header.refcount_table_clusters));
  TRY(check_table("L1 table", header.l1_offset, header.l1_entries * u64{8}, g.cluster_bytes()));
  return check_table("refcount table", header.refcount_table_offset,
                     u64{header.refcount_table_clusters} << g.cluster_bits, g.cluster_bytes());
}

Result<std::string> text_at(std::span<const u8> bytes, u64 offset, u64 size, const char* what) {
  if (!range_fits(offset, size, bytes.size())) return bad(fmt::format("{} lies outside of the first cluster", what));
  return std::string(reinterpret_cast<const char*>(bytes.data() + offset), size);
}

/// Extensions: type, length, data padded to 8 bytes. Unknown ones are skipped.
Status parse_extensions(std::span<const u8> bytes, u64 at, u64 end, Qcow2Header& header) {
  while (range_fits(at, 8, end)) {
    u32 type = load_be<u32>(&bytes[at]), length = load_be<u32>(&bytes[at + 4]);
    if (type == kExtensionEnd) return {};
    at += 8;
    if (!range_fits(at, length, end)) return bad(fmt::format("extension {:#x} is cut short", type));
    if (type == kExtensionBackingFormat) header.backing_format = TRY(text_at(bytes, at, length, "backing format"));
    at += align_up(length, 8);
  }
  return {};
}

}  // namespace

Result<Qcow2Header> parse_qcow2_header(std::span<const u8> bytes) {
  if (bytes.size() < kHeaderV2Bytes || load_be<u32>(&bytes[0]) != kMagic)
    return Error(ErrorKind::Invalid, "Image is not in qcow2 format");
  auto word = [&](u64 at) { return load_be<u32>(&bytes[at]); };
  auto wide = [&](u64 at) { return load_be<u64>(&bytes[at]); };
  Qcow2Header header;
  header.version = word(4);
  if (header.version != 2 && header.version != 3)
    return Error(ErrorKind::Unsupported, fmt::format("qcow2 version {} is not supported", header.version));
  u64 header_bytes = kHeaderV2Bytes;
  if (header.version == 3) {
    if (bytes.size() < kHeaderV3Bytes) return bad("cut short");
    header.incompatible = wide(72);
    header.compatible = wide(80);
    header.autoclear = wide(88);
    header.geometry.refcount_order = word(96);
    header_bytes = word(100);
    TRY(check_features(header));
  }
  header.geometry.cluster_bits = word(20);
  if (header.geometry.cluster_bits < kMinClusterBits || header.geometry.cluster_bits > kMaxClusterBits)
    return bad(fmt::format("cluster size 1 << {}", header.geometry.cluster_bits));
  if (header.geometry.refcount_order > 6)
    return bad(fmt::format("refcount width 1 << {}", header.geometry.refcount_order));
  if (word(32) != 0) return Error(ErrorKind::Unsupported, "encrypted qcow2 images are not supported");
  header.size_bytes = wide(24);
  header.l1_entries = word(36);
  header.l1_offset = wide(40);
  header.refcount_table_offset = wide(48);
  header.refcount_table_clusters = word(56);
  header.snapshots = word(60);
  TRY(check_sizes(header));
  u64 backing_at = wide(8), backing_bytes = word(16);
  u64 end = std::min<u64>(bytes.size(), header.geometry.cluster_bytes());
  if (backing_at) {
    if (backing_bytes > kMaxBackingName) return bad(fmt::format("a backing file name of {} bytes", backing_bytes));
    header.backing_file = TRY(text_at(bytes.first(end), backing_at, backing_bytes, "backing file name"));
    if (backing_at < end) end = backing_at;
  }
  TRY(parse_extensions(bytes, header_bytes, end, header));
  return header;
}

Result<std::vector<u8>> build_qcow2_header(const Qcow2Header& header) {
  std::vector<u8> bytes(header.version == 3 ? kHeaderV3Bytes : kHeaderV2Bytes);
  auto word = [&](u64 at, u32 value) { store_be(&bytes[at], value); };
  auto wide = [&](u64 at, u64 value) { store_be(&bytes[at], value); };
  word(0, kMagic);
  word(4, header.version);
  word(20, header.geometry.cluster_bits);
  wide(24, header.size_bytes);
  word(36, header.l1_entries);
  wide(40, header.l1_offset);
  wide(48, header.refcount_table_offset);
  word(56, header.refcount_table_clusters);
  if (header.version == 3) {
    wide(72, header.incompatible);
    wide(80, header.compatible);
    word(96, header.geometry.refcount_order);
    word(100, kHeaderV3Bytes);
  }
  auto append = [&](std::string_view text) { bytes.insert(bytes.end(), text.begin(), text.end()); };
  auto append_word = [&](u32 value) {
    bytes.resize(bytes.size() + 4);
    store_be(&bytes[bytes.size() - 4], value);
  };
  if (!header.backing_format.empty()) {
    append_word(kExtensionBackingFormat);
    append_word(static_cast<u32>(header.backing_format.size()));
    append(header.backing_format);
    bytes.resize(align_up(bytes.size(), 8));
  }
  append_word(kExtensionEnd);
  append_word(0);
  if (!header.backing_file.empty()) {
    wide(8, bytes.size());
    word(16, static_cast<u32>(header.backing_file.size()));
    append(header.backing_file);
  }
  if (header.backing_file.size() > kMaxBackingName || bytes.size() > header.geometry.cluster_bytes())
    return Error(ErrorKind::Invalid, "the backing file's name is too long for a qcow2 header");
  return bytes;
}

Task<Result<Qcow2Header>> read_qcow2_header(Node& file) {
  std::vector<u8> bytes(std::min<u64>(file.size_bytes(), u64{1} << kMaxClusterBits));
  iovec whole{bytes.data(), bytes.size()};
  Status status = co_await file.read(0, {&whole, 1});
  CO_TRY(std::move(status));
  co_return parse_qcow2_header(bytes);
}

}  // namespace atl::block
