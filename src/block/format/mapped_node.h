// A disk whose bytes lie in clusters of an image file: what vdi, vpc, vmdk, vhdx, qed, qcow, parallels and others
// share.
//
// A format's ClusterMap knows its tables; MappedNode reads and writes by runs, copies on write, and keeps order: the
// data of a new cluster are written before the table leads to it, and tables reach the disk in flush() only, after the
// data. A crash leaves clusters behind that nothing leads to. Flush before the node goes, or what was written since is
// lost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "block/async_lock.h"
#include "block/image.h"
#include "block/node.h"

namespace atl::block {

/// How guest bytes lie, from the first one asked for on.
struct Run {
  enum Kind : u8 { Hole, Zero, Data, Compressed, Encrypted } kind = Hole;
  u64 bytes = 0;            // at least 1
  u64 at = 0;               // Data: place in `file`; Compressed, Encrypted: whatever the map wants to know again
  Node* file = nullptr;     // Data
  bool sparse = false;      // Data: zeroes may lie there as holes of the file
  bool unprepared = false;  // Data: to be prepare()d before it is written to
};

/// A place for clusters that have had none.
struct Place {
  u64 at = 0;
  Node* file = nullptr;
  bool reads_zero = true;  // nothing was stored there before
};

/// What a format's tables say. find() and read_encoded() may be called while others wait; everything else is called
/// alone. Offsets are the guest's. A map that is only read needs find() and what tells its shape.
class ClusterMap {
 public:
  virtual ~ClusterMap() = default;
  virtual const char* driver() const = 0;
  virtual u64 size_bytes() const = 0;
  virtual u64 allocation_unit() const = 0;
  struct Cluster {
    u64 start = 0, end = 0;
  };
  virtual Cluster cluster_of(u64 offset) const {
    const u64 start = offset - offset % allocation_unit();
    return {start, start + allocation_unit()};
  }
  virtual std::vector<Child> files() const = 0;
  virtual Image* image() = 0;

  /// What lies at `offset`: a cluster at most, or more where that is known without looking further. At most `limit`.
  virtual Task<Result<Run>> find(u64 offset, u64 limit) = 0;
  /// Fills `out` from a Compressed or Encrypted run, whose first byte is at `offset`.
  virtual Task<Status> read_encoded(u64 offset, Run run, std::span<const iovec> out);

  /// The node becomes writable, or stops to be: an image that cannot be written says so.
  virtual Status allow_writing(bool on);
  /// Called once, before anything is changed.
  virtual Task<Status> begin_writing() { co_return Status{}; }
  /// Room for the cluster that starts at `offset`.
  virtual Task<Result<Place>> allocate(u64 offset);
  /// Lets the tables lead to the place, now that the data are there.
  virtual Task<Status> link(u64 offset, Place place);
  /// Makes an unprepared run one that may be written in place.
  virtual Task<Status> prepare(u64 offset);
  /// Whether zero_cluster() works, for clusters without data of their own. Elsewhere zeroes are stored.
  virtual bool has_zero_clusters() const { return false; }
  virtual Task<Status> zero_cluster(u64 offset);
  /// Whether all that is written at `offset` must be compressed.
  virtual bool compresses(u64) const { return false; }
  /// The cluster that starts at `offset`, or what the disk has of it.
  virtual Task<Status> write_compressed(u64 offset, std::span<const iovec> data);
  virtual bool wants_flush() const { return false; }  // too many changes wait in memory
  /// Data, then tables, onto stable storage.
  virtual Task<Status> flush() = 0;
  virtual Task<Status> resize(u64 size_bytes, Preallocation how);
};

struct MappedOptions {
  std::string node_name;  // generated if empty
  bool readonly = false;
  bool discard = false;
};

NodePtr make_mapped_node(std::unique_ptr<ClusterMap> map, NodePtr backing, MappedOptions options);

}  // namespace atl::block
