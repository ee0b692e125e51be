// The first QEMU copy-on-write format ("qcow", version 1), as QEMU's block/qcow.c lays it out; there is no written
// specification.
//
// Supported: backing files, compressed clusters read and written, AES images read; created plain. Refused by name:
// creating and writing AES images (the scheme is broken: use LUKS). Missing: snapshots and check, which the format has
// not.
//
// A big-endian header, the backing file's name, the L1 table, then L2 tables and clusters as they come. Compressed
// clusters lie at any byte.
#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/crypto/cipher.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/inflate.h"
#include "block/format/two_level_table.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

constexpr u64 kHeaderBytes = 48, kMaxBackingName = 1023;
constexpr u32 kMagic = 0x514649fb, kVersion = 1;
constexpr u64 kCompressed = u64{1} << 63;
constexpr u32 kAes = 1;
constexpr int kWindowBits = 12;
constexpr u64 kMaxL1Entries = u64{1} << 28;
constexpr u64 kCacheBytes = 4 * kMiB;

struct Header {
  u64 backing_at = 0;
  u32 backing_bytes = 0;
  u64 size_bytes = 0;
  u32 cluster_bits = 12, l2_bits = 9;
  u32 crypt_method = 0;
  u64 l1_offset = 0;

  u64 cluster_bytes() const { return u64{1} << cluster_bits; }
  u64 l1_entries() const {
    const u32 shift = cluster_bits + l2_bits;
    return (size_bytes >> shift) + ((size_bytes & ((u64{1} << shift) - 1)) != 0);
  }
};

Error bad(std::string text) { return bad_image("qcow", std::move(text)); }

Status check(const Header& h) {
  if (h.size_bytes <= 1) return bad("Image size is too small (must be at least 2 bytes)");
  if (h.size_bytes > ~u64{0} >> 1) return bad(fmt::format("{} bytes are too large", h.size_bytes));
  if (h.cluster_bits < 9 || h.cluster_bits > 16) return bad("Cluster size must be between 512 and 64k");
  if (h.l2_bits < 6 || h.l2_bits > 13) return bad("L2 table size must be between 512 and 64k");
  if (h.crypt_method > kAes) return bad(fmt::format("invalid encryption method {}", h.crypt_method));
  if (h.l1_entries() > kMaxL1Entries) return bad("Image too large");
  if (h.backing_bytes > kMaxBackingName) return bad("Backing file name too long");
  return {};
}

Result<Header> parse(std::span<const u8> bytes) {
  if (bytes.size() < kHeaderBytes || load_be<u32>(&bytes[0]) != kMagic)
    return Error(ErrorKind::Invalid, "Image not in qcow format", EINVAL);
  if (u32 version = load_be<u32>(&bytes[4]); version != kVersion)
    return Error(ErrorKind::Unsupported, fmt::format("qcow (v{}) does not support qcow version {}", kVersion, version),
                 ENOTSUP);
  Header h{.backing_at = load_be<u64>(&bytes[8]),
           .backing_bytes = load_be<u32>(&bytes[16]),
           .size_bytes = load_be<u64>(&bytes[24]),
           .cluster_bits = bytes[32],
           .l2_bits = bytes[33],
           .crypt_method = load_be<u32>(&bytes[36]),
           .l1_offset = load_be<u64>(&bytes[40])};
  TRY(check(h));
  return h;
}

std::vector<u8> build(const Header& h) {
  std::vector<u8> bytes(kHeaderBytes);
  store_be(&bytes[0], kMagic);
  store_be(&bytes[4], kVersion);
  store_be(&bytes[8], h.backing_at);
  store_be(&bytes[16], h.backing_bytes);
  store_be(&bytes[24], h.size_bytes);
  bytes[32] = static_cast<u8>(h.cluster_bits);
  bytes[33] = static_cast<u8>(h.l2_bits);
  store_be(&bytes[36], h.crypt_method);
  store_be(&bytes[40], h.l1_offset);
  return bytes;
}

TwoLevelShape shape_of(const Header& h) {
  return {.first_offset = h.l1_offset,
          .first_entries = h.l1_entries(),
          .second_entries = u64{1} << h.l2_bits,
          .form = {.width = 8, .big_endian = true},
          .alignment = 1};
}

