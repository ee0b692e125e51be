// VMware disks ("vmdk"), Virtual Disk Format 1.1: opening.
//
// Supported: monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized (read, and
// written grain by grain; those that end with a footer are read only), VMFS flat and ZERO extents, zeroed grains,
// parents by content ID, check. Refused by name: ESX sparse extents (COWD), SESPARSE, raw device maps. Missing: resize,
// repair.
#include "block/format/vmdk.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/format/file_bytes.h"

namespace atl::block {

using namespace vmdk;

namespace {

constexpr u64 kCacheBytes = 8 * kMiB;  // for the tables of all extents
constexpr std::string_view kTypes[] = {"monolithicSparse",
                                       "monolithicFlat",
                                       "twoGbMaxExtentSparse",
                                       "twoGbMaxExtentFlat",
                                       "streamOptimized",
                                       "vmfs",
                                       "custom"};

Error bad(std::string text) { return bad_image("vmdk", std::move(text)); }

bool is_sparse(std::span<const u8> head) {
  return head.size() >= 4 && (load_le<u32>(head.data()) == kSparseMagic || load_le<u32>(head.data()) == kEsxMagic);
}

/// Extents stand in files beside the descriptor, or where their absolute names say.
class GraphExtents final : public VmdkExtents {
 public:
  GraphExtents(Graph& graph, const Node& file, OpenMode mode)
      : graph_(graph), image_(file.info().filename), mode_(mode) {}
  Task<Result<NodePtr>> open(std::string name) override {
    Json tree = {{"driver", "file"}, {"filename", resolve_backing_name(name, image_)}};
    co_return co_await graph_.open(std::move(tree), mode_);
  }

 private:
  Graph& graph_;
  const std::string image_;
  const OpenMode mode_;
};

Task<Result<Extent>> open_sparse(NodePtr file, u64 cache_bytes, bool readonly) {
  Extent extent;
  Result<SparseHeader> read = co_await read_sparse_header(*file);
  extent.header = CO_TRY(std::move(read));
  if (!readonly) CO_TRY(check_writable(extent.header));
  extent.bytes = extent.header.capacity_sectors * kSectorBytes;
  extent.tables = std::make_unique<TwoLevelTable>(*file, extent.header.shape(), cache_bytes);
  extent.file = std::move(file);
  co_return std::move(extent);
}

Task<Result<Extent>> open_extent(VmdkExtents& opener, const ExtentLine& line, u64 cache_bytes, bool readonly) {
  Extent extent;
  extent.kind = line.kind;
  extent.bytes = line.sectors * kSectorBytes;
  if (line.kind == ExtentLine::Zero) co_return std::move(extent);
  Result<NodePtr> opened = co_await opener.open(line.filename);
  NodePtr file = CO_TRY(std::move(opened));
  if (line.kind == ExtentLine::Sparse) {
    Result<Extent> sparse = co_await open_sparse(file, cache_bytes, readonly);
    extent = CO_TRY(std::move(sparse).context(line.filename));
    if (extent.bytes < line.sectors * kSectorBytes)
      co_return bad(fmt::format("extent {} holds {} bytes, its line tells {} sectors", line.filename, extent.bytes,
                                line.sectors));
    extent.bytes = line.sectors * kSectorBytes;
  }
  extent.file_offset = line.offset_sector * kSectorBytes;
  extent.filename = file->info().filename;
  extent.file = std::move(file);
  co_return std::move(extent);
}

Task<Result<std::vector<Extent>>> open_extents(VmdkExtents& opener, const Descriptor& descriptor, bool readonly) {
  std::vector<Extent> extents;
  const u64 cache_bytes = std::max(64 * kKiB, kCacheBytes / std::max<u64>(1, descriptor.extents.size()));
  u64 start = 0;
  for (const ExtentLine& line : descriptor.extents) {
    if (line.sectors == 0) continue;
    Result<Extent> opened = co_await open_extent(opener, line, cache_bytes, readonly);
    extents.push_back(CO_TRY(std::move(opened)));
    extents.back().start = start;
    start += extents.back().bytes;
    if (start > u64{1} << 62) co_return bad("the extents are too large");
  }
  if (extents.empty()) co_return bad("no extents");
  co_return std::move(extents);
}

// --- the driver ---

/// A text that starts like a descriptor, after comments and blank lines.
bool is_descriptor(std::span<const u8> head) {
  std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  while (!text.empty()) {
    size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    bool skip = line.starts_with('#') || line.find_first_not_of(' ') == line.npos;
    if (!skip) return line == "version=1" || line == "version=2" || line == "version=3";
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
  }
  return false;
}

int probe_vmdk(std::span<const u8> head, std::string_view) { return is_sparse(head) || is_descriptor(head) ? 100 : 0; }

/// A parent that has been written since would give wrong data.
Status check_parent(Node& node) {
  const Json own = node.image()->specific_info();
  for (const Child& child : node.children()) {
    if (child.role != "backing" || child.node->info().driver != "vmdk") continue;
    if (child.node->image()->specific_info()["cid"] != own["parent-cid"])
      return Error(ErrorKind::Invalid, "vmdk: the parent's content ID is not the one that this image was made for",
                   EINVAL);
  }
  return {};
}

Task<Result<NodePtr>> open_vmdk(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "vmdk");
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  MappedOptions mapped = mapped_options(mode, *file, std::move(node_name));
  GraphExtents opener(graph, *file, mode);
  Result<NodePtr> opened = co_await open_vmdk_node(file, opener, std::move(mapped));
  NodePtr node = CO_TRY(std::move(opened));
  Status status = co_await attach_backing(graph, reader, *node, *file, mode);
  CO_TRY(std::move(status));
  CO_TRY(reader.finish());
  CO_TRY(check_parent(*node));
  co_return node;
}

}  // namespace

