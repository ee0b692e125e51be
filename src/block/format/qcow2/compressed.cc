#include "block/format/qcow2/compressed.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/task_group.h"
#include "block/format/qcow2/codec.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/write.h"
#include "block/iovecs.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kBatchBytes = 512 * kKiB;   // so that handing work to a thread costs nothing beside the work

/// Where a request wants a whole cluster in one place, it is unpacked right there.
std::span<u8> direct_target(u64 cluster_bytes, u64 skip, std::span<const iovec> out) {
  if (skip != 0 || out.size() != 1 || out[0].iov_len != cluster_bytes) return {};
  return {static_cast<u8*>(out[0].iov_base), cluster_bytes};
}

}  // namespace

Task<Status> read_compressed(Core& core, CompressedPlace place, u64 skip, std::span<const iovec> out) {
  const u64 cluster = core.geometry().cluster_bytes();
  if (place.host >= kMaxHostOffset) co_return core.corrupt(fmt::format("compressed cluster offset {:#x}", place.host));
  Bytes packed = Bytes::for_overwrite(place.bytes);
  core.step("read_compressed");
  Status status = co_await read_padded(*core.file, place.host, packed.span());
  CO_TRY(std::move(status));
  std::span<u8> target = direct_target(cluster, skip, out);
  Bytes unpacked = Bytes::for_overwrite(target.empty() ? cluster : 0);
  if (target.empty()) target = unpacked.span();
  bool good = false;
  std::function<void()> work = [&] { good = decompress_cluster(core.header.compression, packed.span(), target); };
  WorkerPool* pool = CO_TRY(core.workers());
  co_await pool->run(core.loop, std::move(work));
  if (!good) co_return core.corrupt(fmt::format("the compressed cluster at {:#x} cannot be unpacked", place.host));
  if (unpacked.size()) iovec_copy_to(out, unpacked.span().subspan(skip));
  co_return Status{};
}

// --- writing ---

