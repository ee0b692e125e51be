#include "block/format/qcow2/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "base/math.h"
#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {
namespace {

// The texts are those that scripts know from qemu-img.
Error bad(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

struct Feature {
  u8 type;  // 0: incompatible, 1: compatible, 2: autoclear
  u8 bit;
  const char* name;
};
constexpr Feature kFeatures[] = {
    {0, 0, "dirty bit"},          {0, 1, "corrupt bit"},           {0, 2, "external data file"},
    {0, 3, "compression type"},   {0, 4, "extended L2 entries"},   {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},            {2, 1, "raw external data"},
};
constexpr u64 kFeatureBytes = 48;
constexpr u64 kUsualBytes = 64 * kKiB;

Status check_table(const char* name, u64 offset, u64 bytes, u64 cluster_bytes) {
  if (offset % cluster_bytes || !checked_add(offset, bytes) || offset + bytes > kMaxHostOffset)
    return bad(fmt::format("{} offset invalid", name));
  return {};
}

Status check_l1(const Header& header) {
  const Geometry& g = header.geometry;
  if (header.l1_entries > kMaxL1Bytes / 8)
    return bad("Active L1 table too large");
  if (g.l1_entries(header.size_bytes) > 0x7fff'ffff) return Error(ErrorKind::Invalid, "Image is too big", EFBIG);
  if (g.l1_entries(header.size_bytes) > header.l1_entries) return bad("L1 table is too small");
  return check_table("Active L1 table", header.l1_offset, header.l1_entries * u64{8}, g.cluster_bytes());
}

Status check_tables(const Header& header, bool for_check) {
  const Geometry& g = header.geometry;
  TRY(check_l1(header));
  if (header.refcount_table_clusters == 0 && !for_check) return bad("Image does not contain a reference count table");
  if (header.refcount_table_clusters > kMaxRefcountTableBytes >> g.cluster_bits) return bad("Reference count table too large");
  TRY(check_table("Reference count table", header.refcount_table_offset,
                  u64{header.refcount_table_clusters} << g.cluster_bits, g.cluster_bytes()));
  if (header.snapshots > kMaxSnapshots) return bad("Snapshot table too large");
  if (header.snapshots == 0) return {};
  return check_table("Snapshot table", header.snapshots_offset, 0, g.cluster_bytes());
}

Result<std::string> text_at(std::span<const u8> bytes, u64 offset, u64 size) {
  if (!range_fits(offset, size, bytes.size())) return bad("Invalid backing file offset");
  return std::string(reinterpret_cast<const char*>(bytes.data() + offset), size);
}

/// The image's own name for a feature; "" if it has none.
std::string feature_name(std::span<const u8> table, u64 bit) {
  for (u64 at = 0; at + kFeatureBytes <= table.size(); at += kFeatureBytes)
    if (table[at] == 0 && table[at + 1] == bit) {
      const char* name = reinterpret_cast<const char*>(&table[at + 2]);
      return std::string(name, ::strnlen(name, kFeatureBytes - 2));
    }
  return {};
}

Status check_features(const Header& header, std::span<const u8> names) {
  const u64 unknown = header.incompatible & ~kKnownIncompatible;
  if (unknown == 0) return {};
  std::string list;
  u64 nameless = 0;
  for (u64 bit = 0; bit < 64; ++bit) {
    if (!(unknown >> bit & 1)) continue;
    const std::string name = feature_name(names, bit);
    if (name.empty()) nameless |= u64{1} << bit;
    else list += (list.empty() ? "" : ", ") + name;
  }
  if (nameless) list += fmt::format("{}Unknown incompatible feature: {:x}", list.empty() ? "" : ", ", nameless);
  return Error(ErrorKind::Unsupported, "Unsupported qcow2 feature(s): " + list, ENOTSUP);
}

Status parse_bitmaps(std::span<const u8> data, Header& header) {
  if (data.size() != 24) return bad("the bitmaps extension has a wrong length");
  BitmapsExtension found{load_be<u32>(&data[0]), load_be<u64>(&data[8]), load_be<u64>(&data[16])};
  if (load_be<u32>(&data[4])) return bad("the bitmaps extension's reserved field is not zero");
  if (found.count == 0 || found.count > kMaxBitmaps || found.directory_bytes > kMaxBitmapDirectoryBytes)
    return bad(fmt::format("{} bitmaps in a directory of {} bytes", found.count, found.directory_bytes));
  TRY(check_table("bitmap directory", found.directory_offset, found.directory_bytes, header.geometry.cluster_bytes()));
  header.bitmaps = found;
  return {};
}

Status parse_crypto(std::span<const u8> data, Header& header) {
  if (data.size() != 16) return bad("the encryption extension has a wrong length");
  CryptoPlace found{load_be<u64>(&data[0]), load_be<u64>(&data[8])};
  TRY(check_table("encryption header", found.offset, found.bytes, header.geometry.cluster_bytes()));
  header.crypto = found;
  return {};
}

Status parse_extension(u32 type, std::span<const u8> data, Header& header, std::vector<u8>& names) {
  std::string text(reinterpret_cast<const char*>(data.data()), data.size());
  switch (type) {
    case kExtensionBackingFormat:
      if (text.size() > 15) return bad("the backing format's name is too long");
      header.backing_format = text;
      return {};
    case kExtensionDataFile: header.data_file = text; return {};
    case kExtensionFeatureNames:
      names.assign(data.begin(), data.end());
      names.resize((names.size() + kFeatureBytes - 1) / kFeatureBytes * kFeatureBytes);   // the last name may be cut short
      return {};
    case kExtensionBitmaps: return parse_bitmaps(data, header);
    case kExtensionCrypto: return parse_crypto(data, header);
    default: header.unknown_extensions.push_back({type, {data.begin(), data.end()}}); return {};
  }
}

/// Extensions: type, length, data padded to 8 bytes.
Status parse_extensions(std::span<const u8> bytes, u64 at, u64 end, Header& header, std::vector<u8>& names) {
  while (range_fits(at, 8, end)) {
    u32 type = load_be<u32>(&bytes[at]), length = load_be<u32>(&bytes[at + 4]);
    if (type == kExtensionEnd) return {};
    at += 8;
    if (!range_fits(at, length, end)) return bad("Header extension too large");
    TRY(parse_extension(type, bytes.subspan(at, length), header, names));
    at += align_up(u64{length}, 8);
  }
  return {};
}

Status parse_v3_fields(std::span<const u8> bytes, Header& header, u64& header_bytes) {
  if (bytes.size() < kHeaderV3Bytes) return bad("cut short");
  header.incompatible = load_be<u64>(&bytes[72]);
  header.compatible = load_be<u64>(&bytes[80]);
  header.autoclear = load_be<u64>(&bytes[88]);
  header.geometry.refcount_order = load_be<u32>(&bytes[96]);
  header.geometry.extended_l2 = header.incompatible & kExtendedL2;
  header_bytes = load_be<u32>(&bytes[100]);
  if (header_bytes < kHeaderV3Bytes) return bad("qcow2 header too short");
  if (header_bytes > std::min(bytes.size(), header.geometry.cluster_bytes()))
    return bad("qcow2 header exceeds cluster size");
  if (header_bytes > kHeaderV3Bytes) header.compression = bytes[104];
  if (header_bytes > kHeaderTypedBytes)
    header.unknown_fields.assign(&bytes[kHeaderTypedBytes], &bytes[0] + header_bytes);
  return {};
}

Status check_values(const Header& header) {
  const Geometry& g = header.geometry;
  if (g.refcount_order > 6) return bad("Reference count entry width too large; may not exceed 64 bits");
  if (g.extended_l2 && g.cluster_bits < 14) return bad("extended L2 entries need clusters of 16 KiB at least");
  if (header.encryption > kLuks) return bad(fmt::format("Unsupported encryption method {}", header.encryption));
  if (header.compression > kZstd) return bad(fmt::format("unknown compression type {}", header.compression));
  if ((header.compression != kZlib) != ((header.incompatible & kCompressionType) != 0))
    return bad(fmt::format("compression type {} contradicts the feature bits", header.compression));
  return {};
}

}  // namespace

Result<Header> parse_header(std::span<const u8> bytes, bool for_check) {
  if (bytes.size() < kHeaderV2Bytes || load_be<u32>(&bytes[0]) != kMagic)
    return Error(ErrorKind::Invalid, "Image is not in qcow2 format", EINVAL);
  auto word = [&](u64 at) { return load_be<u32>(&bytes[at]); };
  auto wide = [&](u64 at) { return load_be<u64>(&bytes[at]); };
  Header header;
  header.version = word(4);
  if (header.version != 2 && header.version != 3)
    return Error(ErrorKind::Unsupported, fmt::format("Unsupported qcow2 version {}", header.version), ENOTSUP);
  header.geometry.cluster_bits = word(20);
  if (header.geometry.cluster_bits < kMinClusterBits || header.geometry.cluster_bits > kMaxClusterBits)
    return bad(fmt::format("Unsupported cluster size: 2^{}", header.geometry.cluster_bits));
  u64 header_bytes = kHeaderV2Bytes;
  if (header.version == 3) TRY(parse_v3_fields(bytes, header, header_bytes));
  header.size_bytes = wide(24);
  header.encryption = word(32);
  header.l1_entries = word(36);
  header.l1_offset = wide(40);
  header.refcount_table_offset = wide(48);
  header.refcount_table_clusters = word(56);
  header.snapshots = word(60);
  header.snapshots_offset = wide(64);
  u64 backing_at = wide(8), backing_bytes = word(16);
  u64 end = std::min<u64>(bytes.size(), header.geometry.cluster_bytes());
  if (backing_at) {
    if (backing_bytes > kMaxBackingName) return bad("Backing file name too long");
    header.backing_file = TRY(text_at(bytes.first(end), backing_at, backing_bytes));
    end = std::min(end, backing_at);
  }
  std::vector<u8> names;
  TRY(parse_extensions(bytes, header_bytes, end, header, names));
  // A program that does not know bitmaps has written: they are out of date.
  if (!(header.autoclear & kBitmapsValid)) header.bitmaps.reset();
  TRY(check_features(header, names));
  TRY(check_values(header));
  TRY(check_tables(header, for_check));
  return header;
}

// --- building ---

namespace {

class Builder {
 public:
  explicit Builder(u64 size) : bytes(size) {}
  void word(u64 at, u32 value) { store_be(&bytes[at], value); }
  void wide(u64 at, u64 value) { store_be(&bytes[at], value); }
  void extension(u32 type, std::span<const u8> data) {
    u64 at = bytes.size();
    bytes.resize(align_up(at + 8 + data.size(), 8));
    word(at, type);
    word(at + 4, static_cast<u32>(data.size()));
    std::copy(data.begin(), data.end(), bytes.begin() + static_cast<long>(at + 8));
  }
  void text_extension(u32 type, const std::string& text) {
    if (!text.empty()) extension(type, {reinterpret_cast<const u8*>(text.data()), text.size()});
  }

  std::vector<u8> bytes;
};

void put_v3_fields(const Header& header, Builder& out) {
  out.wide(72, header.incompatible);
  out.wide(80, header.compatible);
  out.wide(88, header.autoclear);
  out.word(96, header.geometry.refcount_order);
  out.word(100, static_cast<u32>(out.bytes.size()));
  out.bytes[104] = header.compression;
  std::copy(header.unknown_fields.begin(), header.unknown_fields.end(),
            out.bytes.begin() + static_cast<long>(kHeaderTypedBytes));
}

void put_places(const Header& header, Builder& out) {
  if (header.crypto) {
    u8 place[16];
    store_be(&place[0], header.crypto->offset);
    store_be(&place[8], header.crypto->bytes);
    out.extension(kExtensionCrypto, place);
  }
  if (header.bitmaps) {
    u8 place[24] = {};
    store_be(&place[0], header.bitmaps->count);
    store_be(&place[8], header.bitmaps->directory_bytes);
    store_be(&place[16], header.bitmaps->directory_offset);
    out.extension(kExtensionBitmaps, place);
  }
}

/// So that programs which do not know a feature can at least name it; left out where there is no room.
void put_feature_names(const Header& header, Builder& out) {
  std::vector<u8> table(std::size(kFeatures) * kFeatureBytes);
  u64 room = header.geometry.cluster_bytes() - std::min(header.geometry.cluster_bytes(), out.bytes.size());
  if (header.version < 3 || room < table.size() + 16 + header.backing_file.size()) return;
  for (size_t i = 0; i < std::size(kFeatures); ++i) {
    u8* row = &table[i * kFeatureBytes];
    row[0] = kFeatures[i].type;
    row[1] = kFeatures[i].bit;
    std::memcpy(row + 2, kFeatures[i].name, std::strlen(kFeatures[i].name));
  }
  out.extension(kExtensionFeatureNames, table);
}

}  // namespace

Result<std::vector<u8>> build_header(const Header& header) {
  Builder out(header.version == 3 ? kHeaderTypedBytes + header.unknown_fields.size() : kHeaderV2Bytes);
  out.word(0, kMagic);
  out.word(4, header.version);
  out.word(20, header.geometry.cluster_bits);
  out.wide(24, header.size_bytes);
  out.word(32, header.encryption);
  out.word(36, header.l1_entries);
  out.wide(40, header.l1_offset);
  out.wide(48, header.refcount_table_offset);
  out.word(56, header.refcount_table_clusters);
  out.word(60, header.snapshots);
  out.wide(64, header.snapshots_offset);
  if (header.version == 3) put_v3_fields(header, out);
  out.text_extension(kExtensionBackingFormat, header.backing_format);
  out.text_extension(kExtensionDataFile, header.data_file);
  put_places(header, out);
  put_feature_names(header, out);
  for (const Extension& unknown : header.unknown_extensions) out.extension(unknown.type, unknown.data);
  out.extension(kExtensionEnd, {});
  if (!header.backing_file.empty()) {
    out.wide(8, out.bytes.size());
    out.word(16, static_cast<u32>(header.backing_file.size()));
    out.bytes.insert(out.bytes.end(), header.backing_file.begin(), header.backing_file.end());
  }
  if (header.backing_file.size() > kMaxBackingName)
    return Error(ErrorKind::Invalid, "the backing file's name is longer than 1023 bytes", EINVAL);
  if (out.bytes.size() > header.geometry.cluster_bytes())
    return Error(ErrorKind::NoSpace, "the names recorded in the qcow2 header do not fit into its cluster", ENOSPC);
  return std::move(out.bytes);
}

Task<Result<Header>> read_header(Node& file, bool for_check) {
  // Nearly all headers end in the first 64 KiB whatever the cluster size: only a name far behind asks for more.
  std::vector<u8> bytes(std::min<u64>(file.size_bytes(), kUsualBytes));
  Status status = co_await read_padded(file, 0, std::span<u8>(bytes));
  CO_TRY(std::move(status));
  if (bytes.size() == kUsualBytes && load_be<u64>(&bytes[8]) > kUsualBytes - kMaxBackingName) {
    bytes.resize(std::min<u64>(file.size_bytes(), u64{1} << kMaxClusterBits));
    status = co_await read_padded(file, 0, std::span<u8>(bytes));
    CO_TRY(std::move(status));
  }
  co_return parse_header(bytes, for_check);
}

Task<Status> write_header(Node& file, const Header& header) {
  std::vector<u8> bytes = CO_TRY(build_header(header));
  bytes.resize(header.geometry.cluster_bytes());
  co_return co_await write_growing(file, 0, std::span<const u8>(bytes));
}

}  // namespace atl::block::qcow2
