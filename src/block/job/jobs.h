// The kinds of jobs, each made from typed options. Their names and arguments are QMP's (block-stream and so on).
#pragma once

#include "block/dirty_bitmap.h"
#include "block/job/job.h"

namespace atl::block {

/// What a mirror or backup copies.
enum class SyncMode : u8 { Top, Full, None, Incremental };

struct StreamOptions {
  NodePtr top;                 // gets what lies below
  NodePtr base;                // stays below; nullptr: nothing does
  std::optional<std::string> backing_name;   // to be recorded in top; default: the base's name
};
/// Copies from backing files into the image above them.
Result<std::shared_ptr<Job>> make_stream_job(Graph& graph, std::string device, JobOptions job, StreamOptions options);

struct CommitOptions {
  NodePtr active;              // the node that is used
  NodePtr top;                 // the first whose content goes down; `active` itself becomes ready and waits for complete()
  NodePtr base;                // gets it
  std::optional<std::string> backing_name;   // to be recorded in the overlay of top
};
Result<std::shared_ptr<Job>> make_commit_job(Graph& graph, std::string device, JobOptions job, CommitOptions options);

struct MirrorOptions {
  NodePtr source, target;
  SyncMode sync = SyncMode::Full;
  NodePtr base;                // with Top: what lies above it is copied; nullptr: all but the source itself
  u32 granularity = 0;         // of what is copied at once; 0: chosen
  bool target_is_zero = false; // a new image
  bool write_blocking = false; // a write to the source completes only when the target has it, too
  bool switch_over = true;     // complete() puts the target into the source's place
  NodePtr replaces;            // what it replaces instead of the source
  bool commit = false;         // an active commit: the target is a backing file of the source
};
Result<std::shared_ptr<Job>> make_mirror_job(Graph& graph, std::string device, JobOptions job, MirrorOptions options);

struct BackupOptions {
  NodePtr source, target;
  SyncMode sync = SyncMode::Full;
  std::shared_ptr<DirtyBitmap> bitmap;   // Incremental: what to copy
  /// What becomes of the bitmap: on success it is left with what was written since; always: also on failure; never: kept as
  /// it was, with what was written since.
  enum class BitmapMode : u8 { OnSuccess, Never, Always } bitmap_mode = BitmapMode::OnSuccess;
  bool target_is_zero = false;
  bool compressed = false;
};
/// Keeps the state of the moment it starts.
Result<std::shared_ptr<Job>> make_backup_job(Graph& graph, std::string device, JobOptions job, BackupOptions options);

}  // namespace atl::block
