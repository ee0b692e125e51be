// Compressed loop images ("cloop"), version 2.0 as Knoppix made them: a shell script of 128 bytes, block size and
// count, offsets of the blocks (all big-endian), zlib streams. Read only.
#include <fmt/format.h>

#include <algorithm>

#include "base/endian.h"
#include "base/math.h"
#include "block/format/file_bytes.h"
#include "block/format/formats.h"
#include "block/format/inflate.h"
#include "block/format/last_block.h"
#include "block/format/table_cache.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

constexpr std::string_view kMagic =
    "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";
constexpr u64 kBlockBytesAt = 128, kOffsetsAt = 136;
constexpr u64 kMaxBlockBytes = 16 * kMiB;
constexpr u64 kCacheBytes = 2 * kMiB;

Error bad(std::string text) { return bad_image("cloop", std::move(text)); }

class CloopMap final : public ClusterMap, public Image {
 public:
  CloopMap(NodePtr file, u32 block_bytes, u32 blocks)
      : file_(std::move(file)),
        block_bytes_(block_bytes),
        blocks_(blocks),
        cache_(*file_, kCacheBytes),
        offsets_(cache_, kOffsetsAt, u64{blocks} + 1, {.width = 8, .big_endian = true}) {}

  const char* driver() const override { return "cloop"; }
  u64 size_bytes() const override { return blocks_ * block_bytes_; }
  u64 allocation_unit() const override { return block_bytes_; }
  std::vector<Child> files() const override { return {{"file", file_}}; }
  Image* image() override { return this; }
  Task<Result<Run>> find(u64 offset, u64 limit) override {
    Run run{.kind = Run::Compressed,
            .bytes = std::min(limit, block_bytes_ - offset % block_bytes_),
            .at = offset / block_bytes_};
    co_return run;
  }
  Task<Status> read_encoded(u64 offset, Run run, std::span<const iovec> out) override;
  Task<Status> flush() override { co_return Status{}; }

 private:
  Task<Result<LastBlock::Bytes>> load(u64 block);

  NodePtr file_;
  const u64 block_bytes_, blocks_;
  TableCache cache_;
  FlatTable offsets_;
  LastBlock last_;
};

Task<Result<LastBlock::Bytes>> CloopMap::load(u64 block) {
  if (LastBlock::Bytes kept = last_.get(block)) co_return kept;
  Result<u64> got = co_await offsets_.get(block);
  const u64 start = CO_TRY(std::move(got));
  got = co_await offsets_.get(block + 1);
  const u64 end = CO_TRY(std::move(got));
  // zlib adds a few bytes in a thousand to what it cannot compress.
  if (end <= start || end - start > block_bytes_ + block_bytes_ / 64 + 64)
    co_return Error(ErrorKind::Io, fmt::format("cloop: block {} reaches from {:#x} to {:#x}", block, start, end), EIO);
  Result<std::vector<u8>> read = co_await read_bytes(*file_, start, end - start, "a compressed block");
  std::vector<u8> packed = CO_TRY(std::move(read)), plain(block_bytes_);
  const u64 size = CO_TRY(inflate(Stream::Zlib, packed, plain));
  if (size != block_bytes_)
    co_return Error(ErrorKind::Io, fmt::format("cloop: block {} holds {} bytes", block, size), EIO);
  co_return last_.keep(block, std::move(plain));
}

Task<Status> CloopMap::read_encoded(u64 offset, Run run, std::span<const iovec> out) {
  Result<LastBlock::Bytes> loaded = co_await load(run.at);
  LastBlock::Bytes block = CO_TRY(std::move(loaded));
  iovec_copy_to(out, std::span(*block).subspan(offset % block_bytes_, iovec_bytes(out)));
  co_return Status{};
}

int probe_cloop(std::span<const u8> head, std::string_view) {
  return head.size() >= kMagic.size() && std::equal(kMagic.begin(), kMagic.end(), head.begin()) ? 2 : 0;
}

Task<Result<NodePtr>> open_cloop(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  return open_read_only_format(graph, std::move(options), mode, std::move(node_name), "cloop", open_cloop_node);
}

}  // namespace

Task<Result<NodePtr>> open_cloop_node(NodePtr file, MappedOptions options) {
  Result<std::vector<u8>> head = co_await read_bytes(*file, 0, kOffsetsAt, "the header");
  std::vector<u8> bytes = CO_TRY(std::move(head));
  const u32 block_bytes = load_be<u32>(&bytes[kBlockBytesAt]), blocks = load_be<u32>(&bytes[kBlockBytesAt + 4]);
  if (block_bytes == 0 || block_bytes % kSectorBytes || block_bytes > kMaxBlockBytes)
    co_return bad(
        fmt::format("block_size {} must be a multiple of 512 and at most {} MB", block_bytes, kMaxBlockBytes / kMiB));
  if (!range_fits(kOffsetsAt, 8 * (u64{blocks} + 1), align_up(file->size_bytes(), kSectorBytes)))
    co_return bad(fmt::format("the offsets of {} blocks are cut short", blocks));
  co_return make_mapped_node(std::make_unique<CloopMap>(std::move(file), block_bytes, blocks), nullptr,
                             std::move(options));
}

extern const Driver kCloopDriver;
const Driver kCloopDriver = {.name = "cloop", .probe = probe_cloop, .open = open_cloop};

}  // namespace atl::block
