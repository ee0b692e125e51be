// Apple disk images ("dmg", UDIF): there is no published specification; QEMU's block/dmg.c and libdmg describe what is
// known.
//
// Supported, read only: raw, zero, zlib (UDZO) and bzip2 (UDBZ) chunks; block maps in the property list or the resource
// fork. Refused by name: ADC (UDCO), LZFSE (ULFO) and LZMA (ULMO) chunks, when they are read. Missing: checksums,
// encrypted images.
//
// A trailer of 512 bytes ("koly") tells where the property list is; its base64 blocks ("mish") list the chunks.
#include <fmt/format.h>

#include <algorithm>

#include "base/base64.h"
#include "base/endian.h"
#include "base/math.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/inflate.h"
#include "block/format/last_block.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

constexpr u64 kTrailerBytes = 512, kMaxListBytes = 16 * kMiB;
constexpr u32 kKoly = 0x6b6f6c79, kMish = 0x6d697368;
constexpr u64 kMishChunksAt = 204, kChunkBytes = 40;
constexpr u64 kMaxChunkBytes = 16 * kMiB;  // of compressed ones

enum ChunkType : u32 {
  kZeroes = 0,
  kRaw = 1,
  kIgnore = 2,
  kAdc = 0x8000'0004,
  kZlib = 0x8000'0005,
  kBzip2 = 0x8000'0006,
  kLzfse = 0x8000'0007,
  kLzma = 0x8000'0008,
  kComment = 0x7fff'fffe,
  kEnd = 0xffff'ffff,
};

struct Chunk {
  u32 type = kZeroes;
  u64 start = 0, bytes = 0;  // on the disk
  u64 at = 0, stored = 0;    // in the file
  u64 end() const { return start + bytes; }
};

Error bad(std::string text) { return bad_image("dmg", std::move(text)); }

Status check_chunk(const Chunk& c) {
  const bool packed = c.type >= kAdc && c.type <= kLzma;
  if (packed && (c.bytes > kMaxChunkBytes || c.stored > kMaxChunkBytes))
    return bad(fmt::format("a chunk of {} bytes, compressed {}, is too large", c.bytes, c.stored));
  if (c.type == kRaw && c.stored != c.bytes)
    return bad(fmt::format("a raw chunk stores {} of {} bytes", c.stored, c.bytes));
  return {};
}

/// Adds the chunks of one block map; others than block maps are passed over.
Status parse_mish(std::span<const u8> b, u64 fork_offset, std::vector<Chunk>& chunks) {
  if (b.size() < kMishChunksAt || load_be<u32>(&b[0]) != kMish) return {};
  const u64 first_sector = load_be<u64>(&b[8]), data = load_be<u64>(&b[24]) + fork_offset;
  for (u64 at = kMishChunksAt; at + kChunkBytes <= b.size(); at += kChunkBytes) {
    Chunk c;
    c.type = load_be<u32>(&b[at]);
    if (c.type == kEnd) break;
    if (c.type == kComment) continue;
    const u64 sector = load_be<u64>(&b[at + 8]), count = load_be<u64>(&b[at + 16]);
    c.at = load_be<u64>(&b[at + 24]) + data;
    c.stored = load_be<u64>(&b[at + 32]);
    constexpr u64 kMaxSectors = u64{1} << 52;
    if (sector > kMaxSectors || first_sector > kMaxSectors || count > kMaxSectors)
      return bad(fmt::format("a chunk of {} sectors at sector {}", count, sector));
    c.start = (sector + first_sector) * kSectorBytes;
    c.bytes = count * kSectorBytes;
    TRY(check_chunk(c));
    if (c.bytes) chunks.push_back(c);
  }
  return {};
}

