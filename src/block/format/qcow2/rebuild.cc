// New refcount structures: where the old ones are damaged, they are made anew at the end of the file.
#include <fmt/format.h>

#include <algorithm>

#include "block/format/qcow2/check.h"
#include "block/format/qcow2/io.h"

namespace atl::block::qcow2 {
namespace {

class Rebuild {
 public:
  Rebuild(Core& core, Findings& findings, Geometry geometry, u64 window)
      : core_(core), findings_(findings), g_(geometry), window_(window) {}

  Task<Status> run() {
    start_ = g_.clusters(core_.file->size_bytes());
    Status status = co_await write_lower();
    CO_TRY(std::move(status));
    status = co_await write_upper();
    CO_TRY(std::move(status));
    co_return co_await switch_over();
  }

 private:
  u64 range_of(u64 cluster) const { return cluster / g_.refcounts_per_block(); }

  Task<Status> count(Counts& counts) {
    Findings unused;   // what is wrong has been told already
    Walk walk(core_, unused, counts, false, window_);
    co_return co_await walk.all(false);
  }

  Error overflow(u64 cluster, u64 refcount) const {
    if (g_.refcount_order == core_.geometry().refcount_order)
      return Error(ErrorKind::Invalid, "a cluster has more references than refcounts can hold", ERANGE);
    return Error(ErrorKind::Invalid, fmt::format("Cannot decrease refcount entry width to {} bits: Cluster at offset {:#x} has a refcount of {}",
                                                 1u << g_.refcount_order, cluster << g_.cluster_bits, refcount), EINVAL);
  }

  /// A block for a range of clusters, unless nothing there is in use.
  Task<Status> write_block(u64 range, const Counts& counts) {
    std::vector<u8> block(g_.cluster_bytes());
    bool used = false;
    for (u64 i = 0; i < g_.refcounts_per_block(); ++i) {
      const u64 value = counts.get(range * g_.refcounts_per_block() + i);
      if (value == 0) continue;
      if (value > g_.max_refcount()) co_return overflow(range * g_.refcounts_per_block() + i, value);
      store_refcount(block.data(), i, g_.refcount_order, value);
      used = true;
    }
    if (!used) co_return Status{};
    if (blocks_.size() > kMaxRefcountTableBytes / 8) co_return Error(ErrorKind::NoSpace, "the file is too large to be repaired", EFBIG);
    const u64 at = (start_ + blocks_.size()) << g_.cluster_bits;
    blocks_[range] = at;
    co_return co_await write_growing(*core_.file, at, std::span<const u8>(block));
  }

  /// All ranges below the one in which the new structures begin.
  Task<Status> write_lower() {
    for (u64 window : findings_.windows) {
      Counts counts(window * window_, window_);
      Status status = co_await count(counts);
      CO_TRY(std::move(status));
      for (u64 range = range_of(counts.first()); range < std::min(range_of(counts.end()), range_of(start_)); ++range) {
        status = co_await write_block(range, counts);
        CO_TRY(std::move(status));
      }
    }
    co_return Status{};
  }

  /// The ranges in which the new structures lie: they count themselves.
  Task<Status> write_upper() {
    const u64 lower = blocks_.size(), first = range_of(start_);
    u64 upper = 0, end = start_;
    for (u64 before = ~u64{0}; before != end;) {
      before = end;
      upper = range_of(end ? end - 1 : 0) - first + 1;
      table_clusters_ = std::max<u64>(1, g_.clusters(8 * (first + upper)));
      end = start_ + lower + upper + table_clusters_;
    }
    if (table_clusters_ << g_.cluster_bits > kMaxRefcountTableBytes)
      co_return Error(ErrorKind::NoSpace, "the file is too large to be repaired", EFBIG);
    Counts counts(first * g_.refcounts_per_block(), upper * g_.refcounts_per_block());
    Status status = co_await count(counts);
    CO_TRY(std::move(status));
    for (u64 cluster = start_; cluster < end; ++cluster) counts.add(cluster);
    for (u64 range = first; range < first + upper; ++range) {
      status = co_await write_block(range, counts);
      CO_TRY(std::move(status));
    }
    // Blocks that turned out empty leave clusters free at the end; the table comes last.
    table_ = (end - table_clusters_) << g_.cluster_bits;
    findings_.highest = std::max(findings_.highest, end - 1);
    co_return Status{};
  }

  Task<Status> switch_over() {
    std::vector<u8> table(table_clusters_ << g_.cluster_bits);
    for (auto [range, block] : blocks_) store_be(&table[8 * range], block);
    Status status = co_await write_growing(*core_.file, table_, std::span<const u8>(table));
    CO_TRY(std::move(status));
    status = co_await core_.file->flush();
    CO_TRY(std::move(status));
    core_.header.geometry = g_;
    core_.header.refcount_table_offset = table_;
    core_.header.refcount_table_clusters = static_cast<u32>(table_clusters_);
    status = co_await write_header(*core_.file, core_.header);
    CO_TRY(std::move(status));
    co_return co_await core_.file->flush();
  }

  Core& core_;
  Findings& findings_;
  const Geometry g_;
  const u64 window_;
  u64 start_ = 0, table_ = 0, table_clusters_ = 0;
  std::map<u64, u64> blocks_;   // by range: where the block is
};

}  // namespace

Task<Status> rebuild_refcounts(Core& core, Findings& findings, u64 window_clusters) {
  findings.note("Rebuilding refcount structure");
  Rebuild rebuild(core, findings, core.geometry(), window_clusters);
  Status status = co_await rebuild.run();
  CO_TRY(std::move(status));
  // Refcounts are right now; what was wrong in other tables may still be.
  CheckReport& report = findings.report;
  Findings again;
  again.repair = Repair::None;
  Counts none(0, 1);
  Walk walk(core, again, none, true, window_clusters);
  status = co_await walk.all(true);
  CO_TRY(std::move(status));
  report.corruptions_fixed += report.corruptions - std::min(report.corruptions, again.report.corruptions);
  report.corruptions = again.report.corruptions;
  report.leaks_fixed += std::exchange(report.leaks, 0);
  report.check_errors = again.report.check_errors;
  findings.rebuild = again.rebuild;
  co_return Status{};
}

Task<Status> change_refcount_width(Core& core, u32 order) {
  Geometry geometry = core.geometry();
  geometry.refcount_order = order;
  const u64 window = std::max(kWindowClusters, geometry.refcounts_per_block());
  Findings findings;
  Counts first(0, window);
  Walk walk(core, findings, first, true, window);
  Status status = co_await walk.all(false);
  CO_TRY(std::move(status));
  if (findings.report.corruptions || findings.report.check_errors)
    co_return Error(ErrorKind::Io, core.name + " is damaged; check and repair it first", EIO);
  Rebuild rebuild(core, findings, geometry, window);
  status = co_await rebuild.run();
  CO_TRY(std::move(status));
  core.refcounts.reset();
  core.prepared = false;
  co_return Status{};
}

}  // namespace atl::block::qcow2
