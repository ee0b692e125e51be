// What an image with a format can do beyond reading and writing: checks, snapshots, bitmaps, changes of its header.
//
// Whatever a format does not override is refused by name. Calls are made on the node's loop with no request in flight.
#pragma once

#include <functional>

#include <nlohmann/json.hpp>

#include "block/node.h"

namespace atl::block {

using Json = nlohmann::json;

enum class Repair : u8 { None, Leaks, All };

/// What `check` found; the fields of qemu-img's report.
struct CheckReport {
  u64 corruptions = 0, leaks = 0, check_errors = 0;
  u64 corruptions_fixed = 0, leaks_fixed = 0;
  u64 image_end_offset = 0;
  u64 total_clusters = 0, allocated_clusters = 0, fragmented_clusters = 0, compressed_clusters = 0;
  std::vector<std::string> messages;   // a line for each finding, bounded
};

struct SnapshotInfo {
  std::string id, name;
  u64 vm_state_bytes = 0;
  u64 date_seconds = 0;      // since the epoch
  u32 date_nanoseconds = 0;
  u64 vm_clock_ns = 0;
  u64 disk_bytes = 0;
  std::optional<u64> icount;
};

struct BitmapInfo {
  std::string name;
  u32 granularity = 65536;   // bytes
  bool enabled = true;       // records writes ("auto")
  bool in_use = false;       // not closed properly
  bool persistent = true;
  u64 dirty_bytes = 0;
};

/// Called now and then during long work with a share from 0 to 1; false asks to stop (the result is then Cancelled).
using Progress = std::function<bool(double)>;

class Image {
 public:
  virtual ~Image() = default;

  /// For `info`: "format-specific"'s data, or null.
  virtual Json specific_info() const { return nullptr; }
  virtual u64 cluster_bytes() const { return 0; }
  virtual bool encrypted() const { return false; }
  virtual bool dirty() const { return false; }       // was not closed properly
  virtual bool corrupt() const { return false; }     // marked so
  /// As the image records them; "" if it has none.
  virtual std::string backing_file() const { return {}; }
  virtual std::string backing_format() const { return {}; }

  virtual Task<Result<CheckReport>> check(Repair repair, Progress progress);
  /// Drops all that the image holds itself, so that it reads as its backing file.
  virtual Task<Status> make_empty();
  /// Changes the recorded names; "" for none. Guest data stay untouched.
  virtual Task<Status> change_backing(std::string file, std::string format);
  virtual Task<Status> amend(Json options, bool force, Progress progress);

  virtual Task<Result<std::vector<SnapshotInfo>>> snapshots();
  virtual Task<Status> create_snapshot(SnapshotInfo snapshot);   // id is chosen if empty
  virtual Task<Status> apply_snapshot(std::string id_or_name);
  virtual Task<Status> delete_snapshot(std::string id_or_name);
  /// A read-only view of the disk in a snapshot.
  virtual Task<Result<NodePtr>> open_snapshot(std::string id_or_name);

  virtual Task<Result<std::vector<BitmapInfo>>> bitmaps();
  virtual Task<Status> add_bitmap(BitmapInfo bitmap);
  virtual Task<Status> remove_bitmap(std::string name);
  virtual Task<Status> clear_bitmap(std::string name);
  virtual Task<Status> enable_bitmap(std::string name, bool enabled);
  /// Whether the bytes from `offset` on are dirty, and how many alike follow (at most `bytes`).
  struct BitmapRun {
    u64 bytes = 0;
    bool dirty = false;
  };
  virtual Task<Result<BitmapRun>> bitmap_run(std::string name, u64 offset, u64 bytes);
  virtual Task<Status> set_bitmap(std::string name, u64 offset, u64 bytes);
};

}  // namespace atl::block