Result<std::vector<Chunk>> parse_list(std::string_view xml, u64 fork_offset) {
  std::vector<Chunk> chunks;
  size_t at = xml.find("<key>blkx</key>");
  if (at == xml.npos) return bad("the property list has no block maps");
  while ((at = xml.find("<data>", at)) != xml.npos) {
    const size_t end = xml.find("</data>", at);
    if (end == xml.npos) break;
    const auto block = decode_base64(xml.substr(at + 6, end - at - 6));
    if (!block) return bad("a block map is not in base64");
    TRY(parse_mish({reinterpret_cast<const u8*>(block->data()), block->size()}, fork_offset, chunks));
    at = end;
  }
  return chunks;
}

/// Data of the resources, each behind its length.
Result<std::vector<Chunk>> parse_fork(std::span<const u8> fork, u64 fork_offset) {
  std::vector<Chunk> chunks;
  if (fork.size() < 16) return bad("the resource fork is cut short");
  const u64 start = load_be<u32>(&fork[0]), bytes = load_be<u32>(&fork[8]);
  if (!range_fits(start, bytes, fork.size())) return bad("the resource fork's data are cut short");
  for (u64 at = start; at + 4 <= start + bytes;) {
    const u64 size = load_be<u32>(&fork[at]);
    if (size == 0 || !range_fits(at + 4, size, start + bytes)) break;
    TRY(parse_mish(fork.subspan(at + 4, size), fork_offset, chunks));
    at += 4 + size;
  }
  return chunks;
}

class DmgMap final : public ClusterMap, public Image {
 public:
  DmgMap(NodePtr file, u64 size_bytes, std::vector<Chunk> chunks)
      : file_(std::move(file)), size_(size_bytes), chunks_(std::move(chunks)) {}

  const char* driver() const override { return "dmg"; }
  u64 size_bytes() const override { return size_; }
  u64 allocation_unit() const override { return kSectorBytes; }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override;
  Task<Status> read_encoded(u64 offset, Run run, std::span<const iovec> out) override;
  Task<Status> flush() override { co_return Status{}; }

 private:
  Task<Result<LastBlock::Bytes>> load(u64 index);

  NodePtr file_;
  const u64 size_;
  const std::vector<Chunk> chunks_;  // by start
  LastBlock last_;
};

Task<Result<Run>> DmgMap::find(u64 offset, u64 limit) {
  auto after = std::ranges::upper_bound(chunks_, offset, {}, &Chunk::start);
  Run run{.kind = Run::Zero, .bytes = after == chunks_.end() ? limit : std::min(limit, after->start - offset)};
  if (after == chunks_.begin() || offset >= (after - 1)->end()) co_return run;
  const Chunk& chunk = *(after - 1);
  run.bytes = std::min(run.bytes, chunk.end() - offset);
  if (chunk.type == kZeroes || chunk.type == kIgnore) co_return run;
  run.kind = chunk.type == kRaw ? Run::Data : Run::Compressed;
  run.at = chunk.type == kRaw ? chunk.at + (offset - chunk.start) : static_cast<u64>(after - 1 - chunks_.begin());
  run.file = file_.get();
  co_return run;
}

Task<Result<LastBlock::Bytes>> DmgMap::load(u64 index) {
  if (LastBlock::Bytes kept = last_.get(index)) co_return kept;
  const Chunk& chunk = chunks_[index];
  if (chunk.type != kZlib && chunk.type != kBzip2) {
    const char* name = chunk.type == kAdc     ? "ADC"
                       : chunk.type == kLzfse ? "LZFSE"
                       : chunk.type == kLzma  ? "LZMA"
                                              : "unknown";
    co_return Error(ErrorKind::Unsupported,
                    fmt::format("dmg: chunks of type {} ({:#x}) are not supported", name, chunk.type), ENOTSUP);
  }
  Result<std::vector<u8>> read = co_await read_bytes(*file_, chunk.at, chunk.stored, "a compressed chunk");
  std::vector<u8> packed = CO_TRY(std::move(read)), plain(chunk.bytes);
  CO_TRY(chunk.type == kZlib ? inflate(Stream::Zlib, packed, plain) : bunzip2(packed, plain));
  co_return last_.keep(index, std::move(plain));
}

