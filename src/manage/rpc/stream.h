// The server's side of a stream: what a handler leaves behind so that bytes go on flowing after its reply.
//
// Two shapes. A descriptor (a console's socket) is pumped both ways on the server's loop. A StreamJob (a volume's upload, a screenshot) is
// called on worker threads, one call at a time, in order. Either way at most a few chunks are in memory: the next is read when the last was
// sent, and a client that sends faster than the job writes is not read from.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/types.h"
#include "manage/error.h"

namespace atl::manage {

class StreamJob {
 public:
  enum class Direction : u8 { ToClient, FromClient };
  /// What read() gives: data, or a hole of so many bytes, or the end.
  struct Chunk {
    std::vector<u8> data;
    u64 hole_bytes = 0;
    bool is_end() const { return data.empty() && hole_bytes == 0; }
  };

  explicit StreamJob(Direction direction) : direction_(direction) {}
  virtual ~StreamJob() = default;  // without finish() before it: the stream was given up
  Direction direction() const { return direction_; }

  /// FromClient: the next bytes, or a hole (seek forward; read as zeroes).
  virtual Status write(std::span<const u8>) { return operation_unsupported("stream cannot be written"); }
  virtual Status write_hole(u64) { return operation_unsupported("stream does not take holes"); }
  /// ToClient: at most `limit_bytes` of data.
  virtual Result<Chunk> read(size_t) { return operation_unsupported("stream cannot be read"); }
  /// The client said that it is done. FromClient: returns when everything is on the disk.
  virtual Status finish() { return {}; }

 private:
  const Direction direction_;
};

/// A stream that sends bytes which are in memory already.
class BufferStream final : public StreamJob {
 public:
  explicit BufferStream(std::vector<u8> data) : StreamJob(Direction::ToClient), data_(std::move(data)) {}
  Result<Chunk> read(size_t limit_bytes) override;

 private:
  std::vector<u8> data_;
  size_t at_ = 0;
};

}  // namespace atl::manage
