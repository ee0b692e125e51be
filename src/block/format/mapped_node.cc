#include "block/format/mapped_node.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/math.h"
#include "block/format/file_bytes.h"
#include "block/iovecs.h"

namespace atl::block {
namespace {

constexpr u64 kCopyBytes = kMiB;      // that copying on write holds in memory
constexpr u64 kMaxLookups = 1 << 18;  // for one run, so that no question takes long

Error unsupported(const char* driver, const char* what) {
  return Error(ErrorKind::Unsupported, fmt::format("{} images {}", driver, what), ENOTSUP);
}

class MappedNode final : public Node {
 public:
  MappedNode(std::unique_ptr<ClusterMap> map, NodePtr backing, MappedOptions options)
      : map_(std::move(map)), backing_(std::move(backing)), options_(std::move(options)) {}

  NodeInfo info() const override;
  u64 size_bytes() const override { return map_->size_bytes(); }
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override;
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override;
  Task<Status> discard(u64 offset, u64 size) override;
  Task<Status> flush() override;
  Task<Status> resize(u64 size_bytes, Preallocation how) override;
  Task<Status> set_readonly(bool readonly) override;
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override;
  Task<Status> write_compressed(u64 offset, std::span<const iovec> data) override;
  std::vector<Child> children() const override;
  Status replace_child(std::string_view role, NodePtr node) override;
  Image* image() override { return map_->image(); }

 private:
  Status check_write(u64 offset, u64 size) const;
  bool reads_zero(const Run& run) const { return run.kind == Run::Zero || (run.kind == Run::Hole && !backing_); }
  Task<Result<Run>> find_run(u64 offset, u64 limit);
  Task<Status> read_locked(u64 offset, std::span<const iovec> out);
  Task<Status> read_run(Run run, u64 offset, std::span<const iovec> out);
  Task<Status> write_data(u64 offset, std::span<const iovec> data);
  Task<Result<u64>> write_existing(u64 offset, std::span<const iovec> data);
  Task<Result<u64>> write_new(u64 offset, std::span<const iovec> data);
  Task<Status> recompress(ClusterMap::Cluster cluster, u64 offset, std::span<const iovec> data);
  Task<Status> write_new_cluster(ClusterMap::Cluster cluster, u64 offset, std::span<const iovec> data);
  Task<Status> copy(u64 offset, u64 end, u64 cluster, Place place);
  Task<Result<u64>> zero_some(u64 offset, u64 end, u32 flags);
  Task<Status> store_zeroes(u64 offset, u64 size);
  Task<Status> begin_writing();