Task<Status> DmgMap::read_encoded(u64 offset, Run run, std::span<const iovec> out) {
  Result<LastBlock::Bytes> loaded = co_await load(run.at);
  LastBlock::Bytes plain = CO_TRY(std::move(loaded));
  iovec_copy_to(out, std::span(*plain).subspan(offset - chunks_[run.at].start, iovec_bytes(out)));
  co_return Status{};
}

/// Bytes that are not part of the last sector may follow the trailer.
Task<Result<std::vector<u8>>> read_trailer(Node& file) {
  const u64 end = file.size_bytes();
  if (end < kTrailerBytes) co_return bad("the file is too small");
  const u64 start = end < 2 * kTrailerBytes ? 0 : end - 2 * kTrailerBytes + 1;
  Result<std::vector<u8>> read = co_await read_bytes(file, start, end - start, "the trailer");
  std::vector<u8> bytes = CO_TRY(std::move(read));
  for (u64 at = bytes.size() - kTrailerBytes + 1; at-- > 0;)
    if (load_be<u32>(&bytes[at]) == kKoly) co_return std::vector<u8>(&bytes[at], &bytes[at] + kTrailerBytes);
  co_return Error(ErrorKind::Invalid, "Could not locate UDIF trailer in dmg file", EINVAL);
}

Task<Result<std::vector<Chunk>>> read_chunks(Node& file, std::span<const u8> trailer) {
  const u64 fork_offset = load_be<u64>(&trailer[0x18]);
  const u64 resource_at = load_be<u64>(&trailer[0x28]), resource_bytes = load_be<u64>(&trailer[0x30]);
  const u64 list_at = load_be<u64>(&trailer[0xd8]), list_bytes = load_be<u64>(&trailer[0xe0]);
  const bool use_fork = resource_bytes != 0;
  const u64 bytes = use_fork ? resource_bytes : list_bytes;
  if (bytes == 0 || bytes > kMaxListBytes) co_return bad(fmt::format("a chunk list of {} bytes", bytes));
  Result<std::vector<u8>> read = co_await read_bytes(file, use_fork ? resource_at : list_at, bytes, "the chunk list");
  std::vector<u8> raw = CO_TRY(std::move(read));
  std::string_view text(reinterpret_cast<const char*>(raw.data()), raw.size());
  std::vector<Chunk> chunks = CO_TRY(use_fork ? parse_fork(raw, fork_offset) : parse_list(text, fork_offset));
  std::ranges::sort(chunks, {}, &Chunk::start);
  for (size_t i = 1; i < chunks.size(); ++i)
    if (chunks[i].start < chunks[i - 1].end()) co_return bad(fmt::format("chunks overlap at {:#x}", chunks[i].start));
  co_return chunks;
}

int probe_dmg(std::span<const u8>, std::string_view filename) { return filename.ends_with(".dmg") ? 2 : 0; }

Task<Result<NodePtr>> open_dmg(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  return open_read_only_format(graph, std::move(options), mode, std::move(node_name), "dmg", open_dmg_node);
}

}  // namespace

Task<Result<NodePtr>> open_dmg_node(NodePtr file, MappedOptions options) {
  Result<std::vector<u8>> read = co_await read_trailer(*file);
  std::vector<u8> trailer = CO_TRY(std::move(read));
  const u64 sectors = load_be<u64>(&trailer[0x1ec]);
  if (sectors > u64{1} << 52) co_return bad(fmt::format("a disk of {} sectors", sectors));
  Result<std::vector<Chunk>> found = co_await read_chunks(*file, trailer);
  std::vector<Chunk> chunks = CO_TRY(std::move(found));
  co_return make_mapped_node(std::make_unique<DmgMap>(std::move(file), sectors * kSectorBytes, std::move(chunks)),
                             nullptr, std::move(options));
}

extern const Driver kDmgDriver;
const Driver kDmgDriver = {.name = "dmg", .probe = probe_dmg, .open = open_dmg};

}  // namespace atl::block
