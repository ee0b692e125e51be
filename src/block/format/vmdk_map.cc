// Where the bytes of a VMDK disk lie: extents one after the other, flat ones as they are, sparse ones by grains.
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>

#include "base/math.h"
#include "block/crypto/hash.h"
#include "block/format/file_bytes.h"
#include "block/format/inflate.h"
#include "block/format/vmdk.h"
#include "block/iovecs.h"

namespace atl::block::vmdk {
namespace {

class VmdkMap final : public ClusterMap, public Image {
 public:
  VmdkMap(NodePtr file, std::vector<Extent> extents, Descriptor descriptor, DescriptorPlace place)
      : file_(std::move(file)), extents_(std::move(extents)), descriptor_(std::move(descriptor)), place_(place) {}

  const char* driver() const override { return "vmdk"; }
  u64 size_bytes() const override { return extents_.empty() ? 0 : extents_.back().end(); }
  u64 allocation_unit() const override { return grain_of(extents_.front()); }
  u64 cluster_bytes() const override {
    return extents_.front().kind == ExtentLine::Sparse ? extents_.front().header.grain_bytes() : 0;
  }
  Cluster cluster_of(u64 offset) const override;
  std::vector<Child> files() const override;
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override;
  Task<Status> read_encoded(u64 offset, Run run, std::span<const iovec> out) override;
  Task<Status> begin_writing() override;
  Task<Result<Place>> allocate(u64 offset) override;
  Task<Status> link(u64 offset, Place place) override;
  bool has_zero_clusters() const override;
  Task<Status> zero_cluster(u64 offset) override;
  bool compresses(u64 offset) const override { return at(offset).header.compressed; }
  Task<Status> write_compressed(u64 offset, std::span<const iovec> data) override;
  Status allow_writing(bool on) override;
  bool wants_flush() const override;
  Task<Status> flush() override;

  Json specific_info() const override;
  std::string backing_file() const override { return descriptor_.parent_hint; }
  std::string backing_format() const override { return descriptor_.parent_hint.empty() ? "" : "vmdk"; }
  Task<Result<CheckReport>> check(Repair repair, Progress progress) override;

 private:
  static u64 grain_of(const Extent& e) { return e.kind == ExtentLine::Sparse ? e.header.grain_bytes() : 64 * kKiB; }
  const Extent& at(u64 offset) const {
    auto after = std::ranges::upper_bound(extents_, offset, {}, &Extent::start);
    return *(after == extents_.begin() ? after : after - 1);
  }
  Task<Result<Run>> find_grain(const Extent& extent, u64 offset, u64 limit);
  Task<Status> set_grain(u64 offset, u64 entry);

