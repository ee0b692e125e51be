// Hyper-V disks ("vhdx"), [MS-VHDX] "VHDX Format Specification".
//
// Supported: dynamic and fixed images, read, written, created, checked; the log is replayed when an image is opened for
// writing (or repaired), and every change of the block table goes through it. Refused by name: differencing images,
// logical sectors of 4096 bytes. Missing: resize.
#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/crypto/hash.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/table_cache.h"
#include "block/format/vhdx_log.h"

namespace atl::block {

using namespace vhdx;

namespace {

constexpr u64 kCacheBytes = 4 * kMiB;

Error bad(std::string text) { return bad_image("vhdx", std::move(text)); }

struct Layout {
  Header header;
  Regions regions;
  Metadata metadata;
};

class VhdxMap final : public ClusterMap, public Image {
 public:
  VhdxMap(NodePtr file, Layout layout)
      : file_(std::move(file)),
        layout_(layout),
        cache_(*file_, kCacheBytes),
        table_(cache_, layout.regions.table.offset, layout.metadata.entries(), {.width = 8}) {}

  const char* driver() const override { return "vhdx"; }
  u64 size_bytes() const override { return layout_.metadata.disk_bytes; }
  u64 cluster_bytes() const override { return layout_.metadata.block_bytes; }
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
  bool wants_flush() const override { return cache_.is_overfull(); }
  Task<Status> flush() override;
  Task<Result<CheckReport>> check(Repair repair, Progress progress) override;

  void note_replay(bool replayed) { replayed_ = replayed; }

 private:
  bool can_be_block(u64 at) const;
  u64 index_of(u64 offset) const { return layout_.metadata.entry_of(offset / layout_.metadata.block_bytes); }
  Task<Status> write_headers();
  Task<Result<std::vector<LoggedSector>>> changed_sectors();
  Task<Status> log_sectors(std::span<const LoggedSector> sectors);

