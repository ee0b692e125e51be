// Opening a qcow2 image: options, neighbours, keys; the driver's row.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "block/format/qcow2/qcow2.h"
#include "block/format/qcow2/amend.h"
#include "block/format/qcow2/bitmaps.h"
#include "block/format/qcow2/create.h"
#include "block/format/qcow2/node.h"

namespace atl::block {

using namespace qcow2;

namespace {

constexpr u64 kMinCache = 64 * kKiB;

Status read_cache_sizes(OptionReader& reader, Options& options) {
  const u64 total = TRY(reader.size("cache-size", 0));
  options.l2_cache_bytes = TRY(reader.size("l2-cache-size", 0));
  options.refcount_cache_bytes = TRY(reader.size("refcount-cache-size", 0));
  options.l2_slice_bytes = TRY(reader.size("l2-cache-entry-size", 0));
  options.clean_interval_s = TRY(reader.number("cache-clean-interval", 600));
  if (options.l2_slice_bytes && (!is_power_of_two(options.l2_slice_bytes) || options.l2_slice_bytes < 512))
    return Error(ErrorKind::Invalid, "L2 cache entry size must be a power of two between 512 and the cluster size", EINVAL);
  if (total == 0) return {};
  if (options.l2_cache_bytes && options.refcount_cache_bytes)
    return Error(ErrorKind::Invalid, "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time", EINVAL);
  if (options.l2_cache_bytes > total) return Error(ErrorKind::Invalid, "l2-cache-size may not exceed cache-size", EINVAL);
  if (options.refcount_cache_bytes > total)
    return Error(ErrorKind::Invalid, "refcount-cache-size may not exceed cache-size", EINVAL);
  if (options.l2_cache_bytes) options.refcount_cache_bytes = std::max(total - options.l2_cache_bytes, kMinCache);
  else {
    if (!options.refcount_cache_bytes) options.refcount_cache_bytes = std::min(total / 4 + 1, 4 * kMinCache);
    options.l2_cache_bytes = std::max(total - std::min(total, options.refcount_cache_bytes), kMinCache);
  }
  return {};
}

/// Which checks keep data off metadata: all that need no I/O, or none.
Status read_overlap_checks(OptionReader& reader, Options& options) {
  std::string how = TRY(reader.string("overlap-check", "cached"));
  if (how == "all")
    return Error(ErrorKind::Unsupported, "overlap-check=all is not supported: it would look into inactive L2 tables", ENOTSUP);
  if (how != "none" && how != "constant" && how != "cached")
    return Error(ErrorKind::Invalid, fmt::format("Unsupported value '{}' for qcow2 option 'overlap-check'", how), EINVAL);
  options.overlap_checks = how != "none";
  return {};
}

Result<Options> read_options(OptionReader& reader, const OpenMode& mode) {
  Options options;
  TRY(read_cache_sizes(reader, options));
  TRY(read_overlap_checks(reader, options));
  if (reader.has("lazy-refcounts")) options.lazy_refcounts = TRY(reader.boolean("lazy-refcounts", false));
  options.discards.request = TRY(reader.boolean("pass-discard-request", mode.discard));
  options.discards.snapshot = TRY(reader.boolean("pass-discard-snapshot", true));
  options.discards.other = TRY(reader.boolean("pass-discard-other", false));
  options.readonly = mode.readonly;
  options.for_check = mode.check;
  return options;
}

Status check_writable(const Header& header, const std::string& name) {
  if (header.incompatible & kCorrupt)
    return Error(ErrorKind::Invalid, name + ": qcow2: Image is corrupt; cannot be opened read/write", EACCES);
  return {};
}

/// The LUKS header is read even where no secret is needed: `info` tells about it.
Task<Status> read_luks(Core& core) {
  if (core.header.encryption != kLuks) co_return Status{};
  if (!core.header.crypto)
    co_return Error(ErrorKind::Invalid, "the qcow2 header does not tell where the LUKS header is", EINVAL);
  Result<crypto::LuksHeader> read = co_await crypto::read_luks_header(*core.file, core.header.crypto->offset);
  core.luks = CO_TRY(std::move(read));
  co_return Status{};
}

Task<Status> unlock(Core& core, std::string password) {
  if (core.header.encryption == kAes) {
    core.cipher = CO_TRY(Cipher::create_aes(password));
    co_return Status{};
  }
  Result<crypto::KeyBytes> unlocked = co_await crypto::unlock_luks(*core.file, core.header.crypto->offset, *core.luks, password);
  crypto::KeyBytes key = CO_TRY(std::move(unlocked));
  core.cipher = CO_TRY(Cipher::create_luks(*core.luks, key, std::move(password)));
  co_return Status{};
}

/// What was left in use by a crash is put right before it is written again.
Task<Status> repair_if_dirty(ImageNode& node) {
  if (!node.dirty() || node.info().readonly || node.core().options.for_check) co_return Status{};
  Result<CheckReport> report = co_await node.check(Repair::All, nullptr);
  CheckReport found = CO_TRY(std::move(report).context("repair"));
  if (found.corruptions || found.check_errors)
    co_return Error(ErrorKind::Io, node.core().name + ": the image is dirty and could not be repaired", EIO);
  co_return Status{};
}

Task<Result<std::shared_ptr<ImageNode>>> open_image(Graph* graph, Loop& loop, NodePtr file, NodePtr data, NodePtr backing,
                                                    Header header, Options options, std::optional<std::string> password) {
  const std::string name = file->info().filename;
  options.readonly |= file->info().readonly;
  options.l2_slice_bytes = std::min(options.l2_slice_bytes, header.geometry.cluster_bytes());
  if (!options.readonly && !options.for_check) CO_TRY(check_writable(header, name));
  if (options.node_name.empty()) options.node_name = generate_node_name();
  auto node = std::make_shared<ImageNode>(loop, std::move(file), std::move(data), std::move(backing), std::move(header),
                                          std::move(options), graph);
  Status status = co_await node->core().load();
  CO_TRY(std::move(status).context(name));
  status = co_await read_luks(node->core());
  CO_TRY(std::move(status).context(name));
  if (node->encrypted() && password) {
    status = co_await unlock(node->core(), std::move(*password));
    CO_TRY(std::move(status).context(name));
  }
  status = co_await load_bitmaps(node->core());
  CO_TRY(std::move(status).context(name));
  status = co_await repair_if_dirty(*node);
  CO_TRY(std::move(status));
  co_return node;
}

Task<Result<NodePtr>> open_data_file(Graph& graph, OptionReader& reader, const Header& header, OpenMode mode) {
  Json child = reader.child("data-file");
  if (!header.has_data_file()) {
    if (!child.is_null()) co_return Error(ErrorKind::Invalid, "'data-file' can only be set for images with an external data file", EINVAL);
    co_return NodePtr();
  }
  if (mode.no_io && child.is_null()) mode.locking = false;
  if (child.is_null()) {
    if (header.data_file.empty()) co_return Error(ErrorKind::Invalid, "'data-file' is required for this image", EINVAL);
    child = CO_TRY(parse_image_name(header.data_file));
  }
  mode.no_probe = true;
  co_return co_await graph.open(std::move(child), std::move(mode));
}

Result<std::optional<std::string>> read_password(Graph& graph, OptionReader& reader, const Header& header, const OpenMode& mode) {
  constexpr const char* kFormats[] = {"", "aes", "luks"};
  std::string format = TRY(reader.string("encrypt.format", kFormats[header.encryption]));
  std::string id = TRY(reader.string("encrypt.key-secret", ""));
  if (format != kFormats[header.encryption])
    return Error(ErrorKind::Invalid, fmt::format("Header reported '{}' encryption format but options specify '{}'",
                                                 kFormats[header.encryption], format), EINVAL);
  if (header.encryption == kPlain || ((mode.no_io || mode.check) && id.empty())) return std::nullopt;
  if (id.empty()) return Error(ErrorKind::Invalid, "Parameter 'encrypt.key-secret' is required for cipher", EINVAL);
  return TRY(graph.secret(id));
}

Task<Result<NodePtr>> open_driver(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(tree), "qcow2");
  Options options = CO_TRY(read_options(reader, mode));
  options.node_name = std::move(node_name);
  Json child = reader.child("file");
  Result<NodePtr> opened = co_await graph.open(std::move(child), mode);
  NodePtr file = CO_TRY(std::move(opened));
  const NodeInfo below = file->info();
  mode.readonly |= below.readonly;
  Result<Header> parsed = co_await read_header(*file, mode.check);
  Header header = CO_TRY(std::move(parsed));
  std::optional<std::string> password = CO_TRY(read_password(graph, reader, header, mode));
  opened = co_await open_data_file(graph, reader, header, mode);
  NodePtr data = CO_TRY(std::move(opened).context("Could not open the data file"));
  opened = co_await graph.open_backing(reader, header.backing_file, header.backing_format, *file, mode);
  NodePtr backing = CO_TRY(std::move(opened));
  CO_TRY(reader.finish());
  Result<std::shared_ptr<ImageNode>> made =
      co_await open_image(&graph, graph.loop(), std::move(file), std::move(data), std::move(backing), std::move(header),
                          std::move(options), std::move(password));
  std::shared_ptr<ImageNode> node = CO_TRY(std::move(made));
  node->set_discard(mode.discard);
  node->set_open_mode(std::move(mode));
  node->start_cleaning();
  co_return NodePtr(std::move(node));
}

int probe(std::span<const u8> head, std::string_view) {
  return head.size() >= 8 && load_be<u32>(&head[0]) == kMagic && load_be<u32>(&head[4]) >= 2 ? 100 : 0;
}

}  // namespace

Task<Result<NodePtr>> open_qcow2(Loop& loop, NodePtr file, NodePtr data_file, NodePtr backing, Options options,
                                 std::string password) {
  const std::string name = file->info().filename;
  Result<Header> parsed = co_await read_header(*file, options.for_check);
  Header header = CO_TRY(std::move(parsed).context(name));
  if (header.has_data_file() && !data_file)
    co_return Error(ErrorKind::Invalid, name + ": 'data-file' is required for this image", EINVAL);
  std::optional<std::string> secret(std::move(password));
  Result<std::shared_ptr<ImageNode>> made = co_await open_image(nullptr, loop, std::move(file), std::move(data_file), std::move(backing),
                                                                std::move(header), std::move(options), std::move(secret));
  std::shared_ptr<ImageNode> node = CO_TRY(std::move(made));
  co_return NodePtr(std::move(node));
}

Task<Result<Header>> read_qcow2_header(Node& file) { return read_header(file); }

const Driver kQcow2Driver = {
    .name = "qcow2",
    .probe = probe,
    .open = open_driver,
    .create = create_image,
    .create_options = create_options(),
    .amend_options = amend_options(),
    .measure = measure_image,
    .supports_backing = true,
    .supports_compression = true,
};

}  // namespace atl::block
