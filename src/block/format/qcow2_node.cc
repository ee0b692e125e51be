// Reading and writing a qcow2 image: guest offsets through L1 and L2 tables to clusters of the file.
//
// Reads and writes in place hold the lock shared, one run of clusters at a time; whatever changes tables holds it
// alone.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/math.h"
#include "block/async_lock.h"
#include "block/format/qcow2_alloc.h"
#include "block/iovecs.h"

namespace atl::block {

using namespace qcow2;

namespace {

constexpr u64 kL2CacheBytes = 8 * kMiB;
constexpr u64 kMaxNewBytes = 2 * kMiB;  // that one allocation step covers
constexpr u64 kAutoclearOffset = 88;

/// Neighbouring clusters that lie in the same way, from some guest offset on.
struct Run {
  Extent extent;  // of the first cluster
  u64 host = 0;   // Data: where the first byte is
  u64 bytes = 0;
};

class Qcow2Node final : public Node {
 public:
  Qcow2Node(NodePtr file, NodePtr backing, Qcow2Header header, Qcow2Options options);
  Task<Status> load();

  NodeInfo info() const override;
  u64 size_bytes() const override { return header_.size_bytes; }
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override;
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override;
  Task<Status> discard(u64 offset, u64 size) override;
  Task<Status> flush() override;

 private:
  enum class Clearing : u8 { Discard, ZeroAndUnmap, ZeroInPlace };

  u64 l1_index(u64 offset) const { return offset / geometry_.bytes_per_l2(); }
  u64 l2_index(u64 offset) const { return offset / geometry_.cluster_bytes() % geometry_.l2_entries(); }
  bool is_in_place(const Run& run) const { return run.extent.kind == Extent::Data && run.extent.copied; }
  Error corrupt(const char* what, u64 where) const;
  Status check_write(u64 offset, u64 size) const;

  Task<Result<Run>> find_run(u64 offset, u64 limit);
  Task<Status> read_locked(u64 offset, std::span<const iovec> out);
  Task<Status> read_run(const Run& run, u64 offset, std::span<const iovec> out);
  Task<Status> write_data(u64 offset, std::span<const iovec> data);
  Task<Result<u64>> write_existing(u64 offset, std::span<const iovec> data);
  Task<Result<u64>> write_new(u64 offset, std::span<const iovec> data);
  Task<Status> write_new_clusters(u64 offset, std::span<const iovec> data, u64 host);
  Task<Result<MetaCache::Ref>> l2_for_writing(u64 offset);
  Task<Status> clear_clusters(u64 offset, u64 end, Clearing how);
  u64 cleared_entry(u64 entry, Clearing how) const;
  void replace_entry(MetaCluster& l2, u64 index, u64 entry);
  Task<Status> prepare_for_writing();
  Task<Status> sync();
  Task<Status> write_l1();

