// Parallels disk images ("parallels"), QEMU's docs/interop/parallels.txt.
//
// Supported: both kinds of header, read, written, created, grown, checked (clusters behind the file's end, leaks) and
// repaired. The format extension (bitmaps) is dropped by the first write, since it would tell of data that are no
// longer there. Missing: several-file bundles.
//
// A header of 64 bytes, the block allocation table, then clusters as they come. The table leads to what is on the disk
// already, so that the in-use mark is never set here.
#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/table_cache.h"

namespace atl::block {
namespace {

constexpr u64 kHeaderBytes = 64;
constexpr std::string_view kOldMagic = "WithoutFreeSpace", kMagic = "WithouFreSpacExt";
constexpr u32 kVersion = 2, kInUse = 0x746f6e59;
constexpr u32 kHeads = 16, kSectorsPerTrack = 32;  // of images made here
constexpr u64 kSizeAt = 36, kInUseAt = 44, kExtensionAt = 56;
constexpr u64 kCacheBytes = 4 * kMiB;
constexpr u64 kMaxEntries = u64{1} << 29;

struct Header {
  bool old = false;  // the table counts in sectors, else in clusters
  u32 cylinders = 0;
  u32 cluster_sectors = 2048;
  u32 entries = 0;
  u64 disk_sectors = 0;
  bool in_use = false;
  u32 data_sector = 0;
  u64 extension_sector = 0;