  std::unique_ptr<ClusterMap> map_;
  NodePtr backing_;
  MappedOptions options_;
  bool written_ = false;
  AsyncLock lock_;  // exclusive: tables change; shared: everything else
};

NodeInfo MappedNode::info() const {
  NodeInfo info = map_->files().front().node->info();
  info.node_name = options_.node_name;
  info.driver = map_->driver();
  info.size_bytes = map_->size_bytes();
  info.readonly = options_.readonly;
  info.request_alignment = 1;
  info.can_discard = info.can_discard && !options_.readonly;
  return info;
}

std::vector<Child> MappedNode::children() const {
  std::vector<Child> list = map_->files();
  if (backing_) list.push_back({"backing", backing_});
  return list;
}

Status MappedNode::replace_child(std::string_view role, NodePtr node) {
  if (role != "backing") return Node::replace_child(role, std::move(node));
  backing_ = std::move(node);
  return {};
}

Status MappedNode::check_write(u64 offset, u64 size) const {
  if (options_.readonly) return Error(ErrorKind::Permission, "this node is read-only", EPERM);
  return check_range(offset, size, map_->size_bytes());
}

// --- looking up ---

bool follows(const Run& first, const Run& next) {
  if (next.kind != first.kind || next.unprepared != first.unprepared) return false;
  if (first.kind == Run::Data) return next.file == first.file && next.at == first.at + first.bytes;
  return first.kind == Run::Hole || first.kind == Run::Zero;
}

/// As much as lies alike.
Task<Result<Run>> MappedNode::find_run(u64 offset, u64 limit) {
  Result<Run> found = co_await map_->find(offset, limit);
  Run run = CO_TRY(std::move(found));
  for (u64 i = 0; run.bytes < limit && i < kMaxLookups; ++i) {
    found = co_await map_->find(offset + run.bytes, limit - run.bytes);
    if (!found || !follows(run, *found)) break;
    run.bytes += found->bytes;
  }
  run.bytes = std::min(run.bytes, limit);
  co_return run;
}

Task<Result<BlockStatus>> MappedNode::block_status(u64 offset, u64 bytes) {
  CO_TRY(check_range(offset, bytes, map_->size_bytes()));
  co_await lock_.shared();
  Result<Run> found = co_await find_run(offset, bytes);
  lock_.release();
  Run run = CO_TRY(std::move(found));
  BlockStatus status;
  status.bytes = run.bytes;
  status.allocated = run.kind != Run::Hole;
  status.data = run.kind >= Run::Data;
  status.zero = reads_zero(run);
  status.compressed = run.kind == Run::Compressed;
  if (run.kind == Run::Data) {
    status.offset = run.at;
    status.file = run.file;
  }
  if (run.sparse && range_fits(run.at, 1, run.file->size_bytes())) {
    u64 there = std::min(run.bytes, run.file->size_bytes() - run.at);
    Result<BlockStatus> below = co_await run.file->block_status(run.at, there);
    if (below && below->zero) {
      status.zero = true;
      status.bytes = below->bytes;
    } else if (below) {
      status.bytes = below->bytes;
    }
  }
  co_return status;
}

// --- reading ---

Task<Status> MappedNode::read(u64 offset, std::span<const iovec> out) {
  CO_TRY(check_range(offset, iovec_bytes(out), map_->size_bytes()));
  co_await lock_.shared();
  Status status = co_await read_locked(offset, out);
  lock_.release();
  co_return status;
}

Task<Status> MappedNode::read_locked(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  for (u64 done = 0; done < size;) {
    Result<Run> found = co_await find_run(offset + done, size - done);
    Run run = CO_TRY(std::move(found));
    auto part = iovec_slice(out, done, run.bytes);
    Status status = co_await read_run(run, offset + done, part);
    CO_TRY(std::move(status));
    done += run.bytes;
  }
  co_return Status{};
}

Task<Status> MappedNode::read_run(Run run, u64 offset, std::span<const iovec> out) {
  switch (run.kind) {
    case Run::Data: co_return co_await read_padded(*run.file, run.at, out);
    case Run::Compressed:
    case Run::Encrypted: co_return co_await map_->read_encoded(offset, run, out);
    case Run::Hole:
      if (backing_) co_return co_await read_padded(*backing_, offset, out);
      break;
    case Run::Zero: break;
  }
  iovec_clear(out);
  co_return Status{};
}

// --- writing ---

Task<Status> MappedNode::write(u64 offset, std::span<const iovec> data, u32 flags) {
  CO_TRY(check_write(offset, iovec_bytes(data)));
  Status status = co_await write_data(offset, data);
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

/// To be called with the lock held exclusively.
Task<Status> MappedNode::begin_writing() {
  if (written_) co_return Status{};
  Status status = co_await map_->begin_writing();
  written_ = status.has_value();
  co_return status;
}

Task<Status> MappedNode::write_data(u64 offset, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data);
  for (u64 done = 0; done < size;) {
    auto rest = iovec_slice(data, done);
    Result<u64> written = u64{0};
    if (written_) {
      co_await lock_.shared();
      written = co_await write_existing(offset + done, rest);
      lock_.release();
    }
    if (written && *written == 0) {
      co_await lock_.exclusive();
      written = co_await write_new(offset + done, rest);
      lock_.release();
    }
    done += CO_TRY(std::move(written));
  }
  co_return Status{};
}

/// Writes what lies in clusters that have a place, up to the first that has none; gives the bytes done.
Task<Result<u64>> MappedNode::write_existing(u64 offset, std::span<const iovec> data) {
  Result<Run> found = co_await find_run(offset, iovec_bytes(data));
  Run run = CO_TRY(std::move(found));
  if (run.kind != Run::Data || run.unprepared) co_return u64{0};
  auto part = iovec_slice(data, 0, run.bytes);
  Status status = co_await write_growing(*run.file, run.at, std::span<const iovec>(part));
  CO_TRY(std::move(status));
  co_return run.bytes;
}

/// Gives the cluster at `offset` a place and writes there; gives the bytes done.
Task<Result<u64>> MappedNode::write_new(u64 offset, std::span<const iovec> data) {
  Status status = co_await begin_writing();
  CO_TRY(std::move(status));
  Result<u64> meanwhile = co_await write_existing(offset, data);  // somebody may have been faster
  if (!meanwhile || *meanwhile) co_return meanwhile;
  const ClusterMap::Cluster cluster = map_->cluster_of(offset);
  Result<Run> before = co_await map_->find(offset, iovec_bytes(data));
  if (CO_TRY(std::move(before)).unprepared) {
    status = co_await map_->prepare(cluster.start);
    CO_TRY(std::move(status));
    co_return co_await write_existing(offset, data);
  }
  const u64 bytes = std::min(iovec_bytes(data), cluster.end - offset);
  auto part = iovec_slice(data, 0, bytes);
  if (map_->compresses(offset))
    status = co_await recompress(cluster, offset, part);
  else
    status = co_await write_new_cluster(cluster, offset, part);
  CO_TRY(std::move(status));
  if (map_->wants_flush()) status = co_await map_->flush();
  CO_TRY(std::move(status));
  co_return bytes;
}

/// The data, and around it what the cluster holds, compressed anew.
Task<Status> MappedNode::recompress(ClusterMap::Cluster cluster, u64 offset, std::span<const iovec> data) {
  std::vector<u8> bytes(std::min(cluster.end, align_up(map_->size_bytes(), kSectorBytes)) - cluster.start);
  iovec whole{bytes.data(), bytes.size()};
  Status status = co_await read_locked(cluster.start, {&whole, 1});
  CO_TRY(std::move(status));
  iovec_copy_from(data, std::span(bytes).subspan(offset - cluster.start, iovec_bytes(data)));
  co_return co_await map_->write_compressed(cluster.start, {&whole, 1});
}

Task<Status> MappedNode::write_new_cluster(ClusterMap::Cluster cluster, u64 offset, std::span<const iovec> data) {
  Result<Place> found = co_await map_->allocate(cluster.start);
  const Place place = CO_TRY(std::move(found));
  Status status = co_await copy(cluster.start, offset, cluster.start, place);
  CO_TRY(std::move(status));
  status = co_await write_growing(*place.file, place.at + (offset - cluster.start), data);
  CO_TRY(std::move(status));
  status = co_await copy(offset + iovec_bytes(data), cluster.end, cluster.start, place);
  CO_TRY(std::move(status));
  co_return co_await map_->link(cluster.start, place);
}

/// What the guest sees at [offset, end) into the new place of its cluster, where that does not read the same already.
Task<Status> MappedNode::copy(u64 offset, u64 end, u64 cluster, Place place) {
  std::vector<u8> buffer;
  const u64 disk_end = align_up(map_->size_bytes(), kSectorBytes);
  while (offset < end) {
    Run run{.kind = Run::Zero, .bytes = end - offset};
    if (offset < disk_end) {
      Result<Run> found = co_await find_run(offset, std::min(end, disk_end) - offset);
      run = CO_TRY(std::move(found));
    }
    if (place.reads_zero && reads_zero(run)) {
      offset += run.bytes;
      continue;
    }
    buffer.resize(std::min({run.bytes, kCopyBytes, end - offset}));
    iovec whole{buffer.data(), buffer.size()};
    Status status = co_await read_run(run, offset, {&whole, 1});
    CO_TRY(std::move(status));
    status = co_await write_growing(*place.file, place.at + (offset - cluster), std::span<const u8>(buffer));
    CO_TRY(std::move(status));
    offset += buffer.size();
  }
  co_return Status{};
}

Task<Status> MappedNode::write_compressed(u64 offset, std::span<const iovec> data) {
  CO_TRY(check_write(offset, iovec_bytes(data)));
  if (offset != map_->cluster_of(offset).start)
    co_return Error(ErrorKind::Invalid, fmt::format("compressed data at {} do not start a cluster", offset), EINVAL);
  const u64 size = iovec_bytes(data);
  co_await lock_.exclusive();
  Status status = co_await begin_writing();
  for (u64 done = 0; status && done < size;) {
    auto part = iovec_slice(data, done, map_->cluster_of(offset + done).end - (offset + done));
    status = co_await map_->write_compressed(offset + done, part);
    done += iovec_bytes(part);
    if (status && map_->wants_flush()) status = co_await map_->flush();
  }
  lock_.release();
  co_return status;
}

// --- zeroes and discard ---

Task<Status> MappedNode::write_zeroes(u64 offset, u64 size, u32 flags) {
  CO_TRY(check_write(offset, size));
  Status status;
  for (const u64 end = offset + size; status && offset < end;) {
    co_await lock_.exclusive();
    Result<u64> done = co_await zero_some(offset, end, flags);
    if (done && map_->wants_flush()) status = co_await map_->flush();
    lock_.release();
    offset += CO_TRY(std::move(done));
  }
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

/// One run, or one cluster of it where something must be done; gives the bytes that read as zeroes now.
Task<Result<u64>> MappedNode::zero_some(u64 offset, u64 end, u32 flags) {
  Result<Run> found = co_await find_run(offset, end - offset);
  Run run = CO_TRY(std::move(found));
  if (reads_zero(run)) co_return run.bytes;
  Status status = co_await begin_writing();
  CO_TRY(std::move(status));
  const ClusterMap::Cluster cluster = map_->cluster_of(offset);
  const bool whole = offset == cluster.start && end >= std::min(cluster.end, map_->size_bytes());
  run.bytes = std::min(run.bytes, cluster.end - offset);
  if (run.kind == Run::Data && !run.unprepared)
    status = co_await run.file->write_zeroes(run.at, run.bytes, flags & ~u32{kFua});
  else if (whole && run.kind != Run::Data && map_->has_zero_clusters())
    status = co_await map_->zero_cluster(offset);
  else
    status = co_await store_zeroes(offset, run.bytes);
  CO_TRY(std::move(status));
  co_return run.bytes;
}

/// Zeroes into a cluster that has no place yet, under the lock.
Task<Status> MappedNode::store_zeroes(u64 offset, u64 size) {
  for (u64 done = 0; done < size;) {
    auto zeroes = iovec_zeroes(size - done);
    Result<u64> written = co_await write_new(offset + done, zeroes);
    done += CO_TRY(std::move(written));
  }
  co_return Status{};
}

/// A hint: what has a place gives its storage back.
Task<Status> MappedNode::discard(u64 offset, u64 size) {
  CO_TRY(check_write(offset, size));
  if (!options_.discard) co_return Status{};
  const u64 end = offset + size;
  co_await lock_.exclusive();
  Status status = co_await begin_writing();
  while (status && offset < end) {
    Result<Run> found = co_await find_run(offset, end - offset);
    if (!found) {
      status = std::move(found).error();
      break;
    }
    if (found->kind == Run::Data) status = co_await found->file->discard(found->at, found->bytes);
    offset += found->bytes;
  }
  lock_.release();
  co_return status;
}

Task<Status> MappedNode::flush() {
  if (options_.readonly || !written_) co_return Status{};
  co_await lock_.exclusive();
  Status status = co_await map_->flush();
  lock_.release();
  co_return status;
}

Task<Status> MappedNode::resize(u64 size_bytes, Preallocation how) {
  if (options_.readonly) co_return Error(ErrorKind::Permission, "this node is read-only", EPERM);
  co_await lock_.exclusive();
  Status status = co_await begin_writing();
  if (status) status = co_await map_->flush();
  if (status) status = co_await map_->resize(size_bytes, how);
  if (status) status = co_await map_->flush();
  lock_.release();
  co_return status;
}

/// Tables are on the disk before the files below stop to be writable.
Task<Status> MappedNode::set_readonly(bool readonly) {
  if (readonly == options_.readonly) co_return Status{};
  Status status;
  if (readonly) status = co_await flush();
  if (status) status = map_->allow_writing(!readonly);
  for (const Child& file : map_->files())
    if (status) status = co_await file.node->set_readonly(readonly);
  if (status) options_.readonly = readonly;
  co_return status;
}

}  // namespace

Task<Status> ClusterMap::read_encoded(u64, Run, std::span<const iovec>) {
  co_return unsupported(driver(), "hold no such clusters");
}
Task<Result<Place>> ClusterMap::allocate(u64) { co_return unsupported(driver(), "cannot be written"); }
Task<Status> ClusterMap::link(u64, Place) { co_return unsupported(driver(), "cannot be written"); }
Status ClusterMap::allow_writing(bool on) {
  if (on) return unsupported(driver(), "cannot be written");
  return {};
}
Task<Status> ClusterMap::prepare(u64) { co_return Status{}; }
Task<Status> ClusterMap::zero_cluster(u64) { co_return unsupported(driver(), "have no zero clusters"); }
Task<Status> ClusterMap::write_compressed(u64, std::span<const iovec>) {
  co_return unsupported(driver(), "do not store compressed data");
}
Task<Status> ClusterMap::resize(u64, Preallocation) {
  co_return Error(ErrorKind::Unsupported, "Image format driver does not support resize", ENOTSUP);
}

NodePtr make_mapped_node(std::unique_ptr<ClusterMap> map, NodePtr backing, MappedOptions options) {
  if (options.node_name.empty()) options.node_name = generate_node_name();
  return std::make_shared<MappedNode>(std::move(map), std::move(backing), std::move(options));
}

}  // namespace atl::block
