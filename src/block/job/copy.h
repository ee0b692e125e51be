// Copies a range from one node to another: the engine of convert, commit, mirror, backup and stream.
//
// The range is walked in runs of one block status: holes are skipped or zeroed, data read and written by a number of requests
// in flight, each of a bounded size. Memory: workers * chunk_bytes.
#pragma once

#include <functional>

#include "base/loop.h"
#include "block/chain.h"

namespace atl::block {

/// Lets some number of bytes through a second. 0 means no limit.
class RateLimit {
 public:
  explicit RateLimit(u64 bytes_per_second = 0) : rate_(bytes_per_second) {}
  void set_rate(u64 bytes_per_second);
  u64 rate() const { return rate_; }
  /// Nanoseconds to wait before `bytes` more may go; they count as gone.
  u64 delay_ns(u64 bytes, u64 now_ns);

 private:
  u64 rate_;
  u64 free_at_ns_ = 0;   // when the bytes let through so far are paid for
};

/// What is to be copied where, and how. Nodes must outlive the copy.
struct CopyOptions {
  Node* source = nullptr;
  Node* target = nullptr;
  u64 source_offset = 0, target_offset = 0;
  u64 bytes = 0;

  u32 workers = 8;              // requests in flight
  u64 chunk_bytes = 2 * kMiB;   // of one request, a multiple of 64 KiB
  bool in_order = true;         // writes start in the order of their offsets; false: as they come (convert -W)
  bool target_is_zero = false;  // holes and zeroes need no write
  bool unmap = true;            // write zeroes as holes where the target can
  bool fill = false;            // write zeroes as data, so that the target takes all its space (convert -S 0)
  bool compressed = false;      // write whole clusters with write_compressed
  u64 cluster_bytes = 0;        // of the target: chunks end there (compressed; 0: any)
  /// Zeroes in data become holes if at least so many lie together, aligned so (convert -S); 0: never look.
  u64 detect_zero_bytes = 4096;
  /// A backing chain below `source` that the target shares: what is allocated only from `base` on downward is skipped.
  /// nullptr: everything is copied.
  const Node* base = nullptr;
  /// Copies only what is allocated in the top node itself (sync=top without naming a base).
  bool top_only = false;
  /// An error of a read gives zeroes and goes on (convert --salvage); told with the offset.
  bool salvage = false;
  std::function<void(u64 offset, u64 bytes, const Error& error)> on_salvaged;

  /// Awaited when a piece could not be read or written, if set: may take its time; true: it is tried again.
  std::function<Task<bool>(bool is_read, const Error& error)> on_error;

  /// Told of each range of the target that has been written, or may have been if it failed.
  std::function<void(u64 offset, u64 bytes)> written;

  RateLimit* rate = nullptr;
  /// Awaited before each piece, in order, if set: may take its time (pauses); false asks to stop.
  std::function<Task<bool>(u64 bytes)> before_piece;
  /// Called after each piece with the offset up to which all has been gone through, and all; false asks to stop.
  std::function<bool(u64 done, u64 total)> progress;
};

struct CopyResult {
  u64 data_bytes = 0;    // written as data
  u64 zero_bytes = 0;    // written as zeroes, or left out for being zero
  u64 skipped_bytes = 0; // left to the base
};

/// Errors name what failed and the offset; Cancelled if progress asked to stop. Every request has ended then.
Task<Result<CopyResult>> copy_range(Loop& loop, CopyOptions options);

}  // namespace atl::block
