// The block graph: nodes that read and write bytes, stacked on each other. A node knows no guest.
//
// A node belongs to one Loop; every call on it is made on that loop's thread. Requests run concurrently.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <optional>
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
  const char* detect_zeroes = "off";
};

enum WriteFlags : u32 {
  kNoFlags = 0,
  kFua = 1,        // on stable storage before completion
  kMayUnmap = 2,   // write_zeroes may deallocate
};

class Node;
class Image;  // image.h
class DebugPoints;  // debug_points.h
/// Parents share their children: a node lives as long as somebody stands on it or names it.
using NodePtr = std::shared_ptr<Node>;

/// How the bytes from some offset on are stored, as far as they are stored alike.
struct BlockStatus {
  u64 bytes = 0;             // at least 1, at most what was asked for
  bool allocated = true;     // in this node; else the backing node tells
  bool data = true;          // false: no bytes are stored (zero, or not allocated)
  bool zero = false;         // known to read as zeroes
  bool compressed = false;
  std::optional<u64> offset; // where in `file` the first byte is stored as it reads
  const Node* file = nullptr;
};

enum class Preallocation : u8 { Off, Metadata, Falloc, Full };

/// A node that another one stands on.
struct Child {
  std::string role;   // "file", "backing", "data-file"
  NodePtr node;
};

class Node : public std::enable_shared_from_this<Node> {
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
  /// Puts away what is only in memory (bitmaps, marks of being in use): the last request before the node goes, which the
  /// image survives without, but then has to be repaired. More requests may follow all the same. Parents pass it down.
  virtual Task<Status> close() { return flush(); }
  /// Makes a node that was opened read-only writable, or back; also what it stands on (but no backing file). Nothing may be
  /// in flight. For commits into a backing file, and blockdev-reopen.
  virtual Task<Status> set_readonly(bool readonly);
  /// The current size, asked anew where it can change (QMP block_resize).
  virtual u64 size_bytes() const = 0;
  /// Grows (with zeroes) or shrinks.
  virtual Task<Status> resize(u64 size_bytes, Preallocation how);
  /// Status of a run that starts at `offset`, looking no further than `bytes`. The default: all is data.
  virtual Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes);
  /// Writes whole clusters compressed, for formats that can. The last may end with the image.
  virtual Task<Status> write_compressed(u64 offset, std::span<const iovec> data);
  virtual std::vector<Child> children() const { return {}; }
  /// Whether it shows what its first child holds, with nothing of its own.
  virtual bool is_filter() const { return false; }
  /// Puts another node into the place of a child, or none (a backing file only). Nothing may be in flight.
  virtual Status replace_child(std::string_view role, NodePtr node);
  /// What only images with a format can do; nullptr for the others.
  virtual Image* image() { return nullptr; }
  /// What wants to know of the steps of the driver above: a test double here or, through raw, below. nullptr for the others.
  virtual DebugPoints* debug_points() { return nullptr; }
};

/// What happens to a guest's request that the host failed: told to the guest, told as done, or kept while the machine stands
/// still.
enum class ErrorPolicy : u8 { Report, Ignore, Stop, StopOnNoSpace };

/// Writes `size` zero bytes as data, a bounded piece at a time: for nodes that have no faster way.
Task<Status> write_zeroes_as_data(Node& node, u64 offset, u64 size);

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
  std::string driver;           // as info() tells it; found out if empty
};

/// Opens a regular file or block device (file_node.cc). The error names the file.
Result<std::unique_ptr<Node>> open_file_node(Loop& loop, const FileOptions& options);

struct RawOptions {
  std::string node_name;
  u64 offset = 0;
  u64 size = 0;  // 0: to the end of the file
  bool readonly = false;
  bool discard = true;       // pass discards on
  bool probed = false;       // raw was guessed: no write may make the first sectors look like another format
};
Result<std::unique_ptr<Node>> open_raw_node(NodePtr file, const RawOptions& options);

struct NullOptions {
  std::string node_name;
  u64 size = kGiB;
  std::string driver = "null-co";
  bool read_zeroes = true;  // false leaves the reader's buffers as they are
  u64 latency_ns = 0;
};
/// A disk that keeps nothing, for tests and benchmarks.
std::unique_ptr<Node> make_null_node(Loop& loop, const NullOptions& options);

}  // namespace atl::block