Status check_plain(const Header& header) {
  if (!header.crypt_method) return {};
  return Error(ErrorKind::Unsupported, "qcow images with AES encryption can only be opened read-only", ENOTSUP);
}

class QcowMap final : public ClusterMap, public Image {
 public:
  QcowMap(NodePtr file, Header header, std::string backing, std::optional<crypto::SectorCipher> cipher)
      : file_(std::move(file)),
        header_(header),
        backing_(std::move(backing)),
        cipher_(std::move(cipher)),
        tables_(*file_, shape_of(header), kCacheBytes) {}

  const char* driver() const override { return "qcow"; }
  u64 size_bytes() const override { return header_.size_bytes; }
  u64 cluster_bytes() const override { return header_.cluster_bytes(); }
  u64 allocation_unit() const override { return cluster_bytes(); }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override;
  Task<Status> read_encoded(u64 offset, Run run, std::span<const iovec> out) override;
  Task<Result<Place>> allocate(u64 offset) override;
  Task<Status> link(u64 offset, Place place) override;
  Task<Status> write_compressed(u64 offset, std::span<const iovec> data) override;
  Status allow_writing(bool on) override { return on ? check_plain(header_) : Status{}; }
  bool wants_flush() const override { return tables_.is_overfull(); }
  Task<Status> flush() override;

  bool encrypted() const override { return header_.crypt_method != 0; }
  std::string backing_file() const override { return backing_; }
  Task<Status> make_empty() override;

 private:
  Task<Status> read_compressed(Run run, std::span<u8> cluster);
  Task<Status> read_encrypted(u64 offset, Run run, std::span<const iovec> out);

  NodePtr file_;
  const Header header_;
  const std::string backing_;
  const std::optional<crypto::SectorCipher> cipher_;
  TwoLevelTable tables_;
};

Task<Result<Run>> QcowMap::find(u64 offset, u64 limit) {
  const u64 cluster = cluster_bytes(), in_cluster = offset % cluster;
  Result<TwoLevelTable::Entry> got = co_await tables_.get(offset / cluster);
  const TwoLevelTable::Entry entry = CO_TRY(std::move(got));
  const u64 table_bytes = cluster << header_.l2_bits;
  Run run{.bytes = std::min(limit, entry.has_table ? cluster - in_cluster : table_bytes - offset % table_bytes)};
  if (entry.value == 0) co_return run;
  run.at = entry.value;
  if (entry.value & kCompressed) {
    run.kind = Run::Compressed;
    co_return run;
  }
  if (entry.value % kSectorBytes || !range_fits(entry.value, 1, file_->size_bytes()))
    co_return Error(ErrorKind::Io,
                    fmt::format("qcow: the cluster of {:#x} is said to be at {:#x}", offset, entry.value), EIO);
  run.kind = encrypted() ? Run::Encrypted : Run::Data;
  run.at = entry.value + in_cluster;
  run.file = file_.get();
  co_return run;
}

Task<Status> QcowMap::read_compressed(Run run, std::span<u8> cluster) {
  const u32 shift = 63 - header_.cluster_bits;
  const u64 at = run.at & ((u64{1} << shift) - 1), size = run.at >> shift & (cluster_bytes() - 1);
  Result<std::vector<u8>> packed = co_await read_bytes(*file_, at, size, "a compressed cluster");
  std::vector<u8> bytes = CO_TRY(std::move(packed));
  u64 n = CO_TRY(inflate(Stream::Deflate, bytes, cluster));
  if (n != cluster.size())
    co_return Error(ErrorKind::Io, fmt::format("qcow: the compressed cluster at {:#x} is too short", at), EIO);
  co_return Status{};
}

Task<Status> QcowMap::read_encrypted(u64 offset, Run run, std::span<const iovec> out) {
  if (!cipher_) co_return Error(ErrorKind::Permission, "the image was opened without its key", EPERM);
  const u64 head = offset % kSectorBytes, size = iovec_bytes(out);
  std::vector<u8> bytes(align_up(head + size, kSectorBytes));  // at most a cluster and its ends
  std::span<u8> all(bytes);
  Status status = co_await read_padded(*file_, run.at - head, all);
  CO_TRY(std::move(status));
  cipher_->decrypt((offset - head) / kSectorBytes, bytes, bytes.data());
  iovec_copy_to(out, all.subspan(head, size));
  co_return Status{};
}

