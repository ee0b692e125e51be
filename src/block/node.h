// The block graph: nodes that read and write bytes, stacked on each other. A node knows no guest.
//
// A node belongs to one Loop; every call on it is made on that loop's thread. Requests run concurrently.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/result.h"
#include "base/task.h"
#include "base/types.h"

namespace atl::block {

struct NodeInfo {
  std::string node_name;
  std::string driver;       // "file", "raw", ...
  std::string filename;     // "" if none
  u64 size_bytes = 0;
  bool readonly = false;
  u32 request_alignment = 1;   // bytes; 512 or 4096 with O_DIRECT
  bool can_discard = false;
  bool cache_direct = false, cache_no_flush = false;
};

enum WriteFlags : u32 {
  kNoFlags = 0,
  kFua = 1,        // on stable storage before completion
  kMayUnmap = 2,   // write_zeroes may deallocate
};

class Node {
 public:
  virtual ~Node() = default;
  virtual NodeInfo info() const = 0;
  /// All sizes and offsets in bytes, at any alignment. A size that is no multiple of 512 counts as rounded up: the rest of
  /// the last sector reads as zeroes, and writing there grows the file. Requests outside are Invalid errors. Iovecs and
  /// what they point to must stay valid until completion. A node may only go when its requests have completed.
  virtual Task<Status> read(u64 offset, std::span<const iovec> out) = 0;
  virtual Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) = 0;
  virtual Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) = 0;
  virtual Task<Status> discard(u64 offset, u64 size) = 0;
  /// Everything completed before is on stable storage when this completes.
  virtual Task<Status> flush() = 0;
  /// The current size, asked anew where it can change (QMP block_resize).
  virtual u64 size_bytes() const = 0;
  virtual Status resize(u64 size_bytes) { (void)size_bytes; return Error(ErrorKind::Unsupported, "this node cannot be resized"); }
};

/// What happens to a guest's request that the host failed: told to the guest, told as done, or kept while the machine stands
/// still.
enum class ErrorPolicy : u8 { Report, Ignore, Stop, StopOnNoSpace };

/// "#block" and some digits that no user chooses.
std::string generate_node_name();
/// Whether [offset, offset + size) lies inside a node of `node_bytes`; the error says what does not.
Status check_range(u64 offset, u64 size, u64 node_bytes);
inline constexpr u64 kSectorBytes = 512;

enum class DetectZeroes : u8 { Off, On, Unmap };
/// QEMU's host I/O engines. All are served by io_uring: the choice is a hint about speed, and results are the same.
enum class AioMode : u8 { IoUring, Threads, Native };

/// How a file is opened, as -drive and -blockdev ask (spellings stay in `control`).
struct FileOptions {
  std::string node_name;        // generated if empty
  std::string filename;
  int fd = -1;                  // instead of filename: borrowed, duplicated at opening
  bool readonly = false;
  bool auto_readonly = false;   // fall back to read-only where writing is not allowed
  bool cache_direct = false;    // O_DIRECT
  bool cache_no_flush = false;  // flush does nothing (cache=unsafe)
  bool discard = false;         // pass discards on (discard=unmap)
  bool locking = true;          // refuse what another process has open in conflict
  AioMode aio = AioMode::IoUring;
};

/// Opens a regular file or block device (file_node.cc). The error names the file.
Result<std::unique_ptr<Node>> open_file_node(Loop& loop, const FileOptions& options);

struct RawOptions {
  std::string node_name;
  u64 offset = 0;
  u64 size = 0;  // 0: to the end of the file
  bool readonly = false;
  DetectZeroes detect_zeroes = DetectZeroes::Off;
};
Result<std::unique_ptr<Node>> open_raw_node(std::unique_ptr<Node> file, const RawOptions& options);

struct NullOptions {
  std::string node_name;
  u64 size = kGiB;
  bool read_zeroes = true;  // false leaves the reader's buffers as they are
  u64 latency_ns = 0;
};
/// A disk that keeps nothing, for tests and benchmarks.
std::unique_ptr<Node> make_null_node(Loop& loop, const NullOptions& options);

}  // namespace atl::block
