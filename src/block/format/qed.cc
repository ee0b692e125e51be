// QEMU enhanced disks ("qed"), QEMU's docs/interop/qed_spec.txt.
//
// Supported: every cluster and table size, backing files, zero clusters; read, written, created, grown, checked,
// repaired.
//
// A header cluster, the L1 table, then L2 tables and data clusters as they come. Tables lead to what is on the disk
// already, so that the need-check flag is never set here; an image that bears it is repaired before it is written.
#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/two_level_table.h"

namespace atl::block {
namespace {

constexpr u64 kHeaderBytes = 64, kMaxBackingName = 1023;
constexpr u32 kMagic = 0x00444551;
constexpr u64 kHasBacking = 1, kNeedCheck = 2, kBackingIsRaw = 4, kKnown = 7;
constexpr u64 kFeaturesAt = 16, kAutoclearAt = 32, kSizeAt = 48;
constexpr u64 kZeroCluster = 1;  // an L2 entry
constexpr u64 kCacheBytes = 4 * kMiB;

struct Header {
  u32 cluster_bytes = 64 * kKiB;
  u32 table_clusters = 4;
  u32 header_clusters = 1;
  u64 features = 0, autoclear = 0;
  u64 l1_offset = 0;
  u64 size_bytes = 0;
  u32 backing_at = 0, backing_bytes = 0;

  u64 entries() const { return u64{table_clusters} * cluster_bytes / 8; }
  u64 max_bytes() const {
    u128 most = u128{entries()} * entries() * cluster_bytes;
    return most > ~u64{0} >> 1 ? ~u64{0} >> 1 : static_cast<u64>(most);
  }
};

Error bad(std::string text) { return bad_image("qed", std::move(text)); }

Status check_geometry(const Header& h) {
  if (!is_power_of_two(h.cluster_bytes) || h.cluster_bytes < 4096 || h.cluster_bytes > 64 * kMiB)
    return bad(
        fmt::format("QED cluster size must be a power of two between 4096 and 67108864, not {}", h.cluster_bytes));
  if (!is_power_of_two(h.table_clusters) || h.table_clusters > 16)
    return bad(
        fmt::format("QED table size must be a power of two between 1 and 16 clusters, not {}", h.table_clusters));
  if (h.size_bytes % kSectorBytes || h.size_bytes > h.max_bytes())
    return bad(fmt::format("QED image size must be a multiple of 512 bytes and at most {}, not {}", h.max_bytes(),
                           h.size_bytes));
  return {};
}

Result<Header> parse(std::span<const u8> bytes) {
  auto word = [&](u64 at) { return load_le<u32>(&bytes[at]); };
  auto wide = [&](u64 at) { return load_le<u64>(&bytes[at]); };
  if (bytes.size() < kHeaderBytes || word(0) != kMagic)
    return Error(ErrorKind::Invalid, "Image not in QED format", EINVAL);
  Header h{.cluster_bytes = word(4),
           .table_clusters = word(8),
           .header_clusters = word(12),
           .features = wide(kFeaturesAt),
           .autoclear = wide(kAutoclearAt),
           .l1_offset = wide(40),
           .size_bytes = wide(kSizeAt),
           .backing_at = word(56),
           .backing_bytes = word(60)};
  if (h.features & ~kKnown)
    return Error(ErrorKind::Unsupported, fmt::format("Unsupported QED features: {:#x}", h.features & ~kKnown), ENOTSUP);
  TRY(check_geometry(h));
  if (h.header_clusters == 0 || h.header_clusters > (u64{1} << 32) / h.cluster_bytes)
    return bad(fmt::format("a header of {} clusters", h.header_clusters));
  if (h.l1_offset % h.cluster_bytes || h.l1_offset < u64{h.header_clusters} * h.cluster_bytes)
    return bad(fmt::format("the L1 table's offset {:#x}", h.l1_offset));
  if (h.features & kHasBacking &&
      (h.backing_bytes > kMaxBackingName ||
       !range_fits(h.backing_at, h.backing_bytes, u64{h.header_clusters} * h.cluster_bytes)))
    return bad(fmt::format("a backing file name of {} bytes at {:#x}", h.backing_bytes, h.backing_at));
  return h;
}

std::vector<u8> build(const Header& h) {
  std::vector<u8> bytes(kHeaderBytes);
  store_le(&bytes[0], kMagic);
  store_le(&bytes[4], h.cluster_bytes);
  store_le(&bytes[8], h.table_clusters);
  store_le(&bytes[12], h.header_clusters);
  store_le(&bytes[kFeaturesAt], h.features);
  store_le(&bytes[kAutoclearAt], h.autoclear);
  store_le(&bytes[40], h.l1_offset);
  store_le(&bytes[kSizeAt], h.size_bytes);
  store_le(&bytes[56], h.backing_at);
  store_le(&bytes[60], h.backing_bytes);
  return bytes;
}

TwoLevelShape shape_of(const Header& h) {
  return {.first_offset = h.l1_offset,
          .first_entries = h.entries(),
          .second_entries = h.entries(),
          .form = {.width = 8},
          .alignment = h.cluster_bytes};
}

class QedMap final : public ClusterMap, public Image {
 public:
  QedMap(NodePtr file, Header header, std::string backing)
      : file_(std::move(file)),
        header_(header),
        backing_(std::move(backing)),
        tables_(*file_, shape_of(header), kCacheBytes) {}