namespace vmdk {

Task<Result<DescriptorPlace>> find_descriptor(Node& file) {
  Result<std::vector<u8>> head = co_await read_head(file, kHeaderBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  DescriptorPlace place{0, std::min(file.size_bytes(), kMaxDescriptorBytes)};
  if (!is_sparse(bytes)) co_return place;
  Result<SparseHeader> read = co_await read_sparse_header(file);
  const SparseHeader header = CO_TRY(std::move(read));
  if (header.descriptor_sector == 0 || header.descriptor_sector > u64{1} << 53)
    co_return bad(fmt::format("no descriptor at sector {}", header.descriptor_sector));
  place.offset = header.descriptor_sector * kSectorBytes;
  place.bytes = std::min(header.descriptor_sectors, kMaxDescriptorBytes / kSectorBytes) * kSectorBytes;
  co_return place;
}

Task<Result<std::string>> read_descriptor(Node& file, DescriptorPlace place) {
  Result<std::vector<u8>> read = co_await read_bytes(file, place.offset, place.bytes, "the descriptor");
  std::vector<u8> bytes = CO_TRY(std::move(read));
  co_return std::string(bytes.begin(), bytes.end());
}

}  // namespace vmdk

Task<Result<NodePtr>> open_vmdk_node(NodePtr file, VmdkExtents& opener, MappedOptions options) {
  Result<std::vector<u8>> head = co_await read_head(*file, 2 * kKiB);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  const bool sparse = is_sparse(bytes);
  if (!sparse && !is_descriptor(bytes)) co_return Error(ErrorKind::Invalid, "Image not in VMDK format", EINVAL);
  Result<DescriptorPlace> found = co_await find_descriptor(*file);
  const DescriptorPlace place = CO_TRY(std::move(found));
  Result<std::string> text = co_await read_descriptor(*file, place);
  std::string descriptor_text = CO_TRY(std::move(text));
  Descriptor descriptor = CO_TRY(parse_descriptor(descriptor_text));
  if (std::ranges::find(kTypes, descriptor.create_type) == std::end(kTypes))
    co_return Error(ErrorKind::Unsupported, fmt::format("Unsupported image type '{}'", descriptor.create_type),
                    ENOTSUP);
  std::vector<Extent> extents;
  if (sparse) {
    Result<Extent> only = co_await open_sparse(file, kCacheBytes, options.readonly);
    extents.push_back(CO_TRY(std::move(only)));
    extents.back().filename = file->info().filename;
  } else {
    Result<std::vector<Extent>> opened = co_await open_extents(opener, descriptor, options.readonly);
    extents = CO_TRY(std::move(opened));
  }
  co_return make_vmdk_node(std::move(file), std::move(extents), std::move(descriptor), place, std::move(options));
}

Task<Status> create_vmdk(Graph& graph, NodePtr file, std::string filename, Json options);

extern const Driver kVmdkDriver;
const Driver kVmdkDriver = {
    .name = "vmdk",
    .probe = probe_vmdk,
    .open = open_vmdk,
    .create = create_vmdk,
    .create_options = {{"size", CreateOption::Size, "Virtual disk size"},
                       {"adapter_type", CreateOption::Text,
                        "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX"},
                       {"backing_file", CreateOption::Text, "File name of a base image"},
                       {"backing_fmt", CreateOption::Text, "Must be 'vmdk' if present"},
                       {"compat6", CreateOption::Flag, "VMDK version 6 image", "off"},
                       {"hwversion", CreateOption::Text, "VMDK hardware version", "undefined"},
                       {"toolsversion", CreateOption::Text, "VMware guest tools version"},
                       {"subformat", CreateOption::Text,
                        "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | "
                        "twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} "},
                       {"zeroed_grain", CreateOption::Flag,
                        "Enable efficient zero writes using the zeroed-grain GTE feature"}},
    .supports_backing = true,
    .supports_compression = true,
};

}  // namespace atl::block