namespace {

struct Packed {
  u64 offset = 0;   // of the disk
  std::vector<iovec> data;
  u8* bytes = nullptr;
  u64 length = 0;   // 0: does not shrink
  u64 host = 0;
};

/// Neighbouring clusters that one thread packs in one go, and the room for what comes out.
struct Batch {
  std::span<Packed> clusters;
  Bytes out, whole;
};

void pack_one(const Core& core, Batch& batch, Packed& cluster, u8* to) {
  const u64 bytes = core.geometry().cluster_bytes(), size = iovec_bytes(cluster.data);
  std::span<const u8> from{static_cast<const u8*>(cluster.data[0].iov_base), bytes};
  if (cluster.data.size() != 1 || size != bytes) {   // scattered, or shorter at the disk's end: the rest is zeroes
    batch.whole = Bytes(bytes);
    iovec_copy_from(cluster.data, batch.whole.span().first(size));
    from = batch.whole.span();
  }
  cluster.bytes = to;
  cluster.length = compress_cluster(core.header.compression, from, {to, bytes - 1});
}

Task<Status> pack(Core& core, Batch& batch) {
  batch.out = Bytes::for_overwrite(batch.clusters.size() * core.geometry().cluster_bytes());
  std::function<void()> work = [&] {
    u8* to = batch.out.data();
    for (Packed& cluster : batch.clusters) {
      pack_one(core, batch, cluster, to);
      to += cluster.length;
    }
  };
  WorkerPool* pool = CO_TRY(core.workers());
  co_await pool->run(core.loop, std::move(work));
  co_return Status{};
}

std::vector<Batch> batches(u64 cluster_bytes, std::span<Packed> clusters) {
  const u64 most = std::max<u64>(kBatchBytes / cluster_bytes, 1);
  std::vector<Batch> list;
  for (; !clusters.empty(); clusters = clusters.subspan(std::min<u64>(most, clusters.size())))
    list.push_back({clusters.first(std::min<u64>(most, clusters.size())), {}, {}});
  return list;
}

Task<Status> pack_all(Core& core, std::vector<Batch>& list) {
  TaskGroup group(static_cast<unsigned>(list.size()));
  for (Batch& batch : list) group.add(pack(core, batch));
  co_return co_await group.all();
}

Task<Status> place_all(Core& core, std::vector<Packed>& clusters) {
  for (Packed& cluster : clusters) {
    if (cluster.length == 0) continue;
    Result<u64> host = co_await core.refcounts.allocate_bytes(cluster.length);
    cluster.host = CO_TRY(std::move(host));
    if (cluster.host + cluster.length > compressed_limit(core.geometry().cluster_bits))
      co_return Error(ErrorKind::NoSpace, "the qcow2 image is too large for more compressed clusters", ENOSPC);
  }
  co_return Status{};
}

/// What lies in a row goes in one write.
Task<Status> store_all(Core& core, std::vector<Packed>& clusters) {
  std::vector<iovec> row;
  u64 start = 0, end = 0;
  for (size_t i = 0; i <= clusters.size(); ++i) {
    if (i < clusters.size() && clusters[i].length == 0) continue;
    const bool follows = i < clusters.size() && !row.empty() && clusters[i].host == end;
    if (!follows && !row.empty()) {
      core.step("write_compressed");
      Status status = co_await core.file->write(start, row, kNoFlags);
      CO_TRY(std::move(status));
      row.clear();
    }
    if (i == clusters.size()) break;
    if (row.empty()) start = end = clusters[i].host;
    row.push_back({clusters[i].bytes, clusters[i].length});
    end += clusters[i].length;
  }
  co_return Status{};
}

Task<Status> link_all(Core& core, std::vector<Packed>& clusters) {
  for (Packed& cluster : clusters) {
    if (cluster.length == 0) continue;
    Result<Core::EntryPlace> got = co_await core.entry_for_writing(cluster.offset);
    Core::EntryPlace place = CO_TRY(std::move(got));
    L2Entry entry{encode_compressed({cluster.host, cluster.length}, core.geometry().cluster_bits), 0};
    core.replace(place, entry, FreedBy::Other);
  }
  co_return co_await core.sync_if_full();
}

std::vector<Packed> split(u64 cluster_bytes, u64 offset, std::span<const iovec> data) {
  std::vector<Packed> clusters;
  const u64 size = iovec_bytes(data);
  for (u64 done = 0; done < size; done += cluster_bytes) {
    Packed& cluster = clusters.emplace_back();
    cluster.offset = offset + done;
    cluster.data = iovec_slice(data, done, cluster_bytes);
  }
  return clusters;
}

Task<Status> write_packed(Core& core, std::vector<Packed>& clusters) {
  co_await core.tables.exclusive();
  Status status = co_await core.prepare_for_writing();
  if (status) status = co_await place_all(core, clusters);
  core.tables.release();
  if (status) status = co_await store_all(core, clusters);
  CO_TRY(std::move(status));   // what was allocated leaks until the next check: the disk is full or broken
  co_await core.tables.exclusive();
  status = co_await link_all(core, clusters);
  core.tables.release();
  co_return status;
}

}  // namespace

Task<Status> write_compressed_clusters(Core& core, u64 offset, std::span<const iovec> data) {
  const Geometry& g = core.geometry();
  const u64 size = iovec_bytes(data);
  if (core.external() || core.cipher)
    co_return Error(ErrorKind::Unsupported, "Operation not supported", ENOTSUP);
  if (g.in_cluster(offset) || (g.in_cluster(size) && offset + size < core.header.size_bytes))
    co_return Error(ErrorKind::Invalid, fmt::format("{} bytes at {} are not whole clusters", size, offset), EINVAL);
  std::vector<Packed> clusters = split(g.cluster_bytes(), offset, data);
  std::vector<Batch> list = batches(g.cluster_bytes(), clusters);
  Status status = co_await pack_all(core, list);
  CO_TRY(std::move(status));
  {
    RangeLock::Guard guard = co_await core.ranges.acquire(offset, g.cluster_end(offset + size));
    status = co_await write_packed(core, clusters);
    CO_TRY(std::move(status));
  }
  // What does not shrink is stored as it is, neighbours together.
  for (size_t i = 0, end = 0; i < clusters.size(); i = end + 1) {
    for (end = i; end < clusters.size() && clusters[end].length == 0;) ++end;
    if (end == i) continue;
    auto row = iovec_slice(data, clusters[i].offset - offset, (end - i) << g.cluster_bits);
    status = co_await write_disk(core, clusters[i].offset, row);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

}  // namespace atl::block::qcow2
