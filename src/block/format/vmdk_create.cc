// Creation of VMDK images: descriptor and extents, in one file or several.
#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/crypto/hash.h"
#include "block/format/file_bytes.h"
#include "block/format/vmdk.h"

namespace atl::block {

using namespace vmdk;

namespace {

constexpr u64 kSplitBytes = 2 * kGiB;

struct Subformat {
  const char* name;
  bool flat, split, compressed;
};
constexpr Subformat kSubformats[] = {
    {"monolithicSparse", false, false, false},    {"monolithicFlat", true, false, false},
    {"twoGbMaxExtentSparse", false, true, false}, {"twoGbMaxExtentFlat", true, true, false},
    {"streamOptimized", false, false, true},
};
constexpr std::string_view kAdapters[] = {"ide", "buslogic", "lsilogic", "legacyESX"};

struct Plan {
  const Subformat* subformat = nullptr;
  bool zero_grains = false;
  Descriptor descriptor;
};

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

/// "disk.vmdk" and "f001" give "disk-f001.vmdk".
std::string extent_name(const std::string& filename, std::string_view mark) {
  size_t slash = filename.rfind('/'), dot = filename.rfind('.');
  if (dot == filename.npos || (slash != filename.npos && dot < slash)) dot = filename.size();
  return fmt::format("{}-{}{}", filename.substr(0, dot), mark, filename.substr(dot));
}

Result<Plan> read_options(OptionReader& reader, std::string& backing) {
  Plan plan;
  Descriptor& d = plan.descriptor;
  d.size_bytes = align_up(std::min(TRY(reader.size("size", 0)), u64{1} << 62), kSectorBytes);
  d.create_type = TRY(reader.string("subformat", kSubformats[0].name));
  d.adapter_type = TRY(reader.string("adapter_type", "ide"));
  d.tools_version = TRY(reader.string("toolsversion", d.tools_version));
  std::string hardware = TRY(reader.string("hwversion", "undefined"));
  const bool compat6 = TRY(reader.boolean("compat6", false));
  plan.zero_grains = TRY(reader.boolean("zeroed_grain", false));
  backing = TRY(reader.string("backing_file", ""));
  std::string backing_format = TRY(reader.string("backing_fmt", ""));
  TRY(reader.finish());
  if (compat6 && hardware != "undefined") return invalid("compat6 cannot be enabled with hwversion set");
  d.hardware_version = compat6 ? "6" : hardware == "undefined" ? "4" : hardware;
  for (const Subformat& row : kSubformats)
    if (d.create_type == row.name) plan.subformat = &row;
  if (!plan.subformat) return invalid(fmt::format("Invalid subformat '{}'", d.create_type));
  if (std::ranges::find(kAdapters, d.adapter_type) == std::end(kAdapters))
    return invalid(fmt::format("Invalid adapter type '{}'", d.adapter_type));
  for (const std::string* text : {&d.hardware_version, &d.tools_version, &backing})
    if (text->find_first_of("\"\r\n") != text->npos)
      return invalid("a VMDK descriptor cannot hold quotes and line ends");
  if (!backing_format.empty() && backing_format != "vmdk") return invalid("backing_file must be a vmdk image");
  if (!backing.empty() && plan.subformat->flat) return invalid("Flat image can't have backing file");
  return plan;
}

Task<Status> record_parent(Graph& graph, Node& file, std::string backing, Descriptor& descriptor) {
  OpenMode mode;
  mode.readonly = mode.no_backing = true;
  Result<NodePtr> opened = co_await graph.open_backing(backing, "vmdk", file, mode);
  NodePtr parent = CO_TRY(std::move(opened).context("Invalid backing file format: must be vmdk"));
  descriptor.parent_cid = parent->image()->specific_info()["cid"].get<u32>();
  descriptor.parent_hint = std::move(backing);
  co_return Status{};
}

/// An extent in a file of its own.
Task<Status> create_extent_file(Graph& graph, const Plan& plan, std::string path, u64 bytes) {
  const Driver* driver = find_driver("file");
  Json size = {{"size", plan.subformat->flat ? std::to_string(bytes) : "0"}};
  Status status = co_await graph.create(*driver, path, std::move(size));
  CO_TRY(std::move(status));
  if (plan.subformat->flat) co_return Status{};
  Json tree = {{"driver", "file"}, {"filename", path}};
  Result<NodePtr> opened = co_await graph.open(std::move(tree), OpenMode{});
  NodePtr node = CO_TRY(std::move(opened));
  SparseChoice choice{.size_bytes = bytes, .compressed = false, .zero_grains = plan.zero_grains};
  Result<SparseHeader> made = co_await create_sparse_extent(*node, choice);
  CO_TRY(std::move(made));
  co_return co_await node->flush();
}

Task<Status> create_extents(Graph& graph, Plan& plan, std::string filename) {
  const u64 size = plan.descriptor.size_bytes;
  const bool flat = plan.subformat->flat;
  u64 index = 1;
  for (u64 start = 0; start < size || index == 1; ++index) {
    const u64 bytes = plan.subformat->split ? std::min(kSplitBytes, size - start) : size;
    std::string mark = plan.subformat->split ? fmt::format("{}{:03}", flat ? 'f' : 's', index) : std::string("flat");
    std::string path = extent_name(filename, mark);
    Status status = co_await create_extent_file(graph, plan, path, bytes);
    CO_TRY(std::move(status));
    ExtentLine line{.kind = flat ? ExtentLine::Flat : ExtentLine::Sparse, .sectors = bytes / kSectorBytes};
    line.filename = path.substr(path.rfind('/') + 1);
    plan.descriptor.extents.push_back(std::move(line));
    start += bytes;
  }
  co_return Status{};
}

Task<Status> write_text(Node& file, u64 offset, u64 room, const Descriptor& descriptor) {
  std::string text = build_descriptor(descriptor);
  if (text.size() > room) co_return invalid("the VMDK descriptor is too long");
  std::span<const u8> bytes(reinterpret_cast<const u8*>(text.data()), text.size());
  Status status = co_await write_growing(file, offset, bytes);
  CO_TRY(std::move(status));
  co_return co_await file.flush();
}

}  // namespace

Task<Status> create_vmdk(Graph& graph, NodePtr file, std::string filename, Json options);
Task<Status> create_vmdk(Graph& graph, NodePtr file, std::string filename, Json options) {
  OptionReader reader(std::move(options), "vmdk");
  std::string backing;
  Plan plan = CO_TRY(read_options(reader, backing));
  u8 random[4];
  CO_TRY(crypto::fill_random(random));
  plan.descriptor.cid = load_le<u32>(random);
  Status status;
  if (!backing.empty()) status = co_await record_parent(graph, *file, backing, plan.descriptor);
  CO_TRY(std::move(status));
  if (filename.starts_with("file:")) filename.erase(0, 5);
  if (plan.subformat->flat || plan.subformat->split) {
    status = co_await create_extents(graph, plan, std::move(filename));
    CO_TRY(std::move(status));
    co_return co_await write_text(*file, 0, kMaxDescriptorBytes, plan.descriptor);
  }
  ExtentLine own{.sectors = plan.descriptor.size_bytes / kSectorBytes,
                 .filename = filename.substr(filename.rfind('/') + 1)};
  plan.descriptor.extents.push_back(std::move(own));
  SparseChoice choice{plan.descriptor.size_bytes, plan.subformat->compressed, plan.zero_grains};
  Result<SparseHeader> made = co_await create_sparse_extent(*file, choice);
  const SparseHeader header = CO_TRY(std::move(made));
  co_return co_await write_text(*file, header.descriptor_sector * kSectorBytes,
                                header.descriptor_sectors * kSectorBytes, plan.descriptor);
}

}  // namespace atl::block
