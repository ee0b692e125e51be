// A disk behind a library that blocks: each request runs on a thread of the node, over one of its connections. The loop goes on.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "block/driver.h"

namespace atl::block {

/// One connection to the other side, used by one thread at a time.
class RemoteConnection {
 public:
  virtual ~RemoteConnection() = default;
  virtual Result<u64> size_bytes() = 0;
  /// Reads exactly as much; never beyond the end.
  virtual Status read(u64 offset, std::span<u8> out) = 0;
  virtual Status write(u64 offset, std::span<const u8> data);
  virtual Status flush() { return {}; }
  virtual Status resize(u64 size_bytes);
  virtual Status write_zeroes(u64 offset, u64 size, bool may_unmap);
  virtual Status discard(u64 offset, u64 size) { (void)offset, (void)size; return {}; }
};

struct RemoteOptions {
  std::string node_name, driver, filename;
  bool readonly = true;
  unsigned connections = 1;     // requests at once
  u64 readahead_bytes = 0;      // fetched beyond each read
  u32 request_alignment = 1;
};
using Connect = std::function<Result<std::unique_ptr<RemoteConnection>>()>;

/// Connects once to find the size; further connections follow as they are needed.
Task<Result<NodePtr>> open_remote_node(Loop& loop, RemoteOptions options, Connect connect);

/// Runs `function` on a thread of its own, for creating files at the other side.
Task<Status> run_blocking(Loop& loop, std::function<Status()> function);

/// Creation of images on disks that exist: the disk of that name must be there, writable, and large enough.
Task<Status> create_on_disk(Graph& graph, std::string filename, Json options, const char* driver);

}  // namespace atl::block