  u64 cluster_bytes() const { return u64{cluster_sectors} * kSectorBytes; }
  u64 unit() const { return old ? kSectorBytes : cluster_bytes(); }
  u64 table_end() const { return kHeaderBytes + 4 * u64{entries}; }
};

Error bad(std::string text) { return bad_image("parallels", std::move(text)); }

bool has_magic(std::span<const u8> bytes, std::string_view magic) {
  return bytes.size() >= kHeaderBytes && std::equal(magic.begin(), magic.end(), bytes.begin());
}

Result<Header> parse(std::span<const u8> bytes) {
  auto word = [&](u64 at) { return load_le<u32>(&bytes[at]); };
  const bool old = has_magic(bytes, kOldMagic);
  if (!old && !has_magic(bytes, kMagic)) return Error(ErrorKind::Invalid, "Image not in Parallels format", EINVAL);
  if (word(16) != kVersion)
    return Error(ErrorKind::Unsupported, fmt::format("parallels: version {} is not supported", word(16)), ENOTSUP);
  Header h{.old = old,
           .cylinders = word(24),
           .cluster_sectors = word(28),
           .entries = word(32),
           .disk_sectors = load_le<u64>(&bytes[kSizeAt]),
           .in_use = word(kInUseAt) == kInUse,
           .data_sector = word(48),
           .extension_sector = load_le<u64>(&bytes[kExtensionAt])};
  if (old) h.disk_sectors &= 0xffff'ffff;
  if (h.cluster_sectors == 0) return bad("Invalid image: Zero sectors per track");
  if (h.cluster_sectors > 0x7fff'ffff / 513) return bad("Invalid image: Too big cluster");
  if (h.entries > kMaxEntries) return bad("Catalog too large");
  if (h.disk_sectors > u64{h.entries} * h.cluster_sectors)
    return bad(fmt::format("{} clusters are too few for {} sectors", h.entries, h.disk_sectors));
  return h;
}

std::vector<u8> build(const Header& h) {
  std::vector<u8> bytes(kHeaderBytes);
  auto word = [&](u64 at, u32 value) { store_le(&bytes[at], value); };
  std::ranges::copy(kMagic, bytes.begin());
  word(16, kVersion);
  word(20, kHeads);
  word(24, h.cylinders);
  word(28, h.cluster_sectors);
  word(32, h.entries);
  store_le(&bytes[kSizeAt], h.disk_sectors);
  word(48, h.data_sector);
  return bytes;
}

Status check_closed(const Header& header) {
  if (!header.in_use) return {};
  return Error(ErrorKind::Invalid, "parallels: Image was not closed correctly; cannot be opened read/write", EACCES);
}

class ParallelsMap final : public ClusterMap, public Image {
 public:
  ParallelsMap(NodePtr file, Header header)
      : file_(std::move(file)),
        header_(header),
        cache_(*file_, kCacheBytes),
        table_(cache_, kHeaderBytes, header.entries, {}) {}

  const char* driver() const override { return "parallels"; }
  u64 size_bytes() const override { return header_.disk_sectors * kSectorBytes; }
  u64 allocation_unit() const override { return header_.cluster_bytes(); }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override;
  Task<Status> begin_writing() override;
  Task<Result<Place>> allocate(u64 offset) override;
  Task<Status> link(u64 offset, Place place) override;
  Status allow_writing(bool on) override { return on ? check_closed(header_) : Status{}; }
  bool wants_flush() const override { return cache_.is_overfull(); }
  Task<Status> flush() override;
  Task<Status> resize(u64 size_bytes, Preallocation how) override;
  Task<Result<CheckReport>> check(Repair repair, Progress progress) override;

 private:
  u64 data_start() const {
    return std::max(u64{header_.data_sector} * kSectorBytes, align_up(header_.table_end(), kSectorBytes));
  }
  Task<Result<u64>> check_table(Repair repair, CheckReport& report, const Progress& progress);
  Task<Status> repair_leaks(u64 end, Repair repair, CheckReport& report);
  Task<Status> repair_mark(Repair repair, CheckReport& report);
  Task<Status> put(u64 at, u64 value, u32 width);

  NodePtr file_;
  Header header_;
  TableCache cache_;
  FlatTable table_;
};

Task<Result<Run>> ParallelsMap::find(u64 offset, u64 limit) {
  const u64 index = offset / allocation_unit(), in_cluster = offset % allocation_unit();
  Run run{.bytes = std::min(limit, allocation_unit() - in_cluster)};
  Result<u64> got = co_await table_.get(index);
  const u64 at = CO_TRY(std::move(got)) * header_.unit();
  if (at == 0) co_return run;
  if (at < header_.table_end() || !range_fits(at, 1, file_->size_bytes()))
    co_return Error(ErrorKind::Io, fmt::format("parallels: the table's entry {} leads to {:#x}", index, at), EIO);
  run.kind = Run::Data;
  run.at = at + in_cluster;
  run.file = file_.get();
  co_return run;
}

Task<Status> ParallelsMap::put(u64 at, u64 value, u32 width) {
  u8 bytes[8];
  store_le(bytes, value);
  co_return co_await write_growing(*file_, at, std::span<const u8>(bytes, width));
}

Task<Status> ParallelsMap::begin_writing() {
  if (header_.extension_sector == 0) co_return Status{};
  header_.extension_sector = 0;
  co_return co_await put(kExtensionAt, 0, 8);
}

Task<Result<Place>> ParallelsMap::allocate(u64) {
  Status status = co_await grow_to(*file_, data_start());
  CO_TRY(std::move(status));
  Result<u64> place = co_await append_zeroes(*file_, allocation_unit(), allocation_unit());
  const u64 at = CO_TRY(std::move(place));
  if (at / header_.unit() > 0xffff'ffff)
    co_return Error(ErrorKind::NoSpace, "parallels: the image file is as large as the format allows", EFBIG);
  co_return Place{at, file_.get(), true};
}

Task<Status> ParallelsMap::link(u64 offset, Place place) {
  co_return co_await table_.set(offset / allocation_unit(), place.at / header_.unit());
}

Task<Status> ParallelsMap::flush() {
  Status status = co_await file_->flush();
  if (!status || !cache_.has_dirty()) co_return status;
  status = co_await cache_.write_back();
  CO_TRY(std::move(status));
  co_return co_await file_->flush();
}

/// Within the table's room only.
Task<Status> ParallelsMap::resize(u64 size_bytes, Preallocation how) {
  if (how != Preallocation::Off)
    co_return Error(ErrorKind::Unsupported, "parallels: no preallocation when resizing", ENOTSUP);
  const u64 sectors = align_up(std::min(size_bytes, ~u64{0} >> 1), kSectorBytes) / kSectorBytes;
  if (sectors < header_.disk_sectors || sectors > u64{header_.entries} * header_.cluster_sectors)
    co_return Error(ErrorKind::Unsupported, "parallels: a new size must lie within the last cluster", ENOTSUP);
  Status status = co_await put(kSizeAt, sectors, 8);
  if (status) header_.disk_sectors = sectors;
  co_return status;
}

// --- check ---

/// Gives the end of the last cluster in use.
Task<Result<u64>> ParallelsMap::check_table(Repair repair, CheckReport& report, const Progress& progress) {
  u64 end = data_start(), last = 0;
  for (u64 i = 0; i < header_.entries; ++i) {
    Result<u64> got = co_await table_.get(i);
    const u64 at = CO_TRY(std::move(got)) * header_.unit();
    if (i % 65536 == 0 && progress && !progress(static_cast<double>(i) / header_.entries))
      co_return Error(ErrorKind::Cancelled, "check was cancelled", ECANCELED);
    if (at == 0) continue;
    if (at < header_.table_end() || at >= file_->size_bytes()) {
      ++report.corruptions;
      if (report.messages.size() < 100) report.messages.push_back(fmt::format("ERROR cluster {} is outside image", i));
      if (repair != Repair::All) continue;
      Status status = co_await table_.set(i, 0);
      CO_TRY(std::move(status));
      ++report.corruptions_fixed;
      continue;
    }
    ++report.allocated_clusters;
    if (last && at != last + allocation_unit()) ++report.fragmented_clusters;
    last = at;
    end = std::max(end, at + allocation_unit());
  }
  co_return end;
}

Task<Status> ParallelsMap::repair_leaks(u64 end, Repair repair, CheckReport& report) {
  if (file_->size_bytes() <= end) co_return Status{};
  report.leaks = (file_->size_bytes() - end + allocation_unit() - 1) / allocation_unit();
  report.messages.push_back(fmt::format("ERROR space leaked at the end of the image {}", file_->size_bytes() - end));
  if (repair == Repair::None) co_return Status{};
  Status status = co_await file_->resize(end, Preallocation::Off);
  if (status) report.leaks_fixed = report.leaks;
  co_return status;
}

Task<Status> ParallelsMap::repair_mark(Repair repair, CheckReport& report) {
  if (!header_.in_use) co_return Status{};
  ++report.corruptions;
  report.messages.push_back("ERROR image was not closed correctly");
  if (repair != Repair::All) co_return Status{};
  Status status = co_await put(kInUseAt, 0, 4);
  CO_TRY(std::move(status));
  ++report.corruptions_fixed;
  header_.in_use = false;
  co_return Status{};
}

Task<Result<CheckReport>> ParallelsMap::check(Repair repair, Progress progress) {
  CheckReport report;
  report.total_clusters = header_.entries;
  Result<u64> checked = co_await check_table(repair, report, progress);
  const u64 end = CO_TRY(std::move(checked));
  Status status = co_await flush();
  CO_TRY(std::move(status));
  status = co_await repair_leaks(end, repair, report);
  CO_TRY(std::move(status));
  status = co_await repair_mark(repair, report);
  CO_TRY(std::move(status));
  report.image_end_offset = end;
  co_return report;
}

// --- the driver ---

int probe_parallels(std::span<const u8> head, std::string_view) {
  bool ours = has_magic(head, kMagic) || has_magic(head, kOldMagic);
  return ours && load_le<u32>(&head[16]) == kVersion ? 100 : 0;
}

Task<Result<NodePtr>> open_parallels(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "parallels");
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  CO_TRY(reader.finish());
  MappedOptions mapped = mapped_options(mode, *file, std::move(node_name));
  co_return co_await open_parallels_node(std::move(file), mode.check, std::move(mapped));
}

Task<Status> create_parallels(Graph&, NodePtr file, std::string, Json options) {
  OptionReader reader(std::move(options), "parallels");
  const u64 size = CO_TRY(reader.size("size", 0));
  const u64 cluster = CO_TRY(reader.size("cluster_size", kMiB));
  CO_TRY(reader.finish());
  if (cluster == 0 || cluster % kSectorBytes || cluster / kSectorBytes > 0x7fff'ffff / 513)
    co_return bad(fmt::format("a cluster size of {} bytes", cluster));
  if (size / cluster >= kMaxEntries) co_return bad("Image size is too large for this cluster size");
  Header h;
  h.cluster_sectors = static_cast<u32>(cluster / kSectorBytes);
  h.disk_sectors = align_up(size, kSectorBytes) / kSectorBytes;
  h.entries = static_cast<u32>((size + cluster - 1) / cluster);
  h.cylinders = static_cast<u32>((h.disk_sectors + kHeads * kSectorsPerTrack - 1) / (kHeads * kSectorsPerTrack));
  h.data_sector = static_cast<u32>((h.table_end() + cluster - 1) / cluster * h.cluster_sectors);
  Status status = co_await file->resize(u64{h.data_sector} * kSectorBytes, Preallocation::Off);
  CO_TRY(std::move(status));
  std::vector<u8> bytes = build(h);
  status = co_await write_growing(*file, 0, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return co_await file->flush();
}

}  // namespace

Task<Result<NodePtr>> open_parallels_node(NodePtr file, bool to_check, MappedOptions options) {
  Result<std::vector<u8>> head = co_await read_head(*file, kHeaderBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  Header header = CO_TRY(parse(bytes));
  if (header.table_end() > align_up(file->size_bytes(), kSectorBytes))
    co_return bad("the allocation table is cut short");
  if (!options.readonly && !to_check) CO_TRY(check_closed(header));
  co_return make_mapped_node(std::make_unique<ParallelsMap>(std::move(file), header), nullptr, std::move(options));
}

extern const Driver kParallelsDriver;
const Driver kParallelsDriver = {
    .name = "parallels",
    .probe = probe_parallels,
    .open = open_parallels,
    .create = create_parallels,
    .create_options = {{"size", CreateOption::Size, "Virtual disk size"},
                       {"cluster_size", CreateOption::Size, "Parallels image cluster size", "1048576"}},
};

}  // namespace atl::block
