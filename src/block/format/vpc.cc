// Microsoft VHD images ("vpc"), Virtual Hard Disk Image Format Specification 1.0.
//
// Supported: dynamic and fixed images, read, written, created. Refused by name: differencing images. Missing: resize,
// and sector bitmaps that say that parts of a block hold nothing (read as the zeroes that lie there, as others do).
//
// A dynamic image is a copy of the footer, the dynamic header, the block table, then blocks: a bitmap of sectors and
// the data; at the end the footer, which every new block pushes on. The copy at the start counts if the end was lost in
// a crash.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "base/endian.h"
#include "base/math.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/table_cache.h"
#include "block/format/vpc_spec.h"

namespace atl::block {

using namespace vpc;

namespace {

constexpr u64 kCacheBytes = 4 * kMiB;
constexpr size_t kMaxRemembered = 65536;

Error bad(std::string text) { return bad_image("vpc", std::move(text)); }

/// Programs that write the true size into the size field; others mean the geometry.
constexpr std::string_view kExactCreators[] = {"win ", "qem2", "d2v ", {"tap\0", 4}, "CTXS", {"wa\0\0", 4}};

u64 disk_sectors(const Footer& footer, VpcOptions::Size how) {
  bool exact = how == VpcOptions::ByField ||
               (how == VpcOptions::ByCreator && std::ranges::count(kExactCreators, std::string_view(footer.creator)));
  if (exact || footer.geometry.total() == kLargest.total()) return footer.disk_bytes / kSectorBytes;
  return footer.geometry.total();
}

class FixedVpcMap final : public ClusterMap, public Image {
 public:
  FixedVpcMap(NodePtr file, u64 size_bytes) : file_(std::move(file)), size_(size_bytes) {}
  const char* driver() const override { return "vpc"; }
  u64 size_bytes() const override { return size_; }
  u64 allocation_unit() const override { return kMiB; }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override {
    Run run{.kind = Run::Data, .bytes = limit, .at = offset, .file = file_.get(), .sparse = true};
    co_return run;
  }
  Status allow_writing(bool) override { return {}; }
  Task<Status> flush() override { return file_->flush(); }

 private:
  NodePtr file_;
  const u64 size_;
};

class DynamicVpcMap final : public ClusterMap, public Image {
 public:
  DynamicVpcMap(NodePtr file, u64 size_bytes, DynamicHeader header, u64 data_end, bool readonly);
  const char* driver() const override { return "vpc"; }
  u64 size_bytes() const override { return size_; }
  u64 cluster_bytes() const override { return header_.block_bytes; }
  u64 allocation_unit() const override { return cluster_bytes(); }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override;
  Task<Result<Place>> allocate(u64 offset) override;
  Task<Status> link(u64 offset, Place place) override;
  Task<Status> prepare(u64 offset) override;
  Status allow_writing(bool on) override {
    readonly_ = !on;
    return {};
  }
  bool wants_flush() const override { return table_cache_.is_overfull(); }
  Task<Status> flush() override;

 private:
  u64 bitmap_bytes() const { return align_up((header_.block_bytes / kSectorBytes + 7) / 8, kSectorBytes); }
  Task<Result<bool>> is_whole(u64 block, u64 at);
  Task<Status> fill_bitmap(u64 at);
  void remember_whole(u64 block);

