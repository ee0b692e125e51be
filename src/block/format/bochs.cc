// Bochs disks ("bochs"): growing redolog images, versions 1 and 2, as Bochs' iodev/hdimage.h lays them out. Read only.
//
// Header, catalog (for each extent the number of its place), then extents: a bitmap of the sectors that were written,
// and the sectors. Refused by name: undoable and volatile redologs, which are no whole disks.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "base/math.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/table_cache.h"

namespace atl::block {
namespace {

constexpr u64 kHeaderBytes = 512;
constexpr std::string_view kMagic = "Bochs Virtual HD Image", kType = "Redolog", kSubtype = "Growing";
constexpr u32 kVersion1 = 0x0001'0000, kVersion2 = 0x0002'0000;
constexpr u64 kMaxCatalog = 0x10'0000, kMaxExtentBytes = 8 * kMiB;
constexpr u32 kFree = 0xffff'ffff;
constexpr u64 kCacheBytes = 2 * kMiB;

struct Header {
  u64 header_bytes = 0, catalog_entries = 0, bitmap_bytes = 0, extent_bytes = 0, disk_bytes = 0;

  u64 bitmap_sectors() const { return (bitmap_bytes + kSectorBytes - 1) / kSectorBytes; }
  u64 stride() const { return (bitmap_sectors() + extent_bytes / kSectorBytes) * kSectorBytes; }
  u64 data_start() const { return header_bytes + 4 * catalog_entries; }
};

Error bad(std::string text) { return bad_image("bochs", std::move(text)); }

bool has_text(std::span<const u8> head, u64 at, u64 room, std::string_view text) {
  if (head.size() < at + room) return false;
  const char* start = reinterpret_cast<const char*>(&head[at]);
  return std::string_view(start, ::strnlen(start, room)) == text;
}

bool is_bochs(std::span<const u8> head) {
  if (head.size() < kHeaderBytes || !has_text(head, 0, 32, kMagic) || !has_text(head, 32, 16, kType)) return false;
  const u32 version = load_le<u32>(&head[64]);
  return version == kVersion1 || version == kVersion2;
}

Result<Header> parse(std::span<const u8> b) {
  if (!is_bochs(b)) return Error(ErrorKind::Invalid, "Image not in Bochs format", EINVAL);
  if (!has_text(b, 48, 16, kSubtype))
    return Error(ErrorKind::Unsupported, "bochs: only growing images are supported", ENOTSUP);
  const bool old = load_le<u32>(&b[64]) == kVersion1;
  Header h{load_le<u32>(&b[68]), load_le<u32>(&b[72]), load_le<u32>(&b[76]), load_le<u32>(&b[80]),
           load_le<u64>(&b[old ? 84 : 88])};
  if (h.catalog_entries > kMaxCatalog) return bad("Catalog size is too large");
  if (!is_power_of_two(h.extent_bytes) || h.extent_bytes < kSectorBytes || h.extent_bytes > kMaxExtentBytes)
    return bad(fmt::format("Extent size must be a power of two between 512 and 8M, not {}", h.extent_bytes));
  if (h.bitmap_bytes == 0 || h.bitmap_bytes > kMiB || h.bitmap_bytes * 8 < h.extent_bytes / kSectorBytes)
    return bad(fmt::format("a bitmap of {} bytes", h.bitmap_bytes));
  if (h.disk_bytes > h.catalog_entries * h.extent_bytes) return bad("Catalog size is too small for this disk size");
  return h;
}

class BochsMap final : public ClusterMap, public Image {
 public:
  BochsMap(NodePtr file, Header header)
      : file_(std::move(file)),
        header_(header),
        cache_(*file_, kCacheBytes),
        catalog_(cache_, header.header_bytes, header.catalog_entries, {}) {}

  const char* driver() const override { return "bochs"; }
  u64 size_bytes() const override { return align_down(header_.disk_bytes, kSectorBytes); }
  u64 allocation_unit() const override { return header_.extent_bytes; }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override;
  Task<Status> flush() override { co_return Status{}; }

 private:
  Task<Result<Run>> find_sectors(u64 extent_at, u64 in_extent, u64 limit);

  NodePtr file_;
  const Header header_;
  TableCache cache_;
  FlatTable catalog_;
};

Task<Result<Run>> BochsMap::find(u64 offset, u64 limit) {
  const u64 in_extent = offset % header_.extent_bytes;
  Run run{.bytes = std::min(limit, header_.extent_bytes - in_extent)};
  Result<u64> got = co_await catalog_.get(offset / header_.extent_bytes);
  const u64 entry = CO_TRY(std::move(got));
  if (entry == kFree) co_return run;
  co_return co_await find_sectors(header_.data_start() + entry * header_.stride(), in_extent, run.bytes);
}

/// As many sectors as the bitmap tells alike.
Task<Result<Run>> BochsMap::find_sectors(u64 extent_at, u64 in_extent, u64 limit) {
  const u64 bitmap_bytes = header_.bitmap_sectors() * kSectorBytes;
  if (!range_fits(extent_at, bitmap_bytes, align_up(file_->size_bytes(), kSectorBytes)))
    co_return Error(ErrorKind::Io,
                    fmt::format("bochs: an extent is said to be at {:#x}, behind the file's end", extent_at), EIO);
  Result<TableCache::Ref> got = co_await cache_.get(extent_at, bitmap_bytes);
  TableCache::Ref bitmap = CO_TRY(std::move(got));
  auto is_there = [&](u64 at) { return (bitmap->bytes[at / kSectorBytes / 8] >> (at / kSectorBytes % 8) & 1) != 0; };
  const bool there = is_there(in_extent);
  u64 end = align_down(in_extent, kSectorBytes) + kSectorBytes;
  while (end < in_extent + limit && is_there(end) == there) end += kSectorBytes;
  Run run{.bytes = std::min(limit, end - in_extent)};
  if (!there) co_return run;
  run.kind = Run::Data;
  run.at = extent_at + bitmap_bytes + in_extent;
  run.file = file_.get();
  co_return run;
}

int probe_bochs(std::span<const u8> head, std::string_view) { return is_bochs(head) ? 100 : 0; }

Task<Result<NodePtr>> open_bochs(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  return open_read_only_format(graph, std::move(options), mode, std::move(node_name), "bochs", open_bochs_node);
}

}  // namespace

Task<Result<NodePtr>> open_bochs_node(NodePtr file, MappedOptions options) {
  Result<std::vector<u8>> head = co_await read_head(*file, kHeaderBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  Header header = CO_TRY(parse(bytes));
  if (!range_fits(header.header_bytes, 4 * header.catalog_entries, align_up(file->size_bytes(), kSectorBytes)))
    co_return bad("the catalog is cut short");
  co_return make_mapped_node(std::make_unique<BochsMap>(std::move(file), header), nullptr, std::move(options));
}

extern const Driver kBochsDriver;
const Driver kBochsDriver = {.name = "bochs", .probe = probe_bochs, .open = open_bochs};

}  // namespace atl::block
