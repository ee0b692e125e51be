#include "block/format/vmdk_sparse.h"

#include <fmt/format.h>

#include "base/math.h"
#include "block/format/file_bytes.h"

namespace atl::block::vmdk {
namespace {

constexpr u32 kNewLineTest = 1, kRedundant = 2, kZeroGrains = 4, kCompressed = 1 << 16, kMarkers = 1 << 17;  // flags
constexpr u64 kDirectoryAtEnd = ~u64{0};
constexpr u16 kDeflate = 1;
constexpr u32 kFooterMarker = 3;
constexpr u64 kMaxGrainSectors = 0x20'0000;
constexpr u64 kMaxCompressedGrain = 2 * kMiB;
constexpr u64 kDescriptorSectors = 20;
constexpr u8 kNewLines[4] = {'\n', ' ', '\r', '\n'};  // tell of transfers as text

Error bad(std::string text) { return bad_image("vmdk", "sparse extent: " + std::move(text)); }

SparseHeader decode(std::span<const u8> b) {
  const u32 flags = load_le<u32>(&b[8]);
  return {.version = load_le<u32>(&b[4]),
          .redundant = (flags & kRedundant) != 0,
          .zero_grains = (flags & kZeroGrains) != 0,
          .compressed = load_le<u16>(&b[77]) == kDeflate,
          .markers = (flags & kMarkers) != 0,
          .capacity_sectors = load_le<u64>(&b[12]),
          .grain_sectors = load_le<u64>(&b[20]),
          .descriptor_sector = load_le<u64>(&b[28]),
          .descriptor_sectors = load_le<u64>(&b[36]),
          .entries_per_table = load_le<u32>(&b[44]),
          .redundant_sector = load_le<u64>(&b[48]),
          .directory_sector = load_le<u64>(&b[56]),
          .data_sector = load_le<u64>(&b[64])};
}

Status check_header(const SparseHeader& h, u64 file_bytes) {
  if (h.version > 3)
    return Error(ErrorKind::Unsupported, fmt::format("VMDK version {} is not supported", h.version), ENOTSUP);
  if (h.entries_per_table == 0 || h.entries_per_table > 512) return bad("L2 table size too big");
  if (!is_power_of_two(h.grain_sectors) || h.grain_sectors > kMaxGrainSectors)
    return bad(fmt::format("invalid granularity of {} sectors", h.grain_sectors));
  if (h.compressed && h.grain_bytes() > kMaxCompressedGrain)
    return bad(fmt::format("compressed grains of {} bytes are too large", h.grain_bytes()));
  if (h.capacity_sectors > u64{1} << 53) return bad(fmt::format("a capacity of {} sectors", h.capacity_sectors));
  const u64 bytes = h.directory_entries() * 4;
  if (h.directory_sector > u64{1} << 53 ||
      !range_fits(h.directory_sector * kSectorBytes, bytes, align_up(file_bytes, kSectorBytes)))
    return bad(fmt::format("the grain directory at sector {} is cut short", h.directory_sector));
  if (h.redundant && (h.redundant_sector > u64{1} << 53 ||
                      !range_fits(h.redundant_sector * kSectorBytes, bytes, align_up(file_bytes, kSectorBytes))))
    return bad(fmt::format("the redundant grain directory at sector {} is cut short", h.redundant_sector));
  return {};
}

/// Streams end with a marker, the header once more, and an end marker; only there is the directory's place.
Task<Result<std::vector<u8>>> read_footer(Node& file) {
  const u64 size = align_down(file.size_bytes(), kSectorBytes);
  if (size < 3 * kSectorBytes) co_return bad("the stream's footer is missing");
  Result<std::vector<u8>> read =
      co_await read_bytes(file, size - 3 * kSectorBytes, 3 * kSectorBytes, "the stream's footer");
  std::vector<u8> bytes = CO_TRY(std::move(read));
  const u8* header = &bytes[kSectorBytes];
  if (load_le<u32>(&bytes[8]) != 0 || load_le<u32>(&bytes[12]) != kFooterMarker || load_le<u32>(header) != kSparseMagic)
    co_return bad("Invalid footer");
  co_return std::vector<u8>(header, header + kHeaderBytes);
}

std::vector<u8> encode(const SparseHeader& h) {
  std::vector<u8> b(kHeaderBytes);
  u32 flags = kNewLineTest | (h.redundant ? kRedundant : 0) | (h.zero_grains ? kZeroGrains : 0);
  if (h.compressed) flags |= kCompressed | kMarkers;
  store_le(&b[0], kSparseMagic);
  store_le(&b[4], h.version);
  store_le(&b[8], flags);
  store_le(&b[12], h.capacity_sectors);
  store_le(&b[20], h.grain_sectors);
  store_le(&b[28], h.descriptor_sector);
  store_le(&b[36], h.descriptor_sectors);
  store_le(&b[44], h.entries_per_table);
  store_le(&b[48], h.redundant_sector);
  store_le(&b[56], h.directory_sector);
  store_le(&b[64], h.data_sector);
  std::copy(std::begin(kNewLines), std::end(kNewLines), &b[73]);
  store_le(&b[77], h.compressed ? kDeflate : u16{0});
  return b;
}

/// All tables exist from the start: each directory is followed by its own.
Task<Status> write_directory(Node& file, const SparseHeader& h, u64 sector) {
  const u64 entries = h.directory_entries();
  const u64 directory_sectors = align_up(entries * 4, kSectorBytes) / kSectorBytes,
            table_sectors = h.entries_per_table * 4 / kSectorBytes;
  std::vector<u8> bytes(directory_sectors * kSectorBytes);
  for (u64 i = 0; i < entries; ++i)
    store_le(&bytes[4 * i], static_cast<u32>(sector + directory_sectors + i * table_sectors));
  co_return co_await write_growing(file, sector * kSectorBytes, std::span<const u8>(bytes));
}

SparseHeader lay_out(const SparseChoice& choice) {
  SparseHeader h;
  h.version = choice.compressed ? 3 : choice.zero_grains ? 2 : 1;
  h.zero_grains = choice.zero_grains;
  h.compressed = h.markers = choice.compressed;
  h.capacity_sectors = choice.size_bytes / kSectorBytes;
  h.descriptor_sector = 1;
  h.descriptor_sectors = kDescriptorSectors;
  const u64 directory_sectors = align_up(h.directory_entries() * 4, kSectorBytes) / kSectorBytes;
  const u64 copy_sectors = directory_sectors + h.directory_entries() * (h.entries_per_table * 4 / kSectorBytes);
  h.redundant_sector = h.descriptor_sector + h.descriptor_sectors;
  h.directory_sector = h.redundant_sector + copy_sectors;
  h.data_sector = align_up(h.directory_sector + copy_sectors, h.grain_sectors);
  return h;
}

}  // namespace

TwoLevelShape SparseHeader::shape() const {
  return {.first_offset = directory_sector * kSectorBytes,
          .first_entries = directory_entries(),
          .second_entries = entries_per_table,
          .form = {},
          .unit = kSectorBytes,
          .alignment = kSectorBytes,
          .mirror_offset = redundant ? redundant_sector * kSectorBytes : 0};
}

Task<Result<SparseHeader>> read_sparse_header(Node& file) {
  Result<std::vector<u8>> head = co_await read_head(file, kHeaderBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  if (bytes.size() >= 4 && load_le<u32>(bytes.data()) == kEsxMagic)
    co_return Error(ErrorKind::Unsupported, "vmdk: ESX sparse extents (COWD) are not supported", ENOTSUP);
  if (bytes.size() < kHeaderBytes || load_le<u32>(bytes.data()) != kSparseMagic) co_return bad("no magic number");
  SparseHeader header = decode(bytes);
  if (header.directory_sector == kDirectoryAtEnd) {
    head = co_await read_footer(file);
    bytes = CO_TRY(std::move(head));
    header = decode(bytes);
    header.has_footer = true;
  }
  if (!std::equal(std::begin(kNewLines), std::end(kNewLines), &bytes[73]))
    co_return bad("the newline test failed: the file was transferred as text");
  CO_TRY(check_header(header, file.size_bytes()));
  co_return header;
}

Task<Result<SparseHeader>> create_sparse_extent(Node& file, SparseChoice choice) {
  SparseHeader header = lay_out(choice);
  if (header.data_sector > 0xffff'ffff || header.capacity_sectors > u64{1} << 35)
    co_return Error(ErrorKind::Invalid, "vmdk: the size is too large for one sparse extent", EFBIG);
  Status status = co_await file.resize(header.data_sector * kSectorBytes, Preallocation::Off);
  CO_TRY(std::move(status));
  status = co_await write_directory(file, header, header.redundant_sector);
  CO_TRY(std::move(status));
  status = co_await write_directory(file, header, header.directory_sector);
  CO_TRY(std::move(status));
  std::vector<u8> bytes = encode(header);
  status = co_await write_growing(file, 0, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return header;
}

Status check_writable(const SparseHeader& header) {
  if (header.version == 3 && !header.compressed)
    return Error(ErrorKind::Permission, "VMDK version 3 must be read only", EINVAL);
  if (header.has_footer)
    return Error(ErrorKind::Permission, "vmdk: streams that end with a footer must be read only", EINVAL);
  return {};
}

}  // namespace atl::block::vmdk
