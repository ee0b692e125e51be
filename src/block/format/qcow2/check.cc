#include "block/format/qcow2/check.h"

#include <fmt/format.h>

#include <algorithm>

#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {
namespace {

/// Every block lies in one window as a whole.
u64 window_clusters(const Geometry& g) { return std::max(kWindowClusters, g.refcounts_per_block()); }

u64 file_clusters(const Core& core) { return core.geometry().clusters(core.file->size_bytes()); }

/// Compares the refcounts of one block, and mends what may be mended.
class BlockCheck {
 public:
  BlockCheck(Core& core, Findings& findings, const Counts& counts, std::span<u8> block)
      : core_(core), findings_(findings), counts_(counts), block_(block) {}

  /// Clusters from `first` to `limit`. `present`: there is a block, which can be changed. Gives whether it was.
  bool run(u64 first, u64 limit, bool present) {
    const u64 end = std::min(first + core_.geometry().refcounts_per_block(), limit);
    bool changed = false;
    for (u64 cluster = first; cluster < end; ++cluster) {
      const u64 stored = load_refcount(block_.data(), cluster - first, core_.geometry().refcount_order);
      const u64 counted = counts_.get(cluster);
      if (stored != counted) changed |= compare(cluster, cluster - first, stored, counted, present);
    }
    return changed;
  }

 private:
  bool compare(u64 cluster, u64 index, u64 stored, u64 counted, bool present) {
    const bool leaked = stored > counted;
    // A cluster in use that counts as free may be a refcount block itself: they are all made anew.
    if (stored == 0) findings_.rebuild = true;
    if (counted > core_.geometry().max_refcount()) {
      ++findings_.report.check_errors;
      findings_.note(fmt::format("ERROR cluster {} has {} references, more than its refcount can hold", cluster, counted));
      return false;
    }
    const bool allowed = leaked ? findings_.repair != Repair::None : findings_.fixes();
    const bool mend = allowed && present && stored != 0 && !findings_.rebuild;
    const std::string text = fmt::format("cluster {} refcount={} reference={}", cluster, stored, counted);
    findings_.refcount(text, leaked, mend);
    if (mend) store_refcount(block_.data(), index, core_.geometry().refcount_order, counted);
    return mend;
  }