  NodePtr file_, backing_;
  Qcow2Header header_;
  const Geometry geometry_;
  const Qcow2Options options_;
  Qcow2Allocator allocator_;
  MetaCache l2_;
  std::vector<u64> l1_;
  std::set<u64> dirty_l1_;
  AsyncLock lock_;
};

Qcow2Node::Qcow2Node(NodePtr file, NodePtr backing, Qcow2Header header,
                     Qcow2Options options)
    : file_(std::move(file)),
      backing_(std::move(backing)),
      header_(std::move(header)),
      geometry_(header_.geometry),
      options_(std::move(options)),
      allocator_(*file_, header_),
      l2_(*file_, geometry_.cluster_bytes(), kL2CacheBytes) {}

Task<Status> Qcow2Node::load() {
  std::vector<u8> bytes(8 * u64{header_.l1_entries});
  iovec whole{bytes.data(), bytes.size()};
  Status status = co_await read_padded(*file_, header_.l1_offset, {&whole, 1});
  CO_TRY(std::move(status));
  l1_.resize(header_.l1_entries);
  for (size_t i = 0; i < l1_.size(); ++i) l1_[i] = load_be<u64>(&bytes[8 * i]);
  co_return co_await allocator_.load();
}

NodeInfo Qcow2Node::info() const {
  NodeInfo info = file_->info();
  info.node_name = options_.node_name;
  info.driver = "qcow2";
  info.size_bytes = header_.size_bytes;
  info.readonly = options_.readonly;
  info.request_alignment = 1;
  info.can_discard = !options_.readonly;
  return info;
}

Error Qcow2Node::corrupt(const char* what, u64 where) const {
  return Error(
      ErrorKind::Io,
      fmt::format("{} is corrupt: {} at {:#x} is not aligned to a cluster", file_->info().filename, what, where), EIO);
}

Status Qcow2Node::check_write(u64 offset, u64 size) const {
  if (options_.readonly) return Error(ErrorKind::Permission, "this node is read-only", EPERM);
  return check_range(offset, size, header_.size_bytes);
}

// --- looking up ---

Task<Result<Run>> Qcow2Node::find_run(u64 offset, u64 limit) {
  const u64 in_cluster = offset % geometry_.cluster_bytes();
  const u64 l2_offset = l1_[l1_index(offset)] & kOffsetMask;
  limit = std::min(limit, geometry_.bytes_per_l2() - offset % geometry_.bytes_per_l2());
  if (l2_offset == 0) co_return Run{{}, 0, limit};
  if (l2_offset % geometry_.cluster_bytes()) co_return corrupt("L2 table", l2_offset);
  Result<MetaCache::Ref> got = co_await l2_.get(l2_offset);
  MetaCache::Ref l2 = CO_TRY(std::move(got));
  u64 index = l2_index(offset);
  Run run{decode_l2(l2->entry(index)), 0, geometry_.cluster_bytes() - in_cluster};
  if (run.extent.host % geometry_.cluster_bytes()) co_return corrupt("a cluster", run.extent.host);
  run.host = run.extent.host + in_cluster;
  while (run.bytes < limit) {
    Extent next = decode_l2(l2->entry(++index));
    bool follows = next.kind != Extent::Data || next.host == run.extent.host + in_cluster + run.bytes;
    if (next.kind != run.extent.kind || next.copied != run.extent.copied || !follows) break;
    run.bytes += geometry_.cluster_bytes();
  }
  run.bytes = std::min(run.bytes, limit);
  co_return run;
}

// --- reading ---

Task<Status> Qcow2Node::read(u64 offset, std::span<const iovec> out) {
  CO_TRY(check_range(offset, iovec_bytes(out), header_.size_bytes));
  co_await lock_.shared();
  Status status = co_await read_locked(offset, out);
  lock_.release();
  co_return status;
}

Task<Status> Qcow2Node::read_locked(u64 offset, std::span<const iovec> out) {
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

Task<Status> Qcow2Node::read_run(const Run& run, u64 offset, std::span<const iovec> out) {
  switch (run.extent.kind) {
    case Extent::Data: co_return co_await read_padded(*file_, run.host, out);
    case Extent::Backing:
      if (backing_) co_return co_await read_padded(*backing_, offset, out);
      break;
    case Extent::Compressed:
      co_return Error(ErrorKind::Unsupported, "compressed qcow2 clusters are not supported", ENOTSUP);
    case Extent::Zero: break;
  }
  iovec_clear(out);
  co_return Status{};
}

// --- writing ---

Task<Status> Qcow2Node::write(u64 offset, std::span<const iovec> data, u32 flags) {
  CO_TRY(check_write(offset, iovec_bytes(data)));
  Status status = co_await write_data(offset, data);
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

Task<Status> Qcow2Node::write_data(u64 offset, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data);
  for (u64 done = 0; done < size;) {
    auto rest = iovec_slice(data, done);
    co_await lock_.shared();
    Result<u64> written = co_await write_existing(offset + done, rest);
    lock_.release();
    if (written && *written == 0) {
      co_await lock_.exclusive();
      written = co_await write_new(offset + done, rest);
      lock_.release();
    }
    done += CO_TRY(std::move(written));
  }
  co_return Status{};
}

/// Writes what lies in clusters of our own, up to the first that does not; gives the bytes done.
Task<Result<u64>> Qcow2Node::write_existing(u64 offset, std::span<const iovec> data) {
  Result<Run> found = co_await find_run(offset, iovec_bytes(data));
  Run run = CO_TRY(std::move(found));
  if (!is_in_place(run)) co_return u64{0};
  auto part = iovec_slice(data, 0, run.bytes);
  Status status = co_await write_growing(*file_, run.host, std::span<const iovec>(part));
  CO_TRY(std::move(status));
  co_return run.bytes;
}

/// Gives the clusters at `offset` a place of their own and writes there; gives the bytes done.
Task<Result<u64>> Qcow2Node::write_new(u64 offset, std::span<const iovec> data) {
  Result<u64> meanwhile = co_await write_existing(offset, data);  // somebody may have been faster
  if (!meanwhile || *meanwhile) co_return meanwhile;
  Status status = co_await prepare_for_writing();
  CO_TRY(std::move(status));
  u64 most = kMaxNewBytes - offset % geometry_.cluster_bytes();
  Result<Run> found = co_await find_run(offset, std::min(iovec_bytes(data), most));
  Run run = CO_TRY(std::move(found));
  if (run.extent.kind == Extent::Compressed)
    co_return Error(ErrorKind::Unsupported, "compressed qcow2 clusters are not supported", ENOTSUP);
  Result<MetaCache::Ref> table = co_await l2_for_writing(offset);
  MetaCache::Ref l2 = CO_TRY(std::move(table));
  const u64 head = offset % geometry_.cluster_bytes();
  Result<Qcow2Allocator::Clusters> found_place = co_await allocator_.allocate(1, geometry_.clusters(head + run.bytes));
  const Qcow2Allocator::Clusters place = CO_TRY(std::move(found_place));
  const u64 bytes = std::min(run.bytes, (place.count << geometry_.cluster_bits) - head);
  auto part = iovec_slice(data, 0, bytes);
  status = co_await write_new_clusters(offset, part, place.offset);
  for (u64 i = 0; i < place.count; ++i) {
    u64 at = place.offset + (i << geometry_.cluster_bits);
    if (status)
      replace_entry(*l2, l2_index(offset) + i, at | kCopied);
    else
      allocator_.free_later(at);
  }
  CO_TRY(std::move(status));
  if (l2_.is_overfull() || allocator_.is_overfull()) status = co_await sync();
  CO_TRY(std::move(status));
  co_return bytes;
}

/// The data, and around it what the clusters held before.
Task<Status> Qcow2Node::write_new_clusters(u64 offset, std::span<const iovec> data, u64 host) {
  const u64 end = offset + iovec_bytes(data);
  std::vector<u8> head(offset % geometry_.cluster_bytes());
  std::vector<u8> tail(align_up(end, geometry_.cluster_bytes()) - end);
  iovec head_vec{head.data(), head.size()}, tail_vec{tail.data(), tail.size()};
  Status status = co_await read_locked(offset - head.size(), {&head_vec, 1});
  CO_TRY(std::move(status));
  status = co_await read_locked(end, {&tail_vec, 1});
  CO_TRY(std::move(status));
  std::vector<iovec> all;
  if (!head.empty()) all.push_back(head_vec);
  for (const iovec& part : data) all.push_back(part);
  if (!tail.empty()) all.push_back(tail_vec);
  co_return co_await write_growing(*file_, host, std::span<const iovec>(all));
}

/// The L2 table for `offset`, as one that no snapshot shares.
Task<Result<MetaCache::Ref>> Qcow2Node::l2_for_writing(u64 offset) {
  u64& l1 = l1_[l1_index(offset)];
  const u64 old = l1 & kOffsetMask;
  if (old % geometry_.cluster_bytes()) co_return corrupt("L2 table", old);
  std::vector<u8> content;
  if (old) {
    Result<MetaCache::Ref> shared = co_await l2_.get(old);
    MetaCache::Ref table = CO_TRY(std::move(shared));
    if (l1 & kCopied) co_return table;
    content = table->bytes;
  }
  Result<Qcow2Allocator::Clusters> place = co_await allocator_.allocate(1, 1);
  u64 at = CO_TRY(std::move(place)).offset;
  if (old) allocator_.free_later(old);
  l1 = at | kCopied;
  dirty_l1_.insert(l1_index(offset));
  co_return l2_.add(at, std::move(content));
}

void Qcow2Node::replace_entry(MetaCluster& l2, u64 index, u64 entry) {
  u64 before = decode_l2(l2.entry(index)).host;
  if (before && before != (entry & kOffsetMask)) allocator_.free_later(before);
  l2.set_entry(index, entry);
}

/// Version 3 images lose what newer programs keep beside the data (bitmaps) when an older one writes: that is us.
Task<Status> Qcow2Node::prepare_for_writing() {
  if (header_.autoclear == 0) co_return Status{};
  u8 zero[8] = {};
  Status status = co_await write_growing(*file_, kAutoclearOffset, std::span<const u8>(zero));
  if (status) header_.autoclear = 0;
  co_return status;
}

// --- zeroes and discard ---

Task<Status> Qcow2Node::write_zeroes(u64 offset, u64 size, u32 flags) {
  CO_TRY(check_write(offset, size));
  const u64 end = offset + size, cluster = geometry_.cluster_bytes();
  u64 first = std::min(align_up(offset, cluster), end);
  u64 last = end >= header_.size_bytes ? end : std::max(first, align_down(end, cluster));
  bool can_clear = header_.version >= 3 || !backing_;
  if (!can_clear) first = last = end;
  Status status = co_await write_zeroes_as_data(*this, offset, first - offset);
  CO_TRY(std::move(status));
  status = co_await clear_clusters(first, last, flags & kMayUnmap ? Clearing::ZeroAndUnmap : Clearing::ZeroInPlace);
  CO_TRY(std::move(status));
  status = co_await write_zeroes_as_data(*this, last, end - last);
  if (status && (flags & kFua)) status = co_await flush();
  co_return status;
}

/// Whole clusters only: the rest of a range stays as it is.
Task<Status> Qcow2Node::discard(u64 offset, u64 size) {
  CO_TRY(check_write(offset, size));
  const u64 end = offset + size, cluster = geometry_.cluster_bytes();
  u64 first = align_up(offset, cluster);
  u64 last = end >= header_.size_bytes ? end : align_down(end, cluster);
  if (first >= last || (header_.version < 3 && backing_)) co_return Status{};
  co_return co_await clear_clusters(first, last, Clearing::Discard);
}

/// What makes a cluster read as zeroes; version 2 has no zero flag, and gets here only without a backing file.
u64 Qcow2Node::cleared_entry(u64 entry, Clearing how) const {
  if (header_.version < 3) return 0;
  Extent old = decode_l2(entry);
  if (how == Clearing::ZeroInPlace && old.copied) return old.host | kCopied | kZero;
  return how == Clearing::Discard && !backing_ ? 0 : kZero;
}

Task<Status> Qcow2Node::clear_clusters(u64 offset, u64 end, Clearing how) {
  if (offset >= end) co_return Status{};
  co_await lock_.exclusive();
  Status status = co_await prepare_for_writing();
  while (status && offset < end) {
    u64 table_end = std::min(end, align_down(offset, geometry_.bytes_per_l2()) + geometry_.bytes_per_l2());
    bool is_hole = (l1_[l1_index(offset)] & kOffsetMask) == 0;
    if (is_hole && !backing_) {
      offset = table_end;
      continue;
    }
    Result<MetaCache::Ref> l2 = co_await l2_for_writing(offset);
    if (!l2) {
      status = std::move(l2).error();
      break;
    }
    for (; offset < table_end; offset += geometry_.cluster_bytes()) {
      u64 entry = (*l2)->entry(l2_index(offset));
      if (!(entry & kCompressed)) replace_entry(**l2, l2_index(offset), cleared_entry(entry, how));
    }
    if (l2_.is_overfull() || allocator_.is_overfull()) status = co_await sync();
  }
  lock_.release();
  co_return status;
}

// --- writing metadata back ---

Task<Status> Qcow2Node::flush() {
  if (options_.readonly) co_return Status{};
  co_await lock_.exclusive();
  Status status = co_await sync();
  lock_.release();
  co_return status;
}

/// Refcounts before what needs them, tables before what leads to them, and freed clusters only when nothing leads
/// there.
Task<Status> Qcow2Node::sync() {
  bool dirty = allocator_.is_dirty() || l2_.has_dirty() || !dirty_l1_.empty();
  if (!dirty) co_return co_await file_->flush();
  Status status = co_await allocator_.write_back();
  CO_TRY(std::move(status));
  status = co_await file_->flush();
  CO_TRY(std::move(status));
  status = co_await l2_.write_back();
  CO_TRY(std::move(status));
  if (!dirty_l1_.empty()) {
    status = co_await file_->flush();
    CO_TRY(std::move(status));
    status = co_await write_l1();
    CO_TRY(std::move(status));
  }
  status = co_await file_->flush();
  CO_TRY(std::move(status));
  status = co_await allocator_.release_pending();
  CO_TRY(std::move(status));
  co_return co_await allocator_.write_back();
}

Task<Status> Qcow2Node::write_l1() {
  while (!dirty_l1_.empty()) {
    u64 index = *dirty_l1_.begin();
    u8 entry[8];
    store_be(entry, l1_[index]);
    Status status = co_await write_growing(*file_, header_.l1_offset + 8 * index, std::span<const u8>(entry));
    CO_TRY(std::move(status));
    dirty_l1_.erase(index);
  }
  co_return Status{};
}

Status check_writable(const Qcow2Header& header, const std::string& name) {
  if (header.incompatible & kCorrupt)
    return Error(ErrorKind::Invalid, name + " is marked corrupt and can only be opened read-only");
  if (header.incompatible & kDirty)
    return Error(ErrorKind::Invalid, name + " was not closed properly and must be repaired before it is written");
  return {};
}

}  // namespace

Task<Result<std::unique_ptr<Node>>> open_qcow2_node(NodePtr file, NodePtr backing,
                                                    Qcow2Options options) {
  const NodeInfo below = file->info();
  Result<Qcow2Header> parsed = co_await read_qcow2_header(*file);
  Qcow2Header header = CO_TRY(std::move(parsed).context(below.filename));
  options.readonly |= below.readonly;
  if (!options.readonly) CO_TRY(check_writable(header, below.filename));
  if (options.node_name.empty()) options.node_name = generate_node_name();
  auto node = std::make_unique<Qcow2Node>(std::move(file), std::move(backing), std::move(header), std::move(options));
  Status status = co_await node->load();
  CO_TRY(std::move(status).context(below.filename));
  co_return std::unique_ptr<Node>(std::move(node));
}

}  // namespace atl::block