Task<Status> QcowMap::read_encoded(u64 offset, Run run, std::span<const iovec> out) {
  if (run.kind == Run::Encrypted) co_return co_await read_encrypted(offset, run, out);
  std::vector<u8> cluster(cluster_bytes());
  Status status = co_await read_compressed(run, cluster);
  CO_TRY(std::move(status));
  iovec_copy_to(out, std::span(cluster).subspan(offset % cluster.size(), iovec_bytes(out)));
  co_return Status{};
}

Task<Result<Place>> QcowMap::allocate(u64) {
  if (encrypted())
    co_return Error(ErrorKind::Unsupported, "qcow images with AES encryption can only be read; convert to LUKS",
                    ENOTSUP);
  Result<u64> place = co_await append_zeroes(*file_, cluster_bytes(), cluster_bytes());
  co_return Place{CO_TRY(std::move(place)), file_.get(), true};
}

Task<Status> QcowMap::link(u64 offset, Place place) {
  co_return co_await tables_.set(offset / cluster_bytes(), place.at);
}

Task<Status> QcowMap::write_compressed(u64 offset, std::span<const iovec> data) {
  if (encrypted())
    co_return Error(ErrorKind::Unsupported, "qcow images with AES encryption can only be read; convert to LUKS",
                    ENOTSUP);
  std::vector<u8> cluster(cluster_bytes());
  iovec_copy_from(data, std::span(cluster).first(std::min(iovec_bytes(data), cluster_bytes())));
  std::vector<u8> packed = CO_TRY(deflate(Stream::Deflate, cluster, cluster.size(), kWindowBits));
  const bool plain = packed.empty();
  const u64 end = file_->size_bytes(), shift = 63 - header_.cluster_bits;
  const u64 at = plain ? align_up(end, cluster_bytes()) : end;
  const std::span<const u8> stored = plain ? cluster : packed;
  if (!plain && at >> shift)
    co_return Error(ErrorKind::NoSpace, "qcow: no room for compressed clusters so far out", EFBIG);
  Status status = co_await write_growing(*file_, at, stored);
  CO_TRY(std::move(status));
  const u64 entry = plain ? at : kCompressed | u64{packed.size()} << shift | at;
  co_return co_await tables_.set(offset / cluster_bytes(), entry);
}

Task<Status> QcowMap::flush() {
  Status status = co_await file_->flush();
  CO_TRY(std::move(status));
  co_return co_await tables_.write_back();
}

/// An empty L1 table first; what it led to is cut off then.
Task<Status> QcowMap::make_empty() {
  const u64 l1_bytes = header_.l1_entries() * 8;
  Status status = co_await file_->write_zeroes(header_.l1_offset, l1_bytes, kNoFlags);
  CO_TRY(std::move(status));
  status = co_await file_->flush();
  CO_TRY(std::move(status));
  co_return co_await file_->resize(align_up(header_.l1_offset + l1_bytes, kSectorBytes), Preallocation::Off);
}

// --- the driver ---

int probe_qcow(std::span<const u8> head, std::string_view) {
  return head.size() >= kHeaderBytes && load_be<u32>(&head[0]) == kMagic && load_be<u32>(&head[4]) == kVersion ? 100
                                                                                                               : 0;
}

Task<Result<NodePtr>> open_qcow(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "qcow");
  Result<NodePtr> child = co_await graph.open(reader.child("file"), mode);
  NodePtr file = CO_TRY(std::move(child));
  std::string format = CO_TRY(reader.string("encrypt.format", "aes"));
  std::string secret = CO_TRY(reader.string("encrypt.key-secret", ""));
  if (format != "aes") co_return Error(ErrorKind::Invalid, fmt::format("qcow encryption format '{}'", format), EINVAL);
  std::optional<std::string> password;
  if (!secret.empty()) password = CO_TRY(graph.secret(secret));
  MappedOptions mapped = mapped_options(mode, *file, std::move(node_name));
  Result<NodePtr> opened = co_await open_qcow_node(file, std::move(password), std::move(mapped));
  NodePtr node = CO_TRY(std::move(opened));
  if (node->image()->encrypted() && secret.empty() && !mode.no_io)
    co_return Error(ErrorKind::Invalid, "Parameter 'encrypt.key-secret' is required for cipher", EINVAL);
  Status status = co_await attach_backing(graph, reader, *node, *file, mode);
  CO_TRY(std::move(status));
  CO_TRY(reader.finish());
  co_return node;
}

