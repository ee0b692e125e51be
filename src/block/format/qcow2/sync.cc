// Putting changed tables away, in an order that a power cut cannot turn into damage.
#include <fmt/format.h>

#include <algorithm>

#include "block/format/qcow2/core.h"
#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {

/// `with_refcounts`: also if the image is marked dirty and they might wait until it is closed.
Task<Status> Core::sync(bool with_refcounts) {
  Status status;
  if (unwritten_mark) {
    unwritten_mark = false;
    status = co_await set_features(kCorrupt, 0);
    CO_TRY(std::move(status));
  }
  if (!refcounts.is_dirty() && !l2.has_dirty() && dirty_l1.empty() && !refcounts.has_freed()) co_return co_await file->flush();
  const bool late_refcounts = (header.incompatible & kDirty) && !with_refcounts;
  if (refcounts.is_dirty() && !late_refcounts) {
    status = co_await refcounts.write_back();
    CO_TRY(std::move(status));
  }
  // What was copied into new clusters must be there before tables lead to it: it may have been flushed elsewhere.
  if (external()) status = co_await data->flush();
  CO_TRY(std::move(status));
  if (l2.has_dirty() || !dirty_l1.empty()) status = co_await file->flush();
  CO_TRY(std::move(status));
  status = co_await l2.write_back();
  CO_TRY(std::move(status));
  if (!dirty_l1.empty()) {
    status = co_await file->flush();
    CO_TRY(std::move(status));
    status = co_await write_l1();
    CO_TRY(std::move(status));
  }
  status = co_await file->flush();
  CO_TRY(std::move(status));
  status = co_await refcounts.release();
  CO_TRY(std::move(status));
  if (late_refcounts) co_return Status{};
  co_return co_await refcounts.write_back();
}

Task<Status> Core::sync_if_full() {
  if (!l2.is_overfull() && !refcounts.is_overfull()) co_return Status{};
  co_return co_await sync(true);
}

Task<Status> Core::write_l1() {
  while (!dirty_l1.empty()) {
    // A row of changed entries at a time.
    const u64 first = *dirty_l1.begin();
    u64 end = first + 1;
    while (dirty_l1.contains(end)) ++end;
    std::vector<u8> bytes(8 * (end - first));
    for (u64 i = first; i < end; ++i) store_be(&bytes[8 * (i - first)], l1[i]);
    step("l1_update");
    Status status = co_await write_growing(*file, header.l1_offset + 8 * first, std::span<const u8>(bytes));
    CO_TRY(std::move(status));
    dirty_l1.erase(dirty_l1.begin(), dirty_l1.lower_bound(end));
  }
  co_return Status{};
}

Task<Status> Core::set_features(u64 set, u64 clear) {
  if (header.version < 3) co_return Status{};
  const u64 after = (header.incompatible | set) & ~clear;
  u8 field[8];
  store_be(field, after);
  Status status = co_await write_growing(*file, kIncompatibleAt, std::span<const u8>(field));
  if (status) header.incompatible = after;
  co_return status;
}

/// Everything is on the disk: the image is no longer in use.
Task<Status> Core::mark_clean() {
  Status status = co_await sync(true);
  CO_TRY(std::move(status));
  if (options.readonly || !(header.incompatible & kDirty)) co_return Status{};
  status = co_await file->flush();
  CO_TRY(std::move(status));
  status = co_await set_features(0, kDirty);
  CO_TRY(std::move(status));
  prepared = false;
  co_return co_await file->flush();
}

Error Core::corrupt(std::string text) const {
  return Error(ErrorKind::Io, fmt::format("{} is corrupt: {}", name, text), EIO);
}

Error Core::locked() const {
  return Error(ErrorKind::Permission, name + " is encrypted and was opened without its secret", EPERM);
}

Error Core::damaged(std::string text) {
  if (!options.readonly && !broken) unwritten_mark = header.version >= 3;
  broken = true;
  return Error(ErrorKind::Io, fmt::format("{}: {}", name, text), EIO);
}

}  // namespace atl::block::qcow2
