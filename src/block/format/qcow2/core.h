// What of an open qcow2 image its parts share: the nodes below, the header, the tables, and the locks around them.
//
// Order of writes. Changes of tables collect in memory. sync() writes refcounts, then L2 tables, then the L1 table, with a
// flush between each, and only then gives back clusters that nothing leads to any more. So whatever a power cut leaves
// behind, no cluster is in use twice: at worst some are counted that nobody uses.
//
// Locks. A request that changes the mapping holds its clusters in `ranges`, so that nobody else changes them, and takes
// `tables` alone while it allocates and while it changes tables, not while it moves data. Lookups take no lock. Requests of
// Image (check, snapshots, resize ...) come with nothing else in flight.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/worker_pool.h"
#include "block/async_lock.h"
#include "block/debug_points.h"
#include "block/format/qcow2/cipher.h"
#include "block/format/qcow2/header.h"
#include "block/format/qcow2/inflight.h"
#include "block/format/qcow2/refcounts.h"
#include "block/node.h"

namespace atl::block::qcow2 {

class Bitmaps;

struct Options {
  std::string node_name;
  bool readonly = false;
  bool for_check = false;
  u64 l2_cache_bytes = 0, l2_slice_bytes = 0, refcount_cache_bytes = 0;  // 0: as suits the image
  u64 clean_interval_s = 600;
  std::optional<bool> lazy_refcounts;
  DiscardPolicy discards;
  bool overlap_checks = true;
};

/// Neighbouring units of the disk that lie in the same way, from some offset on.
struct Run {
  Extent::Kind kind = Extent::Backing;
  bool placed = false;   // clusters of the file belong to it (Data always, Zero at times)
  bool copied = false;   // and to nobody else
  u64 host = 0;          // placed: where the first byte is
  u64 bytes = 0;
  CompressedPlace compressed;  // of the one cluster

  bool in_place() const { return kind == Extent::Data && copied; }
};

class Core {
 public:
  Core(Loop& loop_of_node, NodePtr file_node, NodePtr data_node, Header parsed, Options given);
  ~Core();
  /// Reads the L1 table.
  Task<Status> load();

  // Looking up (lookup.cc).
  /// What is at `offset`, looking no further than `limit`.
  Task<Result<Run>> lookup(u64 offset, u64 limit);
  /// The same without I/O, if the table is in memory.
  std::optional<Result<Run>> lookup_now(u64 offset, u64 limit);
  bool has_backing() const { return backing || !header.backing_file.empty(); }
  bool external() const { return header.has_data_file(); }
  /// Whether what a run shows (no data) reads as zeroes there without looking at the backing file.
  bool reads_as_zero(const Run& run, u64 offset) const;

  // Changing tables (update.cc); `tables` is held.
  struct EntryPlace {
    Cache::Ref slice;
    u64 index = 0;
  };
  /// The entry for `offset` in an L2 table that no snapshot shares.
  Task<Result<EntryPlace>> entry_for_writing(u64 offset);
  L2Entry entry(const Slice& slice, u64 index) const;
  /// Changes an entry, marks its slice, and frees what it led to, unless the new one leads there too.
  void replace(const EntryPlace& place, L2Entry after, FreedBy by);
  void free_entry(L2Entry before, FreedBy by);
  /// Entries of one slice from `offset` on, up to `end`.
  u64 slice_end(u64 offset) const;
  /// Before the first change since opening or the last clean close.
  Task<Status> prepare_for_writing();
  Task<Status> guard_tables();
  /// An error if data of ours would be written over metadata; the image is then marked corrupt.
  Status check_overlap(u64 host, u64 bytes);

  // Putting changes away (sync.cc); `tables` is held.
  Task<Status> sync(bool with_refcounts);
  Task<Status> sync_if_full();
  Task<Status> write_l1();
  Task<Status> mark_clean();
  Task<Status> set_features(u64 set, u64 clear);
  /// Notes damage: later writes fail, and the header says so as soon as it can.
  Error damaged(std::string text);
  Error corrupt(std::string text) const;

  /// The image is encrypted and was opened without its secret.
  Error locked() const;

  Result<WorkerPool*> workers();
  /// For blkdebug: a step by QEMU's name, right before the request that it consists of.
  void step(std::string_view event) const { debug_step(debug, event); }

  Loop& loop;
  Node* self = nullptr;      // the node that this is the inside of
  NodePtr file, data, backing;  // `data` is `file`, or the external data file
  DebugPoints* debug;        // of `file`
  Header header;
  Options options;
  Epochs epochs;
  Refcounts refcounts;
  Cache l2;
  std::vector<u64> l1;
  std::set<u64> dirty_l1;
  AsyncLock tables;
  RangeLock ranges;
  std::optional<Cipher> cipher;
  std::optional<crypto::LuksHeader> luks;   // for `info`
  std::unique_ptr<Bitmaps> bitmaps;
  bool prepared = false;     // prepare_for_writing() has been done
  bool broken = false;       // corruption was found: no more writes
  bool unwritten_mark = false;
  std::unique_ptr<WorkerPool> pool;
  std::string name;          // of the file, for messages

  const Geometry& geometry() const { return header.geometry; }
  bool lazy() const { return header.version >= 3 && options.lazy_refcounts.value_or(header.compatible & kLazyRefcounts); }
};

}  // namespace atl::block::qcow2
