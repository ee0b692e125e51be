#include "block/format/qcow2/read.h"

#include <algorithm>

#include "base/task_group.h"
#include "block/format/qcow2/compressed.h"
#include "block/format/qcow2/io.h"
#include "block/iovecs.h"

namespace atl::block::qcow2 {
namespace {

constexpr unsigned kRunsAtOnce = 16;

Task<Status> read_encrypted(Core& core, u64 host, u64 guest, std::span<const iovec> out) {
  // Whole sectors: what is asked for may begin and end inside of one.
  const u64 head = guest % kSectorBytes, bytes = iovec_bytes(out);
  Bytes buffer(align_up(head + bytes, kSectorBytes));
  core.step("read_aio");
  Status status = co_await read_padded(*core.data, host - head, buffer.span());
  CO_TRY(std::move(status));
  status = co_await core.cipher->decrypt(core, {host - head, guest - head}, buffer.span());
  CO_TRY(std::move(status));
  iovec_copy_to(out, buffer.span().subspan(head, bytes));
  co_return Status{};
}

/// From the backing file, which may be shorter.
Task<Status> read_backing(Core& core, u64 offset, std::span<const iovec> out) {
  if (!core.backing) {
    iovec_clear(out);
    co_return Status{};
  }
  core.step("read_backing_aio");
  co_return co_await read_padded(*core.backing, offset, out);
}

Task<Status> read_run(Core& core, Run run, u64 offset, std::vector<iovec> out) {
  switch (run.kind) {
    case Extent::Data: co_return co_await read_stored(core, run.host, offset, out);
    case Extent::Backing: co_return co_await read_backing(core, offset, out);
    case Extent::Compressed: co_return co_await read_compressed(core, run.compressed, core.geometry().in_cluster(offset), out);
    default: iovec_clear(out); co_return Status{};
  }
}

}  // namespace

Task<Status> read_stored(Core& core, u64 host, u64 guest, std::span<const iovec> out) {
  if (core.cipher) co_return co_await read_encrypted(core, host, guest, out);
  if (core.header.encryption != kPlain) co_return core.locked();
  core.step("read_aio");
  co_return co_await read_padded(*core.data, host, out);
}

Task<Status> read_disk(Core& core, u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  TaskGroup group(kRunsAtOnce);
  Status status;
  for (u64 done = 0; done < size && status;) {
    Result<Run> found = co_await core.lookup(offset + done, size - done);
    if (!found) {
      status = Error(found.error());
      break;
    }
    const Run run = *found;
    auto part = iovec_slice(out, done, run.bytes);
    // The usual case: all of it lies in one place.
    if (run.bytes == size) co_return co_await read_run(core, run, offset, std::move(part));
    status = co_await group.room();
    group.add(read_run(core, run, offset + done, std::move(part)));
    done += run.bytes;
  }
  Status rest = co_await group.all();
  co_return status ? rest : status;
}

Task<Result<BlockStatus>> disk_status(Core& core, u64 offset, u64 bytes) {
  Result<Run> found = co_await core.lookup(offset, bytes);
  const Run run = CO_TRY(std::move(found));
  BlockStatus status;
  status.bytes = run.bytes;
  status.allocated = run.kind != Extent::Backing;
  status.data = run.kind == Extent::Data || run.kind == Extent::Compressed;
  status.zero = core.reads_as_zero(run, offset);
  status.compressed = run.kind == Extent::Compressed;
  if (run.placed && !core.cipher) {
    status.offset = run.host;
    status.file = core.data.get();
  }
  co_return status;
}

}  // namespace atl::block::qcow2
