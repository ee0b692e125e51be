#include "block/format/qcow2/write.h"

#include <algorithm>

#include "base/task_group.h"
#include "block/format/qcow2/bitmaps.h"
#include "block/format/qcow2/io.h"
#include "block/format/qcow2/read.h"
#include "block/iovecs.h"

namespace atl::block::qcow2 {
namespace {

constexpr u64 kMaxNewBytes = 4 * kMiB;   // that one allocation covers
constexpr u64 kMaxCipherBytes = 2 * kMiB;

/// How a piece of a request gets clusters of its own.
struct Plan {
  u64 offset = 0, bytes = 0;    // what the request writes
  u64 start = 0, end = 0;       // with what must be copied around it; whole units
  bool copy_all = false;        // clusters as a whole move: others have the old ones, or they are compressed
  bool head_zero = false, tail_zero = false;
  Place place;                  // of the clusters from cluster_start(offset) on
  bool reused = false;          // they were there before
};

Plan make_plan(const Core& core, const Run& run, u64 offset, u64 bytes) {
  const Geometry& g = core.geometry();
  Plan plan;
  plan.offset = offset;
  plan.bytes = std::min(bytes, run.bytes);
  plan.reused = run.placed && run.copied;
  plan.copy_all = !plan.reused && (run.placed || run.kind == Extent::Compressed);
  const u64 unit = plan.copy_all ? g.cluster_bytes() : g.unit_bytes();
  plan.start = align_down(offset, unit);
  plan.end = align_up(offset + plan.bytes, unit);
  const bool uniform = !plan.copy_all || g.units() == 1;
  plan.head_zero = uniform && core.reads_as_zero(run, plan.start);
  plan.tail_zero = uniform && core.reads_as_zero(run, offset + plan.bytes);
  if (plan.reused) plan.place = {g.cluster_start(run.host), g.clusters(plan.end - g.cluster_start(offset)), false};
  return plan;
}

/// Clusters for the plan, which shrinks to what there was in one place.
Task<Status> allocate(Core& core, Plan& plan) {
  const Geometry& g = core.geometry();
  Result<Core::EntryPlace> table = co_await core.entry_for_writing(plan.offset);  // errors early
  if (!table) co_return Error(table.error());
  if (plan.reused) co_return Status{};
  const u64 first = g.cluster_start(plan.offset);
  const u64 wanted = g.clusters(g.cluster_end(plan.end) - first);
  if (core.external()) {
    plan.place = {first, wanted, false};
    co_return co_await grow_to(*core.data, std::min(first + (wanted << g.cluster_bits), align_up(core.header.size_bytes, kSectorBytes)));
  }
  Result<Place> got = co_await core.refcounts.allocate(1, wanted);
  plan.place = CO_TRY(std::move(got));
  const u64 covered = first + (plan.place.clusters << g.cluster_bits);
  if (covered < plan.end) {
    plan.end = covered;
    plan.bytes = covered - plan.offset;
    plan.tail_zero = false;
  }
  co_return Status{};
}

/// Bytes of the disk as they were, or the zeroes that a unit is filled up with.
Task<Status> surroundings(Core& core, u64 start, Bytes& bytes, bool zero) {
  if (bytes.size() == 0 || zero) co_return Status{};
  core.step("cow_read");
  iovec whole = bytes.vec();
  // Past the end of the disk there is nothing to read.
  const u64 end = align_up(core.header.size_bytes, kSectorBytes);
  whole.iov_len = start < end ? std::min(bytes.size(), end - start) : 0;
  co_return co_await read_disk(core, start, {&whole, 1});
}

Task<Status> write_planned(Core& core, const Plan& plan, std::span<const iovec> data) {
  const u64 data_end = plan.offset + plan.bytes;
  const bool blank = plan.place.fresh && !core.cipher;   // unwritten parts read as zeroes
  const bool with_head = !(blank && plan.head_zero), with_tail = !(blank && plan.tail_zero);
  Bytes head(with_head ? plan.offset - plan.start : 0), tail(with_tail ? plan.end - data_end : 0);
  Status status = co_await surroundings(core, plan.start, head, plan.head_zero);
  CO_TRY(std::move(status));
  status = co_await surroundings(core, data_end, tail, plan.tail_zero);
  CO_TRY(std::move(status));
  std::vector<iovec> all;
  if (head.size() || tail.size()) core.step("cow_write");
  if (head.size()) all.push_back(head.vec());
  for (const iovec& part : data) all.push_back(part);
  if (tail.size()) all.push_back(tail.vec());
  const u64 start = plan.offset - head.size();
  const u64 host = plan.place.offset + (start - core.geometry().cluster_start(plan.offset));
  co_return co_await write_stored(core, host, start, all);
}

/// The bitmap of an extended entry once units [first, end) of its cluster hold data.
u64 with_data(u64 bitmap, u32 first, u32 end) {
  const u64 mask = ((u64{1} << (end - first)) - 1) << first;
  return (bitmap | mask) & ~(mask << kSubclusters);
}

Task<Status> link(Core& core, const Plan& plan) {
  const Geometry& g = core.geometry();
  const u64 first = g.cluster_start(plan.offset);
  for (u64 at = first; at < plan.end;) {
    Result<Core::EntryPlace> got = co_await core.entry_for_writing(at);
    Core::EntryPlace place = CO_TRY(std::move(got));
    for (u64 end = std::min(core.slice_end(at), plan.end); at < end; at += g.cluster_bytes(), ++place.index) {
      L2Entry entry{(plan.place.offset + (at - first)) | kCopied, 0};
      if (g.extended_l2) {
        const u64 before = core.entry(*place.slice, place.index).bitmap;
        const u32 from = at < plan.start ? g.unit_of(plan.start) : 0;
        const u32 to = at + g.cluster_bytes() > plan.end ? g.unit_of(plan.end) : kSubclusters;
        entry.bitmap = plan.copy_all ? 0xffff'ffff : with_data(before, from, to);
      }
      core.replace(place, entry, FreedBy::Other);
    }
  }
  co_return co_await core.sync_if_full();
}

Task<Status> link_or_give_back(Core& core, const Plan& plan, Status written) {
  co_await core.tables.exclusive();
  if (written) written = co_await link(core, plan);
  else if (!plan.reused && !core.external() && !core.broken) (void)co_await core.refcounts.give_back(plan.place);
  core.tables.release();
  co_return written;
}

/// Gives the clusters at `offset` a place of their own and writes there; gives the bytes done.
Task<Result<u64>> write_new(Core& core, u64 offset, std::span<const iovec> data) {
  const Geometry& g = core.geometry();
  const u64 most = std::min(iovec_bytes(data), kMaxNewBytes - g.in_cluster(offset));
  RangeLock::Guard guard = co_await core.ranges.acquire(g.cluster_start(offset), g.cluster_end(offset + most));
  Result<Run> found = co_await core.lookup(offset, most);
  const Run run = CO_TRY(std::move(found));
  if (run.in_place()) co_return u64{0};  // somebody was faster
  Plan plan = make_plan(core, run, offset, most);
  co_await core.tables.exclusive();
  Status status = co_await core.prepare_for_writing();
  if (status) status = co_await allocate(core, plan);
  if (status && plan.reused) status = core.check_overlap(plan.place.offset, plan.bytes);
  core.tables.release();
  CO_TRY(std::move(status));
  auto part = iovec_slice(data, 0, plan.bytes);
  status = co_await write_planned(core, plan, part);
  status = co_await link_or_give_back(core, plan, std::move(status));
  CO_TRY(std::move(status));
  co_return plan.bytes;
}

Task<Status> write_in_place(Core& core, const Run& run, u64 offset, std::span<const iovec> data) {
  if (Status clear = core.check_overlap(run.host, run.bytes); !clear) co_return clear;
  co_return co_await write_stored(core, run.host, offset, data);
}

Task<Status> write_encrypted(Core& core, u64 host, u64 guest, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data);
  for (u64 done = 0; done < size;) {
    // Sectors that are written in part are read first.
    const u64 head = (guest + done) % kSectorBytes, bytes = std::min(size - done, kMaxCipherBytes - head);
    Bytes buffer(align_up(head + bytes, kSectorBytes));
    if (head || (head + bytes) % kSectorBytes) {
      iovec whole = buffer.vec();
      Status status = co_await read_stored(core, host + done - head, guest + done - head, {&whole, 1});
      CO_TRY(std::move(status));
    }
    iovec_copy_from(iovec_slice(data, done, bytes), buffer.span().subspan(head));
    Cipher::Where where{host + done - head, guest + done - head};
    Status status = co_await core.cipher->encrypt(core, where, buffer.span());
    CO_TRY(std::move(status));
    iovec whole = buffer.vec();
    core.step("write_aio");
    status = co_await core.data->write(where.host, {&whole, 1}, kNoFlags);
    CO_TRY(std::move(status));
    done += bytes;
  }
  co_return Status{};
}

}  // namespace