Task<Status> create_qcow(Graph&, NodePtr file, std::string, Json options) {
  OptionReader reader(std::move(options), "qcow");
  Header h;
  h.size_bytes = CO_TRY(reader.size("size", 0));
  std::string backing = CO_TRY(reader.string("backing_file", ""));
  CO_TRY(reader.string("backing_fmt", ""));  // the format cannot record it
  bool encryption = CO_TRY(reader.boolean("encryption", false));
  std::string format = CO_TRY(reader.string("encrypt.format", ""));
  CO_TRY(reader.string("encrypt.key-secret", ""));
  CO_TRY(reader.finish());
  if (encryption || !format.empty())
    co_return Error(ErrorKind::Unsupported, "creating qcow images with AES encryption is not supported; use LUKS",
                    ENOTSUP);
  if (!backing.empty()) {
    h.cluster_bits = 9;  // what a backing file has is copied cluster by cluster, so they are small
    h.l2_bits = 12;
    h.backing_at = kHeaderBytes;
    h.backing_bytes = static_cast<u32>(backing.size());
  }
  h.l1_offset = align_up(kHeaderBytes + backing.size(), 8);
  CO_TRY(check(h));
  Status status = co_await file->resize(align_up(h.l1_offset + h.l1_entries() * 8, kSectorBytes), Preallocation::Off);
  CO_TRY(std::move(status));
  std::vector<u8> bytes = build(h);
  for (char c : backing) bytes.push_back(static_cast<u8>(c));
  status = co_await write_growing(*file, 0, std::span<const u8>(bytes));
  CO_TRY(std::move(status));
  co_return co_await file->flush();
}

}  // namespace

Task<Result<NodePtr>> open_qcow_node(NodePtr file, std::optional<std::string> password, MappedOptions options) {
  Result<std::vector<u8>> head = co_await read_head(*file, kHeaderBytes);
  std::vector<u8> bytes = CO_TRY(std::move(head));
  Header header = CO_TRY(parse(bytes));
  if (!range_fits(header.l1_offset, header.l1_entries() * 8, align_up(file->size_bytes(), kSectorBytes)))
    co_return bad(fmt::format("the L1 table at {:#x} is cut short", header.l1_offset));
  std::string backing;
  if (header.backing_at) {
    Result<std::vector<u8>> name =
        co_await read_bytes(*file, header.backing_at, header.backing_bytes, "the backing file's name");
    std::vector<u8> text = CO_TRY(std::move(name));
    backing.assign(text.begin(), text.end());
  }
  std::optional<crypto::SectorCipher> cipher;
  if (header.crypt_method && password) cipher = CO_TRY(crypto::qcow_aes_cipher(*password));
  if (!options.readonly) CO_TRY(check_plain(header));
  auto map = std::make_unique<QcowMap>(std::move(file), header, std::move(backing), std::move(cipher));
  co_return make_mapped_node(std::move(map), nullptr, std::move(options));
}

extern const Driver kQcowDriver;
const Driver kQcowDriver = {
    .name = "qcow",
    .probe = probe_qcow,
    .open = open_qcow,
    .create = create_qcow,
    .create_options = {{"size", CreateOption::Size, "Virtual disk size"},
                       {"backing_file", CreateOption::Text, "File name of a base image"},
                       {"backing_fmt", CreateOption::Text, "Format of the backing image"},
                       {"encryption", CreateOption::Flag, "Encrypt the image with format 'aes' (refused: use LUKS)",
                        "off"},
                       {"encrypt.format", CreateOption::Text, "Encrypt the image (refused: use LUKS)"},
                       {"encrypt.key-secret", CreateOption::Text,
                        "ID of the secret that provides the AES encryption key"}},
    .supports_backing = true,
    .supports_compression = true,
};

}  // namespace atl::block