  const char* driver() const override { return "qed"; }
  u64 size_bytes() const override { return header_.size_bytes; }
  u64 cluster_bytes() const override { return header_.cluster_bytes; }
  u64 allocation_unit() const override { return cluster_bytes(); }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override;
  Task<Status> begin_writing() override;
  Task<Result<Place>> allocate(u64 offset) override;
  Task<Status> link(u64 offset, Place place) override;
  bool has_zero_clusters() const override { return true; }
  Task<Status> zero_cluster(u64 offset) override;
  Status allow_writing(bool) override { return {}; }
  bool wants_flush() const override { return tables_.is_overfull(); }
  Task<Status> flush() override;
  Task<Status> resize(u64 size_bytes, Preallocation how) override;

  bool dirty() const override { return header_.features & kNeedCheck; }
  std::string backing_file() const override { return backing_; }
  std::string backing_format() const override { return header_.features & kBackingIsRaw ? "raw" : ""; }
  Task<Status> change_backing(std::string file, std::string format) override;
  Task<Result<CheckReport>> check(Repair repair, Progress progress) override;

 private:
  struct Census;
  bool can_be_cluster(u64 at) const;
  Task<Status> write_header();
  Task<Status> check_table(u64 first_index, u64 clusters, Repair repair, Census& census, CheckReport& report);
  Task<Status> check_all(Repair repair, Census& census, CheckReport& report, const Progress& progress);

