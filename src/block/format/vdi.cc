// VirtualBox disk images ("vdi"), version 1.1, as VirtualBox's VDICore.h describes the header.
//
// Supported: dynamic and static images, read, written, created, checked. Refused by name: images with a parent
// (snapshots) and blocks with extra bytes. Missing: resize, repair.
//
// A header of 512 bytes, the block map (an entry for each block: its index in the data area), the data area. The count
// of blocks in the header is on the disk before the map leads to new blocks, so that none is ever given away twice.
#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/crypto/hash.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/table_cache.h"

namespace atl::block {
namespace {

constexpr u64 kHeaderBytes = 512;
constexpr u32 kSignature = 0xbeda107f, kVersion = 0x0001'0001;
constexpr u32 kDynamic = 1, kStatic = 2;
constexpr u32 kFree = 0xffff'ffff, kDiscarded = 0xffff'fffe;  // entries of the map
constexpr u32 kBlockBytes = kMiB;
constexpr u64 kMaxBlocks = 0x3fff'ffff;
constexpr u64 kCacheBytes = 4 * kMiB;

// Places in the header; all numbers are little-endian.
constexpr u64 kSignatureAt = 0x40, kVersionAt = 0x44, kHeaderSizeAt = 0x48, kTypeAt = 0x4c;
constexpr u64 kMapOffsetAt = 0x154, kDataOffsetAt = 0x158, kSectorBytesAt = 0x168, kDiskBytesAt = 0x170;
constexpr u64 kBlockBytesAt = 0x178, kExtraAt = 0x17c, kBlocksAt = 0x180, kAllocatedAt = 0x184;
constexpr u64 kUuidAt = 0x188, kLastSnapshotAt = 0x198, kLinkAt = 0x1a8, kParentAt = 0x1b8, kUuidBytes = 16;

struct Header {
  u32 type = kDynamic;
  u64 map_offset = kHeaderBytes, data_offset = 0, disk_bytes = 0;
  u32 block_bytes = kBlockBytes, blocks = 0, allocated = 0;
};

Error bad(std::string text) { return bad_image("vdi", std::move(text)); }

Status check_sizes(const Header& header) {
  if (header.map_offset % kSectorBytes || header.map_offset < kHeaderBytes)
    return bad(fmt::format("the block map's offset {:#x}", header.map_offset));
  if (header.data_offset % kSectorBytes) return bad(fmt::format("the data offset {:#x}", header.data_offset));
  if (!is_power_of_two(header.block_bytes) || header.block_bytes < 4096 || header.block_bytes > 256 * kMiB)
    return bad(fmt::format("a block size of {} bytes", header.block_bytes));
  if (header.blocks > kMaxBlocks) return bad(fmt::format("too many blocks: {}", header.blocks));
  if (header.disk_bytes > u64{header.blocks} * header.block_bytes)
    return bad(fmt::format("{} blocks are too few for {} bytes", header.blocks, header.disk_bytes));
  if (header.map_offset + 4 * u64{header.blocks} > header.data_offset)
    return bad(fmt::format("the block map overlaps the data at {:#x}", header.data_offset));
  return {};
}

Result<Header> parse(std::span<const u8> bytes) {
  auto word = [&](u64 at) { return load_le<u32>(&bytes[at]); };
  if (bytes.size() < kHeaderBytes || word(kSignatureAt) != kSignature)
    return Error(ErrorKind::Invalid, "Image not in VDI format", EINVAL);
  if (word(kVersionAt) != kVersion)
    return Error(ErrorKind::Unsupported,
                 fmt::format("vdi: version {}.{} is not supported", word(kVersionAt) >> 16, word(kVersionAt) & 0xffff));
  auto is_null = [&](u64 at) {
    return std::ranges::all_of(bytes.subspan(at, kUuidBytes), [](u8 b) { return b == 0; });
  };
  if (!is_null(kLinkAt) || !is_null(kParentAt))
    return Error(ErrorKind::Unsupported, "vdi: images with a parent (differencing images) are not supported", ENOTSUP);
  if (word(kExtraAt)) return Error(ErrorKind::Unsupported, "vdi: blocks with extra bytes are not supported", ENOTSUP);
  if (word(kSectorBytesAt) != kSectorBytes) return bad(fmt::format("a sector size of {}", word(kSectorBytesAt)));
  Header header{.type = word(kTypeAt),
                .map_offset = word(kMapOffsetAt),
                .data_offset = word(kDataOffsetAt),
                .disk_bytes = load_le<u64>(&bytes[kDiskBytesAt]),
                .block_bytes = word(kBlockBytesAt),
                .blocks = word(kBlocksAt),
                .allocated = word(kAllocatedAt)};
  TRY(check_sizes(header));
  return header;
}

Result<std::vector<u8>> build(const Header& header) {
  std::vector<u8> bytes(kHeaderBytes);
  constexpr std::string_view kText = "<<< Atoll Virtual Disk Image >>>\n";
  std::ranges::copy(kText, bytes.begin());
  auto word = [&](u64 at, u64 value) { store_le(&bytes[at], static_cast<u32>(value)); };
  word(kSignatureAt, kSignature);
  word(kVersionAt, kVersion);
  word(kHeaderSizeAt, 0x180);
  word(kTypeAt, header.type);
  word(kMapOffsetAt, header.map_offset);
  word(kDataOffsetAt, header.data_offset);
  word(kSectorBytesAt, kSectorBytes);
  store_le(&bytes[kDiskBytesAt], header.disk_bytes);
  word(kBlockBytesAt, header.block_bytes);
  word(kBlocksAt, header.blocks);
  word(kAllocatedAt, header.allocated);
  TRY(crypto::fill_random(std::span(bytes).subspan(kUuidAt, kUuidBytes)));
  TRY(crypto::fill_random(std::span(bytes).subspan(kLastSnapshotAt, kUuidBytes)));
  return bytes;
}

class VdiMap final : public ClusterMap, public Image {
 public:
  VdiMap(NodePtr file, Header header)
      : file_(std::move(file)),
        header_(header),
        cache_(*file_, kCacheBytes),
        map_(cache_, header.map_offset, header.blocks, {}),
        next_block_(first_free(header)) {}