  NodePtr file_;
  Layout layout_;
  TableCache cache_;
  FlatTable table_;
  u64 log_sequence_ = 1;
  bool replayed_ = false;
};

bool overlaps(u64 at, u64 bytes, u64 other_at, u64 other_bytes) {
  return at < other_at + other_bytes && other_at < at + bytes;
}

bool VhdxMap::can_be_block(u64 at) const {
  const u64 bytes = layout_.metadata.block_bytes;
  if (at < kMiB || !range_fits(at, 1, file_->size_bytes())) return false;
  return !overlaps(at, bytes, layout_.header.log_offset, layout_.header.log_bytes) &&
         !overlaps(at, bytes, layout_.regions.table.offset, layout_.regions.table.bytes) &&
         !overlaps(at, bytes, layout_.regions.metadata.offset, layout_.regions.metadata.bytes);
}

Task<Result<Run>> VhdxMap::find(u64 offset, u64 limit) {
  const u64 in_block = offset % cluster_bytes();
  Run run{.bytes = std::min(limit, cluster_bytes() - in_block)};
  Result<u64> got = co_await table_.get(index_of(offset));
  const u64 entry = CO_TRY(std::move(got));
  const u64 state = entry & kStateMask, at = entry & kOffsetMask;
  if (state == NotPresent) co_return run;
  run.kind = Run::Zero;
  if (state == Undefined || state == Zero || state == Unmapped) co_return run;
  if (state != FullyPresent || !can_be_block(at))
    co_return Error(ErrorKind::Io, fmt::format("vhdx: the block of {:#x} has state {} at {:#x}", offset, state, at),
                    EIO);
  run.kind = Run::Data;
  run.at = at + in_block;
  run.file = file_.get();
  co_return run;
}

/// Sequence numbers alternate between the two headers, so that one is always valid; both tell the same in the end.
Task<Status> VhdxMap::write_headers() {
  for (int i = 0; i < 2; ++i) {
    ++layout_.header.sequence;
    layout_.header.at = layout_.header.at == kHeader1At ? kHeader2At : kHeader1At;
    std::vector<u8> bytes = build_header(layout_.header);
    Status status = co_await write_growing(*file_, layout_.header.at, std::span<const u8>(bytes));
    CO_TRY(std::move(status));
    status = co_await file_->flush();
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

Task<Status> VhdxMap::begin_writing() {
  CO_TRY(crypto::fill_random(layout_.header.file_write));
  CO_TRY(crypto::fill_random(layout_.header.data_write));
  co_return co_await write_headers();
}

Task<Result<Place>> VhdxMap::allocate(u64) {
  Result<u64> place = co_await append_zeroes(*file_, cluster_bytes(), kMiB);
  co_return Place{CO_TRY(std::move(place)), file_.get(), true};
}

Task<Status> VhdxMap::link(u64 offset, Place place) {
  co_return co_await table_.set(index_of(offset), place.at | FullyPresent);
}

Task<Status> VhdxMap::zero_cluster(u64 offset) { co_return co_await table_.set(index_of(offset), Zero); }

/// What the table's changed parts will be on the disk, in whole log sectors.
Task<Result<std::vector<LoggedSector>>> VhdxMap::changed_sectors() {
  std::vector<LoggedSector> sectors;
  for (const TableCache::Ref& page : cache_.dirty_pages()) {
    const u64 from = align_down(page->offset + page->dirty_from, kLogSectorBytes), to = page->offset + page->dirty_to;
    for (u64 at = from; at < to; at += kLogSectorBytes) {
      Result<std::vector<u8>> old = co_await read_bytes(*file_, at, kLogSectorBytes, "the block table");
      LoggedSector sector{at, CO_TRY(std::move(old))};
      const u64 start = std::max(at, page->offset),
                end = std::min(at + kLogSectorBytes, page->offset + page->bytes.size());
      std::copy_n(&page->bytes[start - page->offset], end - start, &sector.bytes[start - at]);
      sectors.push_back(std::move(sector));
    }
  }
  co_return sectors;
}

/// One entry at the log's start, complete on the disk before the header tells of it.
Task<Status> VhdxMap::log_sectors(std::span<const LoggedSector> sectors) {
  CO_TRY(crypto::fill_random(layout_.header.log));
  std::vector<u8> entry = CO_TRY(build_log_entry(layout_.header, log_sequence_++, sectors, file_->size_bytes()));
  Status status = co_await write_growing(*file_, layout_.header.log_offset, std::span<const u8>(entry));
  CO_TRY(std::move(status));
  status = co_await file_->flush();
  CO_TRY(std::move(status));
  status = co_await write_headers();
  CO_TRY(std::move(status));
  for (const LoggedSector& sector : sectors) {
    status = co_await write_growing(*file_, sector.offset, std::span<const u8>(sector.bytes));
    CO_TRY(std::move(status));
  }
  status = co_await file_->flush();
  CO_TRY(std::move(status));
  layout_.header.log = Guid{};
  co_return co_await write_headers();
}

Task<Status> VhdxMap::flush() {
  Status status = co_await file_->flush();
  if (!status || !cache_.has_dirty()) co_return status;
  Result<std::vector<LoggedSector>> changed = co_await changed_sectors();
  std::vector<LoggedSector> sectors = CO_TRY(std::move(changed));
  const u64 most = std::min<u64>(log_capacity(layout_.header.log_bytes), 1024);
  for (u64 done = 0; done < sectors.size(); done += most) {
    status = co_await log_sectors(
        std::span<const LoggedSector>(sectors).subspan(done, std::min(most, sectors.size() - done)));
    CO_TRY(std::move(status));
  }
  co_return co_await cache_.write_back();  // the same bytes once more: the pages are clean then
}

Task<Result<CheckReport>> VhdxMap::check(Repair repair, Progress progress) {
  CheckReport report;
  if (replayed_ && repair != Repair::None) ++report.corruptions_fixed;
  const Metadata& m = layout_.metadata;
  for (u64 block = 0; block < m.blocks(); ++block) {
    Result<Run> run = co_await find(block * m.block_bytes, m.block_bytes);
    if (!run && report.messages.size() < 100) report.messages.push_back("ERROR: " + run.error().text());
    if (!run) ++report.corruptions;
    if (block % 65536 == 0 && progress && !progress(static_cast<double>(block) / static_cast<double>(m.blocks())))
      co_return Error(ErrorKind::Cancelled, "check was cancelled", ECANCELED);
  }
  co_return report;
}

// --- opening ---

Task<Result<Header>> read_header(Node& file) {
  Result<std::vector<u8>> read = co_await read_bytes(file, kHeader1At, kHeaderBytes, "the first header");
  std::vector<u8> first = CO_TRY(std::move(read));
  read = co_await read_bytes(file, kHeader2At, kHeaderBytes, "the second header");
  std::vector<u8> second = CO_TRY(std::move(read));
  co_return choose_header(first, second);
}

/// The second table stands in for a broken first one.
Task<Result<Regions>> read_regions(Node& file) {
  Result<std::vector<u8>> read = co_await read_bytes(file, kRegion1At, kRegionBytes, "the region table");
  std::vector<u8> bytes = CO_TRY(std::move(read));
  Result<Regions> regions = parse_regions(bytes);
  if (regions) co_return regions;
  read = co_await read_bytes(file, kRegion2At, kRegionBytes, "the second region table");
  bytes = CO_TRY(std::move(read));
  Result<Regions> second = parse_regions(bytes);
  co_return second ? second : regions;
}

Task<Result<Metadata>> read_metadata(Node& file, Region region) {
  const u64 bytes = std::min<u64>(region.bytes, kMaxMetadataBytes);
  Result<std::vector<u8>> read =
      co_await read_bytes(file, region.offset, std::min(bytes, file.size_bytes()), "the metadata");
  std::vector<u8> all = CO_TRY(std::move(read));
  co_return parse_metadata(all);
}

bool is_vhdx(std::span<const u8> head) { return head.size() >= 8 && load_le<u64>(head.data()) == kFileMagic; }

int probe_vhdx(std::span<const u8> head, std::string_view) { return is_vhdx(head) ? 100 : 0; }

Task<Result<NodePtr>> open_vhdx(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "vhdx");
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  CO_TRY(reader.finish());
  MappedOptions mapped = mapped_options(mode, *file, std::move(node_name));
  co_return co_await open_vhdx_node(std::move(file), std::move(mapped));
}

// --- creating ---

struct Choice {
  u64 size = 0, block = 0, log = kMiB;
  bool fixed = false, zero_state = true;
};

u64 default_block_bytes(u64 size) {
  if (size > u64{32} << 40) return 64 * kMiB;
  if (size > 100 * kGiB) return 32 * kMiB;
  return size > kGiB ? 16 * kMiB : 8 * kMiB;
}

Result<Choice> read_choice(OptionReader& reader) {
  Choice choice;
  choice.size = TRY(reader.size("size", 0));
  choice.block = TRY(reader.size("block_size", 0));
  choice.log = TRY(reader.size("log_size", kMiB));
  std::string subformat = TRY(reader.string("subformat", "dynamic"));
  choice.zero_state = TRY(reader.boolean("block_state_zero", true));
  TRY(reader.finish());
  if (subformat != "dynamic" && subformat != "fixed") return bad(fmt::format("Invalid subformat '{}'", subformat));
  choice.fixed = subformat == "fixed";
  if (choice.size > kMaxDiskBytes) return bad("Image size too large; max of 64TB");
  choice.size = align_up(choice.size, kSectorBytes);
  if (choice.block == 0) choice.block = default_block_bytes(choice.size);
  if (!is_power_of_two(choice.block) || choice.block < kMinBlockBytes || choice.block > kMaxBlockBytes)
    return bad("Block size must be a power of two between 1 MB and 256 MB");
  if (choice.log < kMiB || choice.log % kMiB || choice.log > 256 * kMiB)
    return bad("Log size must be a multiple of 1 MB, at most 256 MB");
  return choice;
}

Result<Layout> lay_out(const Choice& choice) {
  Layout out;
  out.header.log_bytes = static_cast<u32>(choice.log);
  TRY(crypto::fill_random(out.header.file_write));
  TRY(crypto::fill_random(out.header.data_write));
  out.metadata = {.block_bytes = static_cast<u32>(choice.block), .fixed = choice.fixed, .disk_bytes = choice.size};
  const u64 table = std::max(kMiB, align_up(out.metadata.entries() * 8, kMiB));
  out.regions.table = {out.header.log_offset + choice.log, static_cast<u32>(table)};
  out.regions.metadata = {out.regions.table.offset + table, static_cast<u32>(kMiB)};
  return out;
}

Task<Status> write_table(NodePtr file, const Layout& layout, bool zero_state) {
  TableCache cache(*file, kCacheBytes);
  FlatTable table(cache, layout.regions.table.offset, layout.metadata.entries(), {.width = 8});
  const u64 data_start = layout.regions.metadata.offset + layout.regions.metadata.bytes,
            block = layout.metadata.block_bytes;
  if (!layout.metadata.fixed && !zero_state) co_return Status{};
  for (u64 i = 0; i < layout.metadata.blocks(); ++i) {
    const u64 entry = layout.metadata.fixed ? (data_start + i * block) | FullyPresent : u64{Zero};
    Status status = co_await table.set(layout.metadata.entry_of(i), entry);
    if (status && cache.is_overfull()) status = co_await cache.write_back();
    CO_TRY(std::move(status));
  }
  co_return co_await cache.write_back();
}

/// The signature comes last: what has it is complete.
Task<Status> create_vhdx(Graph&, NodePtr file, std::string, Json options) {
  OptionReader reader(std::move(options), "vhdx");
  const Choice choice = CO_TRY(read_choice(reader));
  Layout layout = CO_TRY(lay_out(choice));
  const u64 data_start = layout.regions.metadata.offset + layout.regions.metadata.bytes;
  const u64 data_bytes = choice.fixed ? layout.metadata.blocks() * choice.block : 0;
  Status status = co_await file->resize(data_start + data_bytes, Preallocation::Off);
  CO_TRY(std::move(status));
  std::vector<u8> metadata = CO_TRY(build_metadata(layout.metadata)), regions = build_regions(layout.regions);
  std::vector<u8> signature(kFileIdBytes);
  store_le(&signature[0], kFileMagic);
  constexpr std::string_view kCreator = "Atoll";
  for (size_t i = 0; i < kCreator.size(); ++i) signature[8 + 2 * i] = static_cast<u8>(kCreator[i]);  // UTF-16
  layout.header.sequence = 1;
  std::vector<u8> first = build_header(layout.header);
  layout.header.sequence = 2;
  std::vector<u8> second = build_header(layout.header);
  status = co_await write_table(file, layout, choice.zero_state);
  CO_TRY(std::move(status));
  const std::pair<u64, const std::vector<u8>*> pieces[] = {{layout.regions.metadata.offset, &metadata},
                                                           {kRegion1At, &regions},
                                                           {kRegion2At, &regions},
                                                           {kHeader1At, &first},
                                                           {kHeader2At, &second},
                                                           {0, &signature}};
  for (auto& [at, bytes] : pieces) {
    status = co_await write_growing(*file, at, std::span<const u8>(*bytes));
    CO_TRY(std::move(status));
  }
  co_return co_await file->flush();
}

}  // namespace

Task<Result<NodePtr>> open_vhdx_node(NodePtr file, MappedOptions options) {
  Result<std::vector<u8>> head = co_await read_head(*file, kSectorBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  if (!is_vhdx(bytes)) co_return Error(ErrorKind::Invalid, "Image not in VHDX format", EINVAL);
  Layout layout;
  Result<Header> header = co_await read_header(*file);
  layout.header = CO_TRY(std::move(header));
  const bool has_log = layout.header.has_log();
  if (has_log && options.readonly)
    co_return Error(ErrorKind::Permission,
                    "vhdx: the image was opened read-only, but its log must be replayed; 'check -r all' does that",
                    EPERM);
  bool replayed = false;
  if (has_log) {
    Result<bool> done = co_await replay_log(*file, layout.header);
    replayed = CO_TRY(std::move(done));
    layout.header.log = Guid{};
  }
  Result<Regions> regions = co_await read_regions(*file);
  layout.regions = CO_TRY(std::move(regions));
  Result<Metadata> metadata = co_await read_metadata(*file, layout.regions.metadata);
  layout.metadata = CO_TRY(std::move(metadata));
  if (layout.metadata.entries() * 8 > layout.regions.table.bytes)
    co_return bad("the block table is too small for the disk");
  if (!range_fits(layout.regions.table.offset, layout.metadata.entries() * 8, file->size_bytes()))
    co_return bad(fmt::format("the block table at {:#x} is cut short", layout.regions.table.offset));
  auto map = std::make_unique<VhdxMap>(std::move(file), layout);
  map->note_replay(replayed);
  if (has_log) {
    Status status = co_await map->begin_writing();  // the header forgets the log
    CO_TRY(std::move(status));
  }
  co_return make_mapped_node(std::move(map), nullptr, std::move(options));
}

extern const Driver kVhdxDriver;
const Driver kVhdxDriver = {
    .name = "vhdx",
    .probe = probe_vhdx,
    .open = open_vhdx,
    .create = create_vhdx,
    .create_options =
        {{"size", CreateOption::Size, "Virtual disk size; max of 64TB."},
         {"log_size", CreateOption::Size, "Log size; min 1MB.", "1048576"},
         {"block_size", CreateOption::Size,
          "Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size.", "0"},
         {"subformat", CreateOption::Text,
          "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'."},
         {"block_state_zero", CreateOption::Flag,
          "Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not set to 'off' when "
          "using 'qemu-img convert' with subformat=dynamic."}},
};

}  // namespace atl::block