  NodePtr file_;
  std::vector<Extent> extents_;  // by start, none empty
  Descriptor descriptor_;
  const DescriptorPlace place_;
};

std::vector<Child> VmdkMap::files() const {
  std::vector<Child> list = {{"file", file_}};
  for (size_t i = 0; i < extents_.size(); ++i)
    if (extents_[i].file && extents_[i].file != file_) list.push_back({fmt::format("extents.{}", i), extents_[i].file});
  return list;
}

ClusterMap::Cluster VmdkMap::cluster_of(u64 offset) const {
  const Extent& extent = at(offset);
  const u64 start = extent.start + align_down(offset - extent.start, grain_of(extent));
  return {start, std::min(start + grain_of(extent), extent.end())};
}

Task<Result<Run>> VmdkMap::find(u64 offset, u64 limit) {
  const Extent& extent = at(offset);
  const u64 within = offset - extent.start;
  limit = extent.bytes > within ? std::min(limit, extent.bytes - within) : limit;  // the rest of the last sector
  Run run{.kind = Run::Zero, .bytes = limit};
  if (extent.kind == ExtentLine::Sparse) co_return co_await find_grain(extent, offset, limit);
  if (extent.kind == ExtentLine::Zero) co_return run;
  run.kind = Run::Data;
  run.at = extent.file_offset + within;
  run.file = extent.file.get();
  run.sparse = true;
  co_return run;
}

Task<Result<Run>> VmdkMap::find_grain(const Extent& extent, u64 offset, u64 limit) {
  const SparseHeader& header = extent.header;
  const u64 within = offset - extent.start, grain = header.grain_bytes(),
            table_bytes = grain * header.entries_per_table;
  Result<TwoLevelTable::Entry> got = co_await extent.tables->get(within / grain);
  const TwoLevelTable::Entry entry = CO_TRY(std::move(got));
  Run run{.bytes = std::min(limit, entry.has_table ? grain - within % grain : table_bytes - within % table_bytes)};
  if (entry.value == 0) co_return run;
  run.kind = Run::Zero;
  if (header.zero_grains && entry.value == kZeroGrain) co_return run;
  const u64 place = entry.value * kSectorBytes;
  if (!range_fits(place, 1, extent.file->size_bytes()))
    co_return Error(
        ErrorKind::Io,
        fmt::format("vmdk: the grain of {:#x} is said to be at {:#x} of {}", offset, place, extent.filename), EIO);
  run.kind = header.compressed ? Run::Compressed : Run::Data;
  run.at = header.compressed ? place : place + within % grain;
  run.file = extent.file.get();
  co_return run;
}

/// A marker (the grain's first sector, the length), then a zlib stream; without markers the stream alone.
Task<Status> VmdkMap::read_encoded(u64 offset, Run run, std::span<const iovec> out) {
  const Extent& extent = at(offset);
  const u64 grain = extent.header.grain_bytes(), file_end = align_up(extent.file->size_bytes(), kSectorBytes);
  u64 start = run.at, size = std::min(2 * grain, file_end - start);
  if (extent.header.markers) {
    Result<std::vector<u8>> marker = co_await read_bytes(*extent.file, start, kMarkerBytes, "a grain marker");
    std::vector<u8> bytes = CO_TRY(std::move(marker));
    size = load_le<u32>(&bytes[8]);
    start += kMarkerBytes;
    if (size == 0 || size > 2 * grain)
      co_return Error(ErrorKind::Io, fmt::format("vmdk: the compressed grain at {:#x} claims {} bytes", run.at, size),
                      EIO);
  }
  Result<std::vector<u8>> packed = co_await read_bytes(*extent.file, start, size, "a compressed grain");
  std::vector<u8> bytes = CO_TRY(std::move(packed)), plain(grain);
  CO_TRY(inflate(Stream::Zlib, bytes, plain));  // the disk's last grain may be shorter
  iovec_copy_to(out, std::span(plain).subspan((offset - extent.start) % grain, iovec_bytes(out)));
  co_return Status{};
}

// --- writing ---

/// Overlays tell by the content ID whether what they stand on has changed.
Status VmdkMap::allow_writing(bool on) {
  for (const Extent& extent : extents_)
    if (on && extent.kind == ExtentLine::Sparse) TRY(check_writable(extent.header));
  return {};
}

Task<Status> VmdkMap::begin_writing() {
  Result<std::string> read = co_await read_descriptor(*file_, place_);
  std::string text = CO_TRY(std::move(read));
  u8 random[4];
  CO_TRY(crypto::fill_random(random));
  descriptor_.cid = load_le<u32>(random) & 0x7fff'ffff;
  std::string changed = with_cid(std::move(text), descriptor_.cid);
  std::span<const u8> bytes(reinterpret_cast<const u8*>(changed.data()), changed.size());
  co_return co_await write_growing(*file_, place_.offset, bytes);
}

Task<Result<Place>> VmdkMap::allocate(u64 offset) {
  const Extent& extent = at(offset);
  if (extent.kind != ExtentLine::Sparse)
    co_return Error(ErrorKind::Permission, "vmdk: an extent of type ZERO cannot be written", EPERM);
  const u64 grain = extent.header.grain_bytes();
  Result<u64> place = co_await append_zeroes(*extent.file, grain, grain);
  const u64 where = CO_TRY(std::move(place));
  if (where / kSectorBytes > 0xffff'ffff)
    co_return Error(ErrorKind::NoSpace, fmt::format("vmdk: {} is as large as the format allows", extent.filename),
                    EFBIG);
  co_return Place{where, extent.file.get(), true};
}

Task<Status> VmdkMap::set_grain(u64 offset, u64 entry) {
  const Extent& extent = at(offset);
  co_return co_await extent.tables->set((offset - extent.start) / extent.header.grain_bytes(), entry);
}

Task<Status> VmdkMap::link(u64 offset, Place place) { co_return co_await set_grain(offset, place.at / kSectorBytes); }

bool VmdkMap::has_zero_clusters() const {
  return std::ranges::all_of(extents_, [](auto& e) { return e.kind == ExtentLine::Sparse && e.header.zero_grains; });
}

Task<Status> VmdkMap::zero_cluster(u64 offset) { co_return co_await set_grain(offset, kZeroGrain); }

Task<Status> VmdkMap::write_compressed(u64 offset, std::span<const iovec> data) {
  const Extent& extent = at(offset);
  if (!extent.header.compressed)
    co_return Error(ErrorKind::Unsupported, "only vmdk images of subformat streamOptimized store compressed data",
                    ENOTSUP);
  std::vector<u8> plain(extent.header.grain_bytes());
  iovec_copy_from(data, std::span(plain).first(iovec_bytes(data)));
  std::vector<u8> packed = CO_TRY(deflate(Stream::Zlib, plain, ::compressBound(plain.size()) + 1, 15));
  std::vector<u8> stored(align_up(kMarkerBytes + packed.size(), kSectorBytes));
  store_le(&stored[0], (offset - extent.start) / kSectorBytes);
  store_le(&stored[8], static_cast<u32>(packed.size()));
  std::ranges::copy(packed, &stored[kMarkerBytes]);
  Result<u64> place = co_await append_zeroes(*extent.file, stored.size(), kSectorBytes);
  const u64 where = CO_TRY(std::move(place));
  Status status = co_await write_growing(*extent.file, where, std::span<const u8>(stored));
  CO_TRY(std::move(status));
  co_return co_await set_grain(offset, where / kSectorBytes);
}

bool VmdkMap::wants_flush() const {
  return std::ranges::any_of(extents_, [](auto& e) { return e.tables && e.tables->is_overfull(); });
}

Task<Status> VmdkMap::flush() {
  Status status = co_await file_->flush();
  for (Extent& extent : extents_) {
    if (status && extent.file && extent.file != file_) status = co_await extent.file->flush();
    if (status && extent.tables) status = co_await extent.tables->write_back();
  }
  co_return status;
}

// --- telling and checking ---

Json VmdkMap::specific_info() const {
  Json list = Json::array();
  for (const Extent& extent : extents_) {
    Json row = {{"filename", extent.filename}, {"virtual-size", extent.bytes}};
    const bool sparse = extent.kind == ExtentLine::Sparse;
    row["format"] = sparse ? "" : extent.kind == ExtentLine::Flat ? "FLAT" : "ZERO";
    if (sparse) row["cluster-size"] = extent.header.grain_bytes();
    if (sparse && extent.header.compressed) row["compressed"] = true;
    list.push_back(std::move(row));
  }
  return {{"cid", descriptor_.cid},
          {"parent-cid", descriptor_.parent_cid},
          {"create-type", descriptor_.create_type},
          {"extents", std::move(list)}};
}

Task<Result<CheckReport>> VmdkMap::check(Repair repair, Progress progress) {
  if (repair != Repair::None) co_return Error(ErrorKind::Unsupported, "vmdk: repairing is not supported", ENOTSUP);
  CheckReport report;
  const u64 size = size_bytes();
  u64 seen = 0;
  for (u64 offset = 0; offset < size; ++seen) {
    Result<Run> run = co_await find(offset, size - offset);
    if (!run) {
      ++report.corruptions;
      if (report.messages.size() < 100) report.messages.push_back("ERROR: " + run.error().text());
    }
    offset = run ? offset + run->bytes : cluster_of(offset).end;
    if (seen % 65536 == 0 && progress && !progress(static_cast<double>(offset) / static_cast<double>(size)))
      co_return Error(ErrorKind::Cancelled, "check was cancelled", ECANCELED);
  }
  co_return report;
}

}  // namespace

NodePtr make_vmdk_node(NodePtr file, std::vector<Extent> extents, Descriptor descriptor, DescriptorPlace place,
                       MappedOptions options) {
  return make_mapped_node(std::make_unique<VmdkMap>(std::move(file), std::move(extents), std::move(descriptor), place),
                          nullptr, std::move(options));
}

}  // namespace atl::block::vmdk