  const char* driver() const override { return "vdi"; }
  u64 size_bytes() const override { return align_up(header_.disk_bytes, kSectorBytes); }
  u64 cluster_bytes() const override { return header_.block_bytes; }
  u64 allocation_unit() const override { return cluster_bytes(); }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override;
  Task<Result<Place>> allocate(u64 offset) override;
  Task<Status> link(u64 offset, Place place) override;
  Status allow_writing(bool) override { return {}; }
  bool wants_flush() const override { return cache_.is_overfull(); }
  Task<Status> flush() override;
  Task<Result<CheckReport>> check(Repair repair, Progress progress) override;

 private:
  /// What the header counts, and what the file holds beyond.
  u64 first_free(const Header& header) const {
    u64 data = file_->size_bytes() > header.data_offset ? file_->size_bytes() - header.data_offset : 0;
    return std::max<u64>(header.allocated, (data + header.block_bytes - 1) / header.block_bytes);
  }
  u64 place_of(u64 block) const { return header_.data_offset + block * header_.block_bytes; }
  Task<Status> find_lost();
  void check_entry(u64 entry, u64 index, std::vector<bool>& seen, CheckReport& report);

  NodePtr file_;
  Header header_;
  TableCache cache_;
  FlatTable map_;
  u64 next_block_;
  u64 opened_blocks_ = next_block_;  // 0: lost_ is known
  std::vector<u64> lost_;
};

Task<Result<Run>> VdiMap::find(u64 offset, u64 limit) {
  const u64 in_block = offset % header_.block_bytes;
  Run run{.bytes = std::min(limit, header_.block_bytes - in_block)};
  Result<u64> got = co_await map_.get(offset / header_.block_bytes);
  const u64 entry = CO_TRY(std::move(got));
  if (entry == kFree) co_return run;
  run.kind = entry == kDiscarded ? Run::Zero : Run::Data;
  if (entry == kDiscarded) co_return run;
  if (entry >= header_.blocks)
    co_return Error(ErrorKind::Io,
                    fmt::format("vdi: the map's entry {} leads to block {} of {}", offset / header_.block_bytes, entry,
                                header_.blocks),
                    EIO);
  run.at = place_of(entry) + in_block;
  run.file = file_.get();
  run.sparse = header_.type == kStatic;
  co_return run;
}

/// Blocks that were there when the image was opened and that no entry leads to: a writer that died took them.
Task<Status> VdiMap::find_lost() {
  std::vector<bool> used(opened_blocks_);
  for (u64 i = 0; i < header_.blocks; ++i) {
    Result<u64> got = co_await map_.get(i);
    const u64 entry = CO_TRY(std::move(got));
    if (entry < used.size()) used[entry] = true;
  }
  for (u64 block = 0; block < used.size(); ++block)
    if (!used[block]) lost_.push_back(block);
  opened_blocks_ = 0;
  co_return Status();
}

Task<Result<Place>> VdiMap::allocate(u64) {
  if (next_block_ >= header_.blocks) {
    if (opened_blocks_ > 0) {
      Status looked = co_await find_lost();
      CO_TRY(std::move(looked));
    }
    if (lost_.empty())
      co_return Error(ErrorKind::NoSpace, "vdi: no block is free although some have no place: the image must be checked", ENOSPC);
    const u64 block = lost_.back();
    lost_.pop_back();
    co_return Place{place_of(block), file_.get(), false};
  }
  const u64 at = place_of(next_block_);
  Status status = co_await file_->resize(std::max(file_->size_bytes(), at + header_.block_bytes), Preallocation::Off);
  CO_TRY(std::move(status));
  ++next_block_;
  co_return Place{at, file_.get(), true};
}

Task<Status> VdiMap::link(u64 offset, Place place) {
  co_return co_await map_.set(offset / header_.block_bytes, (place.at - header_.data_offset) / header_.block_bytes);
}

Task<Status> VdiMap::flush() {
  Status status = co_await file_->flush();
  if (!status || !cache_.has_dirty()) co_return status;
  u8 count[4];
  store_le(count, static_cast<u32>(next_block_));
  status = co_await write_growing(*file_, kAllocatedAt, std::span<const u8>(count));
  CO_TRY(std::move(status));
  status = co_await file_->flush();
  CO_TRY(std::move(status));
  status = co_await cache_.write_back();
  CO_TRY(std::move(status));
  co_return co_await file_->flush();
}

void VdiMap::check_entry(u64 entry, u64 index, std::vector<bool>& seen, CheckReport& report) {
  if (entry >= kDiscarded) return;
  ++report.allocated_clusters;
  if (entry < header_.blocks && !seen[entry]) {
    seen[entry] = true;
    return;
  }
  ++report.corruptions;
  if (report.messages.size() < 100)
    report.messages.push_back(entry < header_.blocks
                                  ? fmt::format("ERROR: block index {} is used twice, also by entry {}", entry, index)
                                  : fmt::format("ERROR: block index {} out of range, entry {}", entry, index));
}

Task<Result<CheckReport>> VdiMap::check(Repair repair, Progress progress) {
  if (repair != Repair::None) co_return Error(ErrorKind::Unsupported, "vdi: repairing is not supported", ENOTSUP);
  CheckReport report;
  std::vector<bool> seen(header_.blocks);
  for (u64 i = 0; i < header_.blocks; ++i) {
    Result<u64> got = co_await map_.get(i);
    check_entry(CO_TRY(std::move(got)), i, seen, report);
    if (i % 65536 == 0 && progress && !progress(static_cast<double>(i) / header_.blocks))
      co_return Error(ErrorKind::Cancelled, "check was cancelled", ECANCELED);
  }
  if (report.allocated_clusters != header_.allocated) {
    ++report.corruptions;
    report.messages.push_back(fmt::format("ERROR: allocated blocks mismatch, is {}, should be {}",
                                          report.allocated_clusters, header_.allocated));
  }
  report.total_clusters = header_.blocks;
  co_return report;
}

int probe_vdi(std::span<const u8> head, std::string_view) {
  return head.size() >= kHeaderBytes && load_le<u32>(&head[kSignatureAt]) == kSignature ? 100 : 0;
}

Task<Result<NodePtr>> open_vdi(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "vdi");
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  CO_TRY(reader.finish());
  MappedOptions mapped = mapped_options(mode, *file, std::move(node_name));
  co_return co_await open_vdi_node(std::move(file), std::move(mapped));
}

/// The map of a static image numbers its blocks; that of a dynamic one is empty.
Task<Status> write_map(Node& file, const Header& header) {
  std::vector<u8> piece;
  const u64 map_bytes = header.data_offset - header.map_offset;
  for (u64 at = 0; at < map_bytes; at += piece.size()) {
    piece.assign(std::min(map_bytes - at, kMiB), 0xff);
    for (u64 i = 0; i < piece.size() && header.type == kStatic; i += 4)
      if ((at + i) / 4 < header.blocks) store_le(&piece[i], static_cast<u32>((at + i) / 4));
    Status status = co_await write_growing(file, header.map_offset + at, std::span<const u8>(piece));
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

Task<Status> create_vdi(Graph&, NodePtr file, std::string, Json options) {
  OptionReader reader(std::move(options), "vdi");
  Header header;
  header.disk_bytes = CO_TRY(reader.size("size", 0));
  bool is_static = CO_TRY(reader.boolean("static", false));
  header.type = is_static ? kStatic : kDynamic;
  CO_TRY(reader.finish());
  if (header.disk_bytes > kMaxBlocks * kBlockBytes)
    co_return bad(
        fmt::format("{} bytes are too large, at most {} are possible", header.disk_bytes, kMaxBlocks * kBlockBytes));
  header.blocks = static_cast<u32>((header.disk_bytes + kBlockBytes - 1) / kBlockBytes);
  header.allocated = is_static ? header.blocks : 0;
  header.data_offset = header.map_offset + align_up(4 * u64{header.blocks}, kSectorBytes);
  Status status = co_await write_map(*file, header);
  CO_TRY(std::move(status));
  status = co_await file->resize(header.data_offset + u64{header.allocated} * kBlockBytes, Preallocation::Off);
  CO_TRY(std::move(status));
  std::vector<u8> bytes = CO_TRY(build(header));
  status = co_await write_growing(*file, 0, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return co_await file->flush();
}

}  // namespace

Task<Result<NodePtr>> open_vdi_node(NodePtr file, MappedOptions options) {
  Result<std::vector<u8>> head = co_await read_head(*file, kHeaderBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  Header header = CO_TRY(parse(bytes));
  if (!range_fits(header.map_offset, 4 * u64{header.blocks}, file->size_bytes()))
    co_return bad(fmt::format("the block map at {:#x} is cut short", header.map_offset));
  co_return make_mapped_node(std::make_unique<VdiMap>(std::move(file), header), nullptr, std::move(options));
}

extern const Driver kVdiDriver;
const Driver kVdiDriver = {
    .name = "vdi",
    .probe = probe_vdi,
    .open = open_vdi,
    .create = create_vdi,
    .create_options = {{"size", CreateOption::Size, "Virtual disk size"},
                       {"static", CreateOption::Flag, "VDI static (pre-allocated) image", "off"}},
};

}  // namespace atl::block
