// Checks and repairs: refcounts are computed anew from all that refers to clusters, and compared.
//
// A window of the file's clusters is counted at a time, so memory stays bounded whatever the file's size; the tables are
// walked once for each window in use. What is wrong in tables themselves is found, and repaired, in the first walk.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "block/format/qcow2/core.h"
#include "block/image.h"

namespace atl::block::qcow2 {

Task<Result<CheckReport>> check_image(Core& core, Repair repair, Progress progress);

inline constexpr u64 kWindowClusters = u64{4} << 20;

/// References to the clusters of a window.
class Counts {
 public:
  Counts(u64 first, u64 clusters) : first_(first), counts_(clusters) {}
  u64 first() const { return first_; }
  u64 end() const { return first_ + counts_.size(); }
  void add(u64 cluster) {
    if (cluster < first_ || cluster >= end()) return;
    if (counts_[cluster - first_] == kFull) ++more_[cluster];
    else ++counts_[cluster - first_];
  }
  u64 get(u64 cluster) const {
    const u64 count = counts_[cluster - first_];
    if (count < kFull) return count;
    auto found = more_.find(cluster);
    return count + (found == more_.end() ? 0 : found->second);
  }

 private:
  static constexpr u16 kFull = 0xffff;
  u64 first_;
  std::vector<u16> counts_;
  std::map<u64, u64> more_;
};

/// What a check has found so far, and what it may do about it.
struct Findings {
  CheckReport report;
  Repair repair = Repair::None;
  Progress progress;
  bool rebuild = false;        // the refcount structures themselves are damaged
  u64 highest = 0;             // the last cluster that is referred to
  std::set<u64> windows;       // those with references
  std::vector<std::string> repairs;   // not told yet

  bool fixes() const { return repair == Repair::All; }
  /// Marks of clusters are mended, too, if nothing but the repair of leaks has made them wrong.
  bool fixes_marks() const {
    return fixes() || (repair == Repair::Leaks && report.leaks_fixed && !report.check_errors && !report.corruptions);
  }
  void note(std::string text);
  /// Damage: mended now, or left as it is.
  void corruption(std::string text, bool mended);
  /// A refcount that is wrong. As with qemu-img all of them are told first, then what has been done about them.
  void refcount(std::string text, bool leaked, bool mended);
  void note_repairs();
};

/// Walks all that refers to clusters of the file. The first walk also looks for damage in the tables, and mends it.
class Walk {
 public:
  Walk(Core& core, Findings& findings, Counts& counts, bool first, u64 window_clusters)
      : core_(core),
        findings_(findings),
        counts_(counts),
        first_(first),
        window_clusters_(window_clusters),
        file_end_(align_up(core.file->size_bytes(), core.geometry().cluster_bytes())) {}

  /// `with_refcounts`: also the refcount table and its blocks.
  Task<Status> all(bool with_refcounts);
  Task<Status> refcount_structures();

 private:
  Task<Status> snapshots();
  Task<Status> bitmaps();
  Task<Status> l1_table(u64 offset, u64 entries, bool active);
  Task<Status> l2_tables(std::vector<u64> offsets, bool active);
  Task<Status> l2_piece(u64 offset, std::span<u8> piece, bool active);
  /// Gives whether the entry was changed.
  bool l2_entry(L2Entry& entry, bool active);
  bool mend_compressed(L2Entry& entry);
  bool mend_unaligned(L2Entry& entry);
  void count_fragments(u64 host);
  bool refer(u64 offset, u64 bytes, const char* what);
  void note_use(u64 cluster);

  Core& core_;
  Findings& findings_;
  Counts& counts_;
  const bool first_;
  const u64 window_clusters_;
  const u64 file_end_;
  u64 window_first_ = 0, window_end_ = 0;   // the window that was noted last
  u64 next_host_ = 0;   // where the next cluster would not be a fragment
};

/// New refcount structures at the end of the file, made of what walks find.
Task<Status> rebuild_refcounts(Core& core, Findings& findings, u64 window_clusters);
/// The same with refcounts of another width. `tables` is held, and nothing waits to be written.
Task<Status> change_refcount_width(Core& core, u32 order);
/// Marks of the active tables against refcounts.
Task<Status> check_copied_marks(Core& core, Findings& findings);

}  // namespace atl::block::qcow2