  NodePtr file_;
  const u64 size_;
  const DynamicHeader header_;
  bool readonly_;
  TableCache table_cache_;
  FlatTable table_;
  u64 data_end_;  // where the footer belongs
  bool footer_moved_ = false;
  std::unordered_set<u64> whole_;  // blocks whose bitmap is known to be full
};

DynamicVpcMap::DynamicVpcMap(NodePtr file, u64 size_bytes, DynamicHeader header, u64 data_end, bool readonly)
    : file_(std::move(file)),
      size_(size_bytes),
      header_(header),
      readonly_(readonly),
      table_cache_(*file_, kCacheBytes),
      table_(table_cache_, header.table_offset, header.entries, {.width = 4, .big_endian = true}),
      data_end_(data_end) {}

Task<Result<Run>> DynamicVpcMap::find(u64 offset, u64 limit) {
  const u64 block = offset / header_.block_bytes, in_block = offset % header_.block_bytes;
  Run run{.bytes = std::min(limit, header_.block_bytes - in_block)};
  Result<u64> got = co_await table_.get(block);
  const u64 entry = CO_TRY(std::move(got));
  if (entry == kFree) co_return run;
  const u64 at = entry * kSectorBytes;
  if (!range_fits(at, bitmap_bytes() + header_.block_bytes, std::max(data_end_, file_->size_bytes())))
    co_return Error(ErrorKind::Io,
                    fmt::format("vpc: the table's entry {} leads to {:#x}, behind the file's end", block, at), EIO);
  run.kind = Run::Data;
  run.at = at + bitmap_bytes() + in_block;
  run.file = file_.get();
  if (readonly_) co_return run;
  Result<bool> whole = co_await is_whole(block, at);
  run.unprepared = !CO_TRY(std::move(whole));
  co_return run;
}

void DynamicVpcMap::remember_whole(u64 block) {
  if (whole_.size() >= kMaxRemembered) whole_.clear();
  whole_.insert(block);
}

Task<Result<bool>> DynamicVpcMap::is_whole(u64 block, u64 at) {
  if (whole_.contains(block)) co_return true;
  std::vector<u8> bitmap(bitmap_bytes());
  iovec all{bitmap.data(), bitmap.size()};
  Status status = co_await read_padded(*file_, at, {&all, 1});
  CO_TRY(std::move(status));
  const u64 used = header_.block_bytes / kSectorBytes / 8;
  bool whole = std::all_of(bitmap.begin(), bitmap.begin() + static_cast<long>(used), [](u8 b) { return b == 0xff; });
  if (whole) remember_whole(block);
  co_return whole;
}

Task<Status> DynamicVpcMap::fill_bitmap(u64 at) {
  std::vector<u8> bitmap(bitmap_bytes(), 0xff);
  co_return co_await write_growing(*file_, at, std::span<const u8>(bitmap));
}

Task<Status> DynamicVpcMap::prepare(u64 offset) {
  const u64 block = offset / header_.block_bytes;
  Result<u64> got = co_await table_.get(block);
  const u64 entry = CO_TRY(std::move(got));
  const u64 at = entry * kSectorBytes;
  Status status = co_await fill_bitmap(at);
  if (status) remember_whole(block);
  co_return status;
}

Task<Result<Place>> DynamicVpcMap::allocate(u64) {
  const u64 at = data_end_, data = at + bitmap_bytes(), end = data + header_.block_bytes;
  if (at / kSectorBytes >= kFree)
    co_return Error(ErrorKind::NoSpace, "vpc: the image file is as large as the format allows", EFBIG);
  Status status = co_await grow_to(*file_, end + kFooterBytes);
  CO_TRY(std::move(status));
  status = co_await fill_bitmap(at);
  CO_TRY(std::move(status));
  data_end_ = end;
  footer_moved_ = true;
  co_return Place{data, file_.get(), true};
}

Task<Status> DynamicVpcMap::link(u64 offset, Place place) {
  const u64 block = offset / header_.block_bytes;
  Status status = co_await table_.set(block, (place.at - bitmap_bytes()) / kSectorBytes);
  if (status) remember_whole(block);
  co_return status;
}

Task<Status> DynamicVpcMap::flush() {
  if (footer_moved_) {
    std::vector<u8> footer(kFooterBytes);
    iovec whole{footer.data(), footer.size()};
    Status status = co_await read_padded(*file_, 0, {&whole, 1});
    CO_TRY(std::move(status));
    status = co_await write_growing(*file_, data_end_, std::span<const u8>(footer));
    CO_TRY(std::move(status));
    footer_moved_ = false;
  }
  Status status = co_await file_->flush();
  if (!status || !table_cache_.has_dirty()) co_return status;
  status = co_await table_cache_.write_back();
  CO_TRY(std::move(status));
  co_return co_await file_->flush();
}

// --- opening ---

/// Where dynamic images have a copy of the footer, else at the end.
Task<Result<Footer>> read_footer(Node& file) {
  Result<std::vector<u8>> head = co_await read_head(file, kFooterBytes);
  if (auto footer = parse_footer(CO_TRY(std::move(head)))) co_return *footer;
  const u64 end = file.size_bytes();
  if (end < kFooterBytes) co_return bad("the file is too small");
  Result<std::vector<u8>> tail = co_await read_bytes(file, end - kFooterBytes, kFooterBytes, "the footer");
  auto footer = parse_footer(CO_TRY(std::move(tail)));
  if (!footer || footer->type != kFixed) co_return Error(ErrorKind::Invalid, "Image is not in VHD format", EINVAL);
  co_return *footer;
}

/// Where the next block goes: in the place of the footer, or behind everything if a crash has left none.
Task<Result<u64>> find_data_end(Node& file, DynamicHeader header) {
  const u64 blocks_start = header.table_offset + align_up(4 * u64{header.entries}, kSectorBytes);
  const u64 end = align_up(file.size_bytes(), kSectorBytes);
  Result<std::vector<u8>> tail = co_await read_bytes(file, end - kFooterBytes, kFooterBytes, "the footer");
  std::vector<u8> bytes = CO_TRY(std::move(tail));
  co_return std::max(blocks_start, parse_footer(bytes) ? end - kFooterBytes : end);
}

int probe_vpc(std::span<const u8> head, std::string_view) { return parse_footer(head) ? 100 : 0; }

Result<VpcOptions> read_size_option(OptionReader& reader) {
  std::string how = TRY(reader.string("force_size_calc", ""));
  if (how.empty()) return VpcOptions{};
  if (how == "chs") return VpcOptions{VpcOptions::ByGeometry};
  if (how == "current_size") return VpcOptions{VpcOptions::ByField};
  return Error(ErrorKind::Invalid, fmt::format("Invalid size calculation algorithm '{}'", how), EINVAL);
}

Task<Result<NodePtr>> open_vpc(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "vpc");
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  VpcOptions vpc = CO_TRY(read_size_option(reader));
  CO_TRY(reader.finish());
  MappedOptions mapped = mapped_options(mode, *file, std::move(node_name));
  co_return co_await open_vpc_node(std::move(file), vpc, std::move(mapped));
}

// --- creating ---

Result<Footer> footer_for(u64 size_bytes, bool force_size, bool dynamic) {
  const u64 wanted = (size_bytes + kSectorBytes - 1) / kSectorBytes;
  Footer footer;
  footer.type = dynamic ? kDynamic : kFixed;
  if (!dynamic) footer.header_offset = ~u64{0};
  if (!force_size) footer.creator = "qemu";
  footer.geometry = force_size ? kLargest : geometry_for(wanted);
  const bool exact = footer.geometry.total() == kLargest.total();
  const u64 sectors = exact ? wanted : footer.geometry.total();
  if (sectors > kMaxSectors) return Error(ErrorKind::Invalid, "vpc: the size limit is 2040 GiB", EFBIG);
  footer.disk_bytes = sectors * kSectorBytes;
  return footer;
}

Task<Status> write_dynamic(Node& file, const Footer& footer, std::vector<u8> footer_bytes) {
  DynamicHeader header;
  header.entries = static_cast<u32>((footer.disk_bytes + kBlockBytes - 1) / kBlockBytes);
  std::vector<u8> table(align_up(4 * u64{header.entries}, kSectorBytes), 0xff);  // at most 4 MiB
  std::vector<u8> bytes = build_dynamic(header);
  Status status = co_await write_growing(file, kFooterBytes, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  status = co_await write_growing(file, header.table_offset, std::span<const u8>(table));
  CO_TRY(std::move(status));
  status = co_await write_growing(file, header.table_offset + table.size(), std::span<const u8>(footer_bytes));
  CO_TRY(std::move(status));
  co_return co_await write_growing(file, 0, std::span<const u8>(footer_bytes));
}

Task<Status> create_vpc(Graph&, NodePtr file, std::string, Json options) {
  OptionReader reader(std::move(options), "vpc");
  u64 size = CO_TRY(reader.size("size", 0));
  std::string subformat = CO_TRY(reader.string("subformat", "dynamic"));
  bool force_size = CO_TRY(reader.boolean("force_size", false));
  CO_TRY(reader.finish());
  if (subformat != "dynamic" && subformat != "fixed")
    co_return Error(ErrorKind::Invalid, fmt::format("Invalid subformat '{}'", subformat), EINVAL);
  const bool dynamic = subformat == "dynamic";
  Footer footer = CO_TRY(footer_for(size, force_size, dynamic));
  std::vector<u8> bytes = CO_TRY(build_footer(footer));
  Status status;
  if (dynamic)
    status = co_await write_dynamic(*file, footer, std::move(bytes));
  else
    status = co_await write_growing(*file, footer.disk_bytes, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return co_await file->flush();
}

}  // namespace

Task<Result<NodePtr>> open_vpc_node(NodePtr file, VpcOptions vpc, MappedOptions options) {
  Result<Footer> read = co_await read_footer(*file);
  Footer footer = CO_TRY(std::move(read));
  const u64 sectors = disk_sectors(footer, vpc.size);
  if (footer.type == kDifferencing)
    co_return Error(ErrorKind::Unsupported, "vpc: differencing images are not supported", ENOTSUP);
  if (footer.type != kFixed && footer.type != kDynamic) co_return bad(fmt::format("disk type {}", footer.type));
  if (sectors > kMaxSectors)
    co_return Error(ErrorKind::Invalid, fmt::format("vpc: a disk of {} sectors", sectors), EFBIG);
  const u64 size_bytes = sectors * kSectorBytes;
  if (footer.type == kFixed) {
    if (size_bytes > file->size_bytes()) co_return bad(fmt::format("the file is too small for {} bytes", size_bytes));
    co_return make_mapped_node(std::make_unique<FixedVpcMap>(std::move(file), size_bytes), nullptr, std::move(options));
  }
  Result<std::vector<u8>> bytes = co_await read_bytes(*file, footer.header_offset, kDynamicBytes, "the dynamic header");
  std::vector<u8> dynamic = CO_TRY(std::move(bytes));
  DynamicHeader header = CO_TRY(parse_dynamic(dynamic));
  if (u64{header.entries} * header.block_bytes < size_bytes) co_return bad("the block table is too small for the disk");
  if (!range_fits(header.table_offset, 4 * u64{header.entries}, file->size_bytes()))
    co_return bad(fmt::format("the block table at {:#x} is cut short", header.table_offset));
  Result<u64> data_end = co_await find_data_end(*file, header);
  const u64 end = CO_TRY(std::move(data_end));
  auto map = std::make_unique<DynamicVpcMap>(std::move(file), size_bytes, header, end, options.readonly);
  co_return make_mapped_node(std::move(map), nullptr, std::move(options));
}

extern const Driver kVpcDriver;
const Driver kVpcDriver = {
    .name = "vpc",
    .probe = probe_vpc,
    .open = open_vpc,
    .create = create_vpc,
    .create_options = {{"size", CreateOption::Size, "Virtual disk size"},
                       {"subformat", CreateOption::Text,
                        "Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} "},
                       {"force_size", CreateOption::Flag,
                        "Force disk size calculation to use the actual size specified, rather than using the nearest "
                        "CHS-based calculation"}},
};

}  // namespace atl::block