Task<Status> write_stored(Core& core, u64 host, u64 guest, std::span<const iovec> data) {
  if (core.cipher) co_return co_await write_encrypted(core, host, guest, data);
  if (core.header.encryption != kPlain) co_return core.locked();
  if (host + iovec_bytes(data) > core.data->size_bytes()) {
    // A cluster whose entry leads past the end of the file, or the file's odd end.
    co_await core.tables.exclusive();
    Status status = co_await grow_to(*core.data, host + iovec_bytes(data));
    core.tables.release();
    CO_TRY(std::move(status));
  }
  core.step("write_aio");
  co_return co_await core.data->write(host, data, kNoFlags);
}

Task<Status> write_disk(Core& core, u64 offset, std::span<const iovec> data) {
  const u64 size = iovec_bytes(data);
  if (!core.prepared) {
    co_await core.tables.exclusive();
    Status status = co_await core.prepare_for_writing();
    core.tables.release();
    CO_TRY(std::move(status));
  }
  for (u64 done = 0; done < size;) {
    Result<Run> found = co_await core.lookup(offset + done, size - done);
    const Run run = CO_TRY(std::move(found));
    auto rest = iovec_slice(data, done, run.bytes);
    if (run.in_place()) {
      Status status = co_await write_in_place(core, run, offset + done, rest);
      CO_TRY(std::move(status));
      done += run.bytes;
      continue;
    }
    Result<u64> written = co_await write_new(core, offset + done, rest);
    done += CO_TRY(std::move(written));
  }
  co_return Status{};
}

}  // namespace atl::block::qcow2
