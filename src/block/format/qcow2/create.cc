// Making an empty qcow2 image: the first clusters, the L1 table, then the header, and what else the options ask for.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/math.h"
#include "base/strings.h"
#include "block/format/qcow2/qcow2.h"
#include "block/format/qcow2/create.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/resize.h"
#include "block/format/qcow2/write.h"

namespace atl::block {

using namespace qcow2;

namespace {

constexpr u64 kFirstClusters = 3;  // header, refcount table, refcount block

Error refuse(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

Status check_shape(const Qcow2CreateOptions& options) {
  if (options.version != 2 && options.version != 3) return refuse("qcow2 version must be 2 or 3");
  if (options.cluster_bits < kMinClusterBits || options.cluster_bits > kMaxClusterBits)
    return refuse("Cluster size must be a power of two between 512 and 2048k");
  if (options.refcount_order > 6) return refuse("Refcount width must be a power of two and may not exceed 64 bits");
  if (options.extended_l2 && options.cluster_bits < 14)
    return refuse("Extended L2 entries are only supported with cluster sizes of at least 16384 bytes");
  if (options.version >= 3) return {};
  if (options.refcount_order != 4)
    return refuse("Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)");
  if (options.lazy_refcounts)
    return refuse("Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)");
  if (options.extended_l2) return refuse("Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)");
  if (options.compression != kZlib) return refuse("Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)");
  if (!options.data_file.empty()) return refuse("External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)");
  return {};
}

Status check(const Qcow2CreateOptions& options) {
  TRY(check_shape(options));
  Geometry g{options.cluster_bits, options.refcount_order, options.extended_l2};
  if (options.size_bytes > ~u64{0} - kMaxHostOffset || g.l1_entries(options.size_bytes) > kMaxL1Bytes / 8)
    return refuse("The image size is too large for file format 'qcow2' (try using a larger cluster size)");
  if (options.preallocation != Preallocation::Off && !options.backing_file.empty() && !options.extended_l2)
    return refuse("Backing file and preallocation can only be used at the same time if extended_l2 is enabled");
  if (options.data_file_raw && options.data_file.empty()) return refuse("data-file-raw requires data-file");
  if (options.data_file_raw && !options.backing_file.empty())
    return refuse("Backing file and data-file-raw cannot be used at the same time");
  if ((options.luks || options.aes_password) && !options.data_file.empty()) return refuse("encryption of external data files is not supported");
  return {};
}

Header make_header(const Qcow2CreateOptions& options) {
  Header header;
  header.version = options.version;
  header.geometry = {options.cluster_bits, options.refcount_order, options.extended_l2};
  header.backing_file = options.backing_file;
  header.backing_format = options.backing_format;
  header.data_file = options.data_file;
  header.compression = options.compression;
  if (options.lazy_refcounts) header.compatible |= kLazyRefcounts;
  if (options.extended_l2) header.incompatible |= kExtendedL2;
  if (options.compression != kZlib) header.incompatible |= kCompressionType;
  if (!options.data_file.empty()) header.incompatible |= kDataFile;
  if (options.data_file_raw) header.autoclear |= kRawDataFile;
  header.refcount_table_offset = header.geometry.cluster_bytes();
  header.refcount_table_clusters = 1;
  return header;
}

/// Counts the first clusters, by themselves: the block for them is one of them.
Task<Status> write_first_refcounts(Node& file, const Geometry& g) {
  std::vector<u8> table(g.cluster_bytes()), block(g.cluster_bytes());
  store_be(&table[0], 2 * g.cluster_bytes());
  for (u64 i = 0; i < kFirstClusters; ++i) store_refcount(block.data(), i, g.refcount_order, 1);
  Status status = co_await write_growing(file, g.cluster_bytes(), std::span<const u8>(table));
  CO_TRY(std::move(status));
  co_return co_await write_growing(file, 2 * g.cluster_bytes(), std::span<const u8>(block));
}

Task<Status> make_l1(Core& core, u64 size_bytes) {
  const Geometry& g = core.geometry();
  const u64 entries = g.l1_entries(size_bytes), clusters = g.clusters(8 * entries);
  if (clusters == 0) co_return Status{};
  Result<Place> got = co_await core.refcounts.allocate(clusters, clusters);
  const Place place = CO_TRY(std::move(got));
  core.header.l1_offset = place.offset;
  core.header.l1_entries = static_cast<u32>(entries);
  core.header.size_bytes = size_bytes;
  core.l1.assign(entries, 0);
  if (place.fresh) co_return Status{};
  std::vector<u8> zeroes(clusters << g.cluster_bits);
  co_return co_await write_growing(*core.file, place.offset, std::span<const u8>(zeroes));
}

Task<Status> make_crypto(Core& core, crypto::LuksCreateOptions luks) {
  const Geometry& g = core.geometry();
  const u64 bytes = CO_TRY(crypto::luks_header_bytes(luks));
  Result<Place> got = co_await core.refcounts.allocate(g.clusters(bytes), g.clusters(bytes));
  const Place place = CO_TRY(std::move(got));
  std::string password = luks.password;
  // Rounded up to whole clusters, and zero where the header has nothing.
  std::vector<u8> zeroes(place.clusters << g.cluster_bits);
  Status status = co_await write_growing(*core.file, place.offset, std::span<const u8>(zeroes));
  CO_TRY(std::move(status));
  Result<crypto::LuksVolume> made = co_await crypto::create_luks(*core.file, place.offset, std::move(luks));
  crypto::LuksVolume volume = CO_TRY(std::move(made));
  core.header.encryption = kLuks;
  core.header.crypto = CryptoPlace{place.offset, bytes};
  core.cipher = CO_TRY(Cipher::create_luks(std::move(volume.header), volume.key, std::move(password)));
  co_return Status{};
}

Task<Status> fill(Core& core, const Qcow2CreateOptions& options) {
  Status status = co_await core.file->resize(0, Preallocation::Off);
  // A disk of fixed size (NBD, iSCSI) stays as large as it is.
  if (!status && status.error().kind() != ErrorKind::Unsupported) co_return status;
  status = co_await write_first_refcounts(*core.file, core.geometry());
  CO_TRY(std::move(status));
  status = co_await make_l1(core, options.size_bytes);
  CO_TRY(std::move(status));
  if (options.luks) {
    status = co_await make_crypto(core, *options.luks);
    CO_TRY(std::move(status));
  }
  if (options.aes_password) {
    core.header.encryption = kAes;
    core.cipher = CO_TRY(Cipher::create_aes(*options.aes_password));
  }
  status = co_await core.sync(true);
  CO_TRY(std::move(status));
  status = co_await write_header(*core.file, core.header);
  CO_TRY(std::move(status));
  // A raw data file without tables would not be read as one.
  Preallocation how = options.preallocation;
  if (options.data_file_raw && how == Preallocation::Off) how = Preallocation::Metadata;
  status = co_await reserve(core, 0, how);
  CO_TRY(std::move(status));
  status = co_await preallocate(core, 0, options.size_bytes, how);
  CO_TRY(std::move(status));
  co_return co_await core.mark_clean();
}

}  // namespace

Task<Status> create_qcow2(Loop& loop, NodePtr file, NodePtr data_file, Qcow2CreateOptions options) {
  options.size_bytes = align_up(options.size_bytes, kSectorBytes);
  CO_TRY(check(options));
  Header header = make_header(options);
  CO_TRY(build_header(header));  // refuses names that do not fit before anything is written
  Options open_options;
  open_options.lazy_refcounts = false;
  Core core(loop, std::move(file), std::move(data_file), std::move(header), std::move(open_options));
  Status status = co_await fill(core, options);
  CO_TRY(std::move(status));
  co_return co_await core.file->flush();
}

// --- options as text ---

namespace qcow2 {

/// In the order in which qemu-img says what it does.
std::vector<CreateOption> create_options() {
  return {
      {"encryption", CreateOption::Flag, "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"},
      {"encrypt.format", CreateOption::Text, "Encrypt the image, format choices: 'aes', 'luks'"},
      {"encrypt.key-secret", CreateOption::Text, "ID of secret providing qcow AES key or LUKS passphrase"},
      {"encrypt.cipher-alg", CreateOption::Text, "Name of encryption cipher algorithm"},
      {"encrypt.cipher-mode", CreateOption::Text, "Name of encryption cipher mode"},
      {"encrypt.ivgen-alg", CreateOption::Text, "Name of IV generator algorithm"},
      {"encrypt.ivgen-hash-alg", CreateOption::Text, "Name of IV generator hash algorithm"},
      {"encrypt.hash-alg", CreateOption::Text, "Name of encryption hash algorithm"},
      {"encrypt.iter-time", CreateOption::Number, "Time to spend in PBKDF in milliseconds"},
      {"cluster_size", CreateOption::Size, "qcow2 cluster size", "65536"},
      {"extended_l2", CreateOption::Flag, "Extended L2 tables", "off"},
      {"preallocation", CreateOption::Text, "Preallocation mode (allowed values: off, metadata, falloc, full)"},
      {"compression_type", CreateOption::Text, "Compression method used for image cluster compression", "zlib"},
      {"size", CreateOption::Size, "Virtual disk size"},
      {"compat", CreateOption::Text, "Compatibility level (v2 [0.10] or v3 [1.1])"},
      {"backing_file", CreateOption::Text, "File name of a base image"},
      {"backing_fmt", CreateOption::Text, "Image format of the base image"},
      {"data_file", CreateOption::Text, "File name of an external data file"},
      {"data_file_raw", CreateOption::Flag, "The external data file must stay valid as a raw image"},
      {"lazy_refcounts", CreateOption::Flag, "Postpone refcount updates", "off"},
      {"refcount_bits", CreateOption::Number, "Width of a reference count entry in bits", "16"},
  };
}

Result<u32> parse_version(const std::string& text) {
  if (text == "0.10" || text == "v2") return 2u;
  if (text.empty() || text == "1.1" || text == "v3") return 3u;
  return refuse(fmt::format("Parameter 'version' does not accept value '{}'", text));
}

namespace {

Result<u32> log2_of(u64 value, const char* message) {
  if (!is_power_of_two(value)) return refuse(message);
  return static_cast<u32>(std::countr_zero(value));
}

Status parse_shape(OptionReader& reader, Qcow2CreateOptions& options) {
  std::string compat = TRY(reader.string("compat", ""));
  options.version = TRY(parse_version(compat));
  u64 cluster = TRY(reader.size("cluster_size", 65536));
  options.cluster_bits = TRY(log2_of(cluster, "Cluster size must be a power of two between 512 and 2048k"));
  u64 bits = TRY(reader.number("refcount_bits", 16));
  options.refcount_order = TRY(log2_of(bits, "Refcount width must be a power of two and may not exceed 64 bits"));
  options.lazy_refcounts = TRY(reader.boolean("lazy_refcounts", false));
  options.extended_l2 = TRY(reader.boolean("extended_l2", false));
  std::string compression = TRY(reader.string("compression_type", "zlib"));
  if (compression != "zlib" && compression != "zstd")
    return refuse(fmt::format("Parameter 'compression-type' does not accept value '{}'", compression));
  options.compression = compression == "zstd" ? kZstd : kZlib;
  std::string how = TRY(reader.string("preallocation", "off"));
  options.preallocation = TRY(parse_preallocation(how));
  return {};
}

/// The password itself is the key.
Status parse_aes(const Graph* graph, Json rest, Qcow2CreateOptions& options) {
  OptionReader reader(std::move(rest), "qcow2");
  const std::string id = TRY(reader.string("key-secret", ""));
  TRY(reader.finish());
  if (id.empty()) return refuse("Parameter 'encrypt.key-secret' is required for cipher");
  options.aes_password = graph ? TRY(graph->secret(id)) : "";
  return {};
}

Status parse_encryption(const Graph* graph, OptionReader& reader, Qcow2CreateOptions& options) {
  const bool old = TRY(reader.boolean("encryption", false));
  if (old && reader.has("encrypt.format")) return refuse("Options encryption and encrypt.format are mutually exclusive");
  std::string format = TRY(reader.string("encrypt.format", old ? "aes" : ""));
  Json rest = reader.rest("encrypt");
  if (format.empty() && !rest.empty()) return refuse("Parameter 'encrypt.format' is required");
  if (format.empty()) return {};
  if (format == "aes") return parse_aes(graph, std::move(rest), options);
  if (format != "luks") return refuse(fmt::format("Parameter 'encrypt.format' does not accept value '{}'", format));
  if (!graph) {   // for `measure`, which needs no secret
    options.luks.emplace();
    return {};
  }
  Json named = Json::object();
  for (auto& [key, value] : rest.items()) named["encrypt." + key] = value;
  options.luks = TRY(crypto::luks_create_options(*graph, named, "encrypt."));
  return {};
}

}  // namespace

Result<Qcow2CreateOptions> parse_create_options(const Graph* graph, OptionReader& reader) {
  Qcow2CreateOptions options;
  options.size_bytes = TRY(reader.size("size", 0));
  TRY(parse_shape(reader, options));
  options.backing_file = TRY(reader.string("backing_file", ""));
  options.backing_format = TRY(reader.string("backing_fmt", ""));
  options.data_file = TRY(reader.string("data_file", ""));
  options.data_file_raw = TRY(reader.boolean("data_file_raw", false));
  TRY(parse_encryption(graph, reader, options));
  TRY(reader.finish());
  return options;
}

Task<Result<NodePtr>> make_data_file(Graph& graph, std::string name, u64 size_bytes) {
  if (name.empty()) co_return NodePtr();
  Json tree = CO_TRY(parse_image_name(name));
  const Driver* driver = find_driver(tree.value("driver", "file"));
  if (!driver || !driver->create) co_return refuse("'" + name + "' cannot be created as a data file");
  Json create_options = {{"size", std::to_string(size_bytes)}};
  Status status = co_await graph.create(*driver, name, std::move(create_options));
  CO_TRY(std::move(status));
  OpenMode mode;
  mode.no_probe = true;
  co_return co_await graph.open(std::move(tree), std::move(mode));
}

Task<Status> create_image(Graph& graph, NodePtr file, std::string, Json options) {
  OptionReader reader(std::move(options), "qcow2");
  Qcow2CreateOptions parsed = CO_TRY(parse_create_options(&graph, reader));
  CO_TRY(check(parsed));
  // A monitor names a node, which keeps what it holds; tools, whose nodes have no names, a new file.
  NodePtr data = graph.find(parsed.data_file);
  if (data) {
    parsed.data_file = graph.name_of(*data);
  } else {
    Result<NodePtr> made = co_await make_data_file(graph, parsed.data_file, 0);
    data = CO_TRY(std::move(made));
  }
  co_return co_await create_qcow2(graph.loop(), std::move(file), std::move(data), std::move(parsed));
}

Result<Measurement> measure_image(u64 size_bytes, u64 data_bytes, const Json& options) {
  OptionReader reader(options, "qcow2");
  Qcow2CreateOptions parsed = TRY(parse_create_options(nullptr, reader));
  parsed.size_bytes = size_bytes;
  TRY(check_shape(parsed));
  if (size_bytes > kMaxHostOffset || Geometry{parsed.cluster_bits, parsed.refcount_order, parsed.extended_l2}.l1_entries(size_bytes) > kMaxL1Bytes / 8)
    return refuse("The image size is too large (try using a larger cluster size)");
  TRY(check(parsed));
  const Geometry g{parsed.cluster_bits, parsed.refcount_order, parsed.extended_l2};
  u64 luks = 0;
  if (parsed.luks) luks = g.cluster_end(TRY(crypto::luks_header_bytes(*parsed.luks)));
  const u64 disk = g.cluster_end(size_bytes);
  const bool all = parsed.preallocation == Preallocation::Falloc || parsed.preallocation == Preallocation::Full;
  Measurement measurement;
  measurement.fully_allocated = full_file_bytes(disk, g) + luks;
  measurement.required = measurement.fully_allocated - disk + (all ? disk : std::min(g.cluster_end(data_bytes), disk));
  return measurement;
}

}  // namespace qcow2
}  // namespace atl::block