  Core& core_;
  Findings& findings_;
  const Counts& counts_;
  std::span<u8> block_;
};

Task<Status> check_block(Core& core, Findings& findings, const Counts& counts, u64 first) {
  const Geometry& g = core.geometry();
  const u64 index = first / g.refcounts_per_block();
  u8 entry[8] = {};
  if (index < u64{core.header.refcount_table_clusters} * g.cluster_bytes() / 8) {
    Status status = co_await read_padded(*core.file, core.header.refcount_table_offset + 8 * index, std::span<u8>(entry));
    CO_TRY(std::move(status));
  }
  const u64 place = load_be<u64>(entry);
  const bool present = place != 0 && !g.in_cluster(place) && place < core.file->size_bytes();
  std::vector<u8> block(g.cluster_bytes());
  if (present) {
    Status status = co_await read_padded(*core.file, place, std::span<u8>(block));
    CO_TRY(std::move(status));
  }
  BlockCheck check(core, findings, counts, block);
  if (check.run(first, file_clusters(core), present)) co_return co_await write_growing(*core.file, place, std::span<const u8>(block));
  co_return Status{};
}

Task<Status> check_window(Core& core, Findings& findings, u64 window, bool first) {
  const u64 size = window_clusters(core.geometry()), start = window * size;
  const u64 end = std::min(start + size, std::max(file_clusters(core), u64{1}));
  Counts counts(start, align_up(end - start, core.geometry().refcounts_per_block()));
  Walk walk(core, findings, counts, first, size);
  Status status = co_await walk.all(true);
  CO_TRY(std::move(status));
  // A rebuild makes all of them anew.
  if (findings.rebuild && findings.fixes()) co_return Status{};
  for (u64 block = start; block < end; block += core.geometry().refcounts_per_block()) {
    status = co_await check_block(core, findings, counts, block);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

/// Windows that nothing refers to, but which have refcount blocks: all in them has leaked.
Task<Status> add_counted_windows(Core& core, Findings& findings) {
  const Geometry& g = core.geometry();
  const u64 bytes = u64{core.header.refcount_table_clusters} << g.cluster_bits;
  std::vector<u8> table(bytes);
  Status status = co_await read_padded(*core.file, core.header.refcount_table_offset, std::span<u8>(table));
  CO_TRY(std::move(status));
  for (u64 i = 0; i < bytes / 8; ++i) {
    const u64 first = i * g.refcounts_per_block();
    if (load_be<u64>(&table[8 * i]) && first < file_clusters(core)) findings.windows.insert(first / window_clusters(g));
  }
  co_return Status{};
}

Task<Status> check_windows(Core& core, Findings& findings) {
  Status status = co_await check_window(core, findings, 0, true);
  CO_TRY(std::move(status));
  status = co_await add_counted_windows(core, findings);
  CO_TRY(std::move(status));
  const std::set<u64> windows = findings.windows;
  for (u64 window : windows) {
    if (window == 0) continue;
    status = co_await check_window(core, findings, window, false);
    CO_TRY(std::move(status));
  }
  findings.note_repairs();
  co_return Status{};
}

/// From memory to disk, and away from memory: the check works on what is stored.
Task<Status> put_away(Core& core) {
  if (!core.options.readonly && !core.broken) {
    Status status = co_await core.sync(true);
    CO_TRY(std::move(status));
  }
  core.l2.clear();
  core.refcounts.reset();
  co_return Status{};
}

Task<Status> take_back(Core& core) {
  core.l2.clear();
  core.refcounts.reset();
  core.prepared = false;
  Status status = co_await core.load();
  CO_TRY(std::move(status));
  co_return Status{};
}

Task<Status> finish_repair(Core& core, Findings& findings) {
  const CheckReport& report = findings.report;
  Status status = co_await core.file->flush();
  CO_TRY(std::move(status));
  if (report.check_errors || report.corruptions) co_return Status{};
  status = co_await core.set_features(0, kDirty | kCorrupt);
  CO_TRY(std::move(status));
  core.broken = false;
  co_return co_await core.file->flush();
}

Task<Status> check_held(Core& core, Findings& findings) {
  Status status = co_await put_away(core);
  CO_TRY(std::move(status));
  status = co_await check_windows(core, findings);
  CO_TRY(std::move(status));
  if (findings.rebuild && findings.fixes()) {
    status = co_await rebuild_refcounts(core, findings, window_clusters(core.geometry()));
    CO_TRY(std::move(status));
  }
  status = co_await take_back(core);
  CO_TRY(std::move(status));
  status = co_await check_copied_marks(core, findings);
  CO_TRY(std::move(status));
  if (findings.repair != Repair::None) co_return co_await finish_repair(core, findings);
  co_return Status{};
}

}  // namespace

Task<Result<CheckReport>> check_image(Core& core, Repair repair, Progress progress) {
  if (repair != Repair::None && core.options.readonly)
    co_return Error(ErrorKind::Permission, core.name + " is open for reading only", EPERM);
  Findings findings;
  findings.repair = repair;
  findings.progress = std::move(progress);
  findings.report.total_clusters = core.geometry().clusters(core.header.size_bytes);
  co_await core.tables.exclusive();
  Status status = co_await check_held(core, findings);
  core.tables.release();
  CO_TRY(std::move(status));
  findings.report.image_end_offset = (findings.highest + 1) << core.geometry().cluster_bits;
  co_return std::move(findings.report);
}

// --- marks ---

namespace {

Task<Status> check_marks_of_slice(Core& core, Findings& findings, const Cache::Ref& slice, Refcounts::Cursor& refcounts,
                                  bool fix) {
  const u64 stride = core.geometry().l2_entry_bytes() / 8;
  for (u64 i = 0; i * 8 * stride < core.l2.slice_bytes(); ++i) {
    const u64 word = slice->word(i * stride), host = word & kOffsetMask;
    if ((word & kCompressed) || host == 0 || core.external() || core.geometry().in_cluster(host)) continue;
    const u64 cluster = host >> core.geometry().cluster_bits;
    std::optional<u64> now = refcounts.get_now(cluster);
    if (!now) {
      Result<u64> count = co_await refcounts.get(cluster);
      now = CO_TRY(std::move(count));
    }
    const u64 refcount = *now;
    if ((refcount == 1) == ((word & kCopied) != 0)) continue;
    findings.corruption(fmt::format("OFLAG_COPIED data cluster: l2_entry={:x} refcount={}", word, refcount), fix);
    if (!fix) continue;
    slice->set_word(i * stride, refcount == 1 ? word | kCopied : word & ~kCopied);
    core.l2.mark_dirty(slice);
  }
  co_return Status{};
}

Task<Status> check_marks_of_table(Core& core, Findings& findings, u64 index, Refcounts::Cursor& refcounts, bool fix) {
  const u64 entry = core.l1[index], table = entry & kOffsetMask;
  Result<u64> count = co_await refcounts.get(table >> core.geometry().cluster_bits);
  const u64 refcount = CO_TRY(std::move(count));
  if ((refcount == 1) != ((entry & kCopied) != 0)) {
    findings.corruption(fmt::format("OFLAG_COPIED L2 cluster: l1_index={} l1_entry={:x} refcount={}", index, entry, refcount), fix);
    if (fix) {
      core.l1[index] = refcount == 1 ? entry | kCopied : entry & ~kCopied;
      core.dirty_l1.insert(index);
    }
  }
  for (u64 at = 0; at < core.geometry().cluster_bytes(); at += core.l2.slice_bytes()) {
    Result<Cache::Ref> got = co_await core.l2.get(table + at);
    Cache::Ref slice = CO_TRY(std::move(got));
    Status status = co_await check_marks_of_slice(core, findings, slice, refcounts, fix);
    CO_TRY(std::move(status));
  }
  if (fix) co_return co_await core.sync_if_full();
  co_return Status{};
}

}  // namespace

Task<Status> check_copied_marks(Core& core, Findings& findings) {
  const bool unreliable = findings.rebuild && !findings.fixes();   // refcounts that may not even be readable
  const bool fix = findings.fixes_marks();
  Status status = co_await core.refcounts.load();
  CO_TRY(std::move(status));
  Refcounts::Cursor refcounts(core.refcounts);
  for (u64 i = 0; i < core.l1.size(); ++i) {
    const u64 table = core.l1[i] & kOffsetMask;
    if (table == 0 || core.geometry().in_cluster(table) || table >= core.file->size_bytes()) continue;
    status = co_await check_marks_of_table(core, findings, i, refcounts, fix);
    if (!status && unreliable) co_return Status{};
    CO_TRY(std::move(status));
  }
  if (fix) co_return co_await core.sync(true);
  co_return Status{};
}

}  // namespace atl::block::qcow2