  NodePtr file_;
  Header header_;
  std::string backing_;
  TwoLevelTable tables_;
};

bool QedMap::can_be_cluster(u64 at) const {
  return at % header_.cluster_bytes == 0 && at >= u64{header_.header_clusters} * header_.cluster_bytes &&
         at < file_->size_bytes();
}

Task<Result<Run>> QedMap::find(u64 offset, u64 limit) {
  const u64 cluster = header_.cluster_bytes, in_cluster = offset % cluster;
  Result<TwoLevelTable::Entry> got = co_await tables_.get(offset / cluster);
  const TwoLevelTable::Entry entry = CO_TRY(std::move(got));
  const u64 table_bytes = header_.entries() * cluster;
  Run run{.bytes = std::min(limit, entry.has_table ? cluster - in_cluster : table_bytes - offset % table_bytes)};
  if (entry.value == 0) co_return run;
  run.kind = entry.value == kZeroCluster ? Run::Zero : Run::Data;
  if (run.kind == Run::Zero) co_return run;
  if (!can_be_cluster(entry.value))
    co_return Error(ErrorKind::Io, fmt::format("qed: the cluster of {:#x} is said to be at {:#x}", offset, entry.value),
                    EIO);
  run.at = entry.value + in_cluster;
  run.file = file_.get();
  co_return run;
}

Task<Status> QedMap::begin_writing() {
  if (header_.features & kNeedCheck) {
    Result<CheckReport> repaired = co_await check(Repair::All, nullptr);
    CO_TRY(std::move(repaired));
  }
  if (header_.autoclear == 0) co_return Status{};
  header_.autoclear = 0;
  co_return co_await write_header();
}

Task<Status> QedMap::write_header() {
  std::vector<u8> bytes = build(header_);
  co_return co_await write_growing(*file_, 0, std::span<const u8>(bytes));
}

Task<Result<Place>> QedMap::allocate(u64) {
  Result<u64> place = co_await append_zeroes(*file_, header_.cluster_bytes, header_.cluster_bytes);
  co_return Place{CO_TRY(std::move(place)), file_.get(), true};
}

Task<Status> QedMap::link(u64 offset, Place place) {
  co_return co_await tables_.set(offset / header_.cluster_bytes, place.at);
}

Task<Status> QedMap::zero_cluster(u64 offset) {
  co_return co_await tables_.set(offset / header_.cluster_bytes, kZeroCluster);
}

Task<Status> QedMap::flush() {
  Status status = co_await file_->flush();
  CO_TRY(std::move(status));
  co_return co_await tables_.write_back();
}

Task<Status> QedMap::resize(u64 size_bytes, Preallocation how) {
  if (how != Preallocation::Off)
    co_return Error(ErrorKind::Unsupported, "Unsupported preallocation mode: qed has none", ENOTSUP);
  if (size_bytes < header_.size_bytes)
    co_return Error(ErrorKind::Unsupported, "Shrinking images is currently not supported", ENOTSUP);
  Header grown = header_;
  grown.size_bytes = size_bytes;
  CO_TRY(check_geometry(grown));
  header_ = grown;
  co_return co_await write_header();
}

Task<Status> QedMap::change_backing(std::string file, std::string format) {
  std::vector<u8> name(file.begin(), file.end());
  const u64 room = u64{header_.header_clusters} * header_.cluster_bytes;
  if (name.size() > kMaxBackingName || kHeaderBytes + name.size() > room)
    co_return Error(ErrorKind::NoSpace, "qed: the backing file's name is too long", ENOSPC);
  header_.features &= ~(kHasBacking | kBackingIsRaw);
  if (!name.empty()) header_.features |= format == "raw" ? kHasBacking | kBackingIsRaw : kHasBacking;
  header_.backing_at = name.empty() ? 0 : kHeaderBytes;
  header_.backing_bytes = static_cast<u32>(name.size());
  backing_ = file;
  std::vector<u8> bytes = build(header_);
  bytes.insert(bytes.end(), name.begin(), name.end());
  Status status = co_await write_growing(*file_, 0, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return co_await file_->flush();
}

// --- check ---

/// Which clusters of the file are in use.
struct QedMap::Census {
  std::vector<bool> used;

  /// False if somebody has it already.
  bool take(u64 first, u64 count) {
    bool fresh = true;
    for (u64 i = first; i < first + count && i < used.size(); ++i) {
      fresh = fresh && !used[i];
      used[i] = true;
    }
    return fresh;
  }
};

Task<Status> QedMap::check_table(u64 first_index, u64 clusters, Repair repair, Census& census, CheckReport& report) {
  u64 last = 0;
  for (u64 i = 0; i < clusters; ++i) {
    const u64 index = first_index * header_.entries() + i;
    Result<TwoLevelTable::Entry> got = co_await tables_.get(index);
    const u64 at = CO_TRY(std::move(got)).value;
    if (at <= kZeroCluster) continue;
    ++report.allocated_clusters;
    if (last && at != last + header_.cluster_bytes) ++report.fragmented_clusters;
    last = at;
    if (can_be_cluster(at) && census.take(at / header_.cluster_bytes, 1)) continue;
    ++report.corruptions;
    if (repair != Repair::All) continue;
    Status status = co_await tables_.set(index, 0);
    CO_TRY(std::move(status));
    ++report.corruptions_fixed;
  }
  co_return Status{};
}

Task<Status> QedMap::check_all(Repair repair, Census& census, CheckReport& report, const Progress& progress) {
  const u64 total = (header_.size_bytes + header_.cluster_bytes - 1) / header_.cluster_bytes;
  report.total_clusters = total;
  for (u64 first = 0; first * header_.entries() < total; ++first) {
    Result<u64> table = co_await tables_.table_at(first);
    if (table && *table == 0) continue;
    if (!table || !census.take(*table / header_.cluster_bytes, header_.table_clusters)) {
      ++report.corruptions;
      continue;
    }
    Status status = co_await check_table(first, std::min(header_.entries(), total - first * header_.entries()), repair,
                                         census, report);
    CO_TRY(std::move(status));
    if (progress && !progress(static_cast<double>(first * header_.entries()) / static_cast<double>(total)))
      co_return Error(ErrorKind::Cancelled, "check was cancelled", ECANCELED);
  }
  co_return Status{};
}

Task<Result<CheckReport>> QedMap::check(Repair repair, Progress progress) {
  CheckReport report;
  Census census;
  const u64 file_clusters = (file_->size_bytes() + header_.cluster_bytes - 1) / header_.cluster_bytes;
  if (file_clusters > u64{1} << 28)
    co_return Error(ErrorKind::Unsupported, "qed: the file is too large to be checked", EFBIG);
  census.used.resize(file_clusters);
  census.take(0, header_.header_clusters);
  census.take(header_.l1_offset / header_.cluster_bytes, header_.table_clusters);
  Status status = co_await check_all(repair, census, report, progress);
  CO_TRY(std::move(status));
  report.leaks = static_cast<u64>(std::ranges::count(census.used, false));
  report.image_end_offset = file_clusters * header_.cluster_bytes;
  if (repair == Repair::None) co_return report;
  status = co_await flush();
  CO_TRY(std::move(status));
  if (report.corruptions == report.corruptions_fixed && dirty()) {
    header_.features &= ~kNeedCheck;
    status = co_await write_header();
    CO_TRY(std::move(status));
    status = co_await file_->flush();
    CO_TRY(std::move(status));
  }
  co_return report;
}

// --- the driver ---

int probe_qed(std::span<const u8> head, std::string_view) {
  return head.size() >= kHeaderBytes && load_le<u32>(head.data()) == kMagic ? 100 : 0;
}

Task<Result<NodePtr>> open_qed(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "qed");
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  MappedOptions mapped = mapped_options(mode, *file, std::move(node_name));
  Result<NodePtr> opened = co_await open_qed_node(file, std::move(mapped));
  NodePtr node = CO_TRY(std::move(opened));
  Status status = co_await attach_backing(graph, reader, *node, *file, mode);
  CO_TRY(std::move(status));
  CO_TRY(reader.finish());
  co_return node;
}

Task<Status> create_qed(Graph&, NodePtr file, std::string, Json options) {
  OptionReader reader(std::move(options), "qed");
  Header h;
  h.size_bytes = CO_TRY(reader.size("size", 0));
  u64 cluster = CO_TRY(reader.size("cluster_size", h.cluster_bytes));
  u64 tables = CO_TRY(reader.size("table_size", h.table_clusters));
  std::string backing = CO_TRY(reader.string("backing_file", ""));
  std::string format = CO_TRY(reader.string("backing_fmt", ""));
  CO_TRY(reader.finish());
  h.cluster_bytes = static_cast<u32>(std::min<u64>(cluster, ~u32{0}));
  h.table_clusters = static_cast<u32>(std::min<u64>(tables, ~u32{0}));
  h.size_bytes = align_up(std::min(h.size_bytes, ~u64{0} >> 1), kSectorBytes);
  CO_TRY(check_geometry(h));
  h.l1_offset = h.cluster_bytes;
  Status status = co_await file->resize(h.l1_offset + h.entries() * 8, Preallocation::Off);
  CO_TRY(std::move(status));
  std::vector<u8> bytes = build(h);
  status = co_await write_growing(*file, 0, std::span<const u8>(bytes));
  if (!status || backing.empty()) co_return status;
  QedMap map(file, h, "");
  co_return co_await map.change_backing(std::move(backing), std::move(format));
}

}  // namespace

Task<Result<NodePtr>> open_qed_node(NodePtr file, MappedOptions options) {
  Result<std::vector<u8>> head = co_await read_head(*file, kHeaderBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  Header header = CO_TRY(parse(bytes));
  if (!range_fits(header.l1_offset, header.entries() * 8, align_up(file->size_bytes(), kSectorBytes)))
    co_return bad(fmt::format("the L1 table at {:#x} is cut short", header.l1_offset));
  std::string backing;
  if (header.features & kHasBacking) {
    Result<std::vector<u8>> name =
        co_await read_bytes(*file, header.backing_at, header.backing_bytes, "the backing file's name");
    std::vector<u8> text = CO_TRY(std::move(name));
    backing.assign(text.begin(), text.end());
  }
  auto map = std::make_unique<QedMap>(std::move(file), header, std::move(backing));
  co_return make_mapped_node(std::move(map), nullptr, std::move(options));
}

extern const Driver kQedDriver;
const Driver kQedDriver = {
    .name = "qed",
    .probe = probe_qed,
    .open = open_qed,
    .create = create_qed,
    .create_options = {{"size", CreateOption::Size, "Virtual disk size"},
                       {"backing_file", CreateOption::Text, "File name of a base image"},
                       {"backing_fmt", CreateOption::Text, "Image format of the base image"},
                       {"cluster_size", CreateOption::Size, "Cluster size (in bytes)", "65536"},
                       {"table_size", CreateOption::Size, "L1/L2 table size (in clusters)", "4"}},
    .supports_backing = true,
};

}  // namespace atl::block
