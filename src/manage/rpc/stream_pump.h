// Moves the bytes of one open stream between its connection and its job or descriptor (see stream.h). Lives on the server's loop.
//
// A stream's life: the reply opens it; frames with status Continue carry data; the client's status Ok finishes it and is answered in kind; the
// client's status Error gives it up. A failure of ours is a frame with status Error and ends it. The end of what we send is an empty
// Continue frame; the client then finishes.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "base/loop.h"
#include "base/task.h"
#include "base/worker_pool.h"
#include "manage/rpc/frame.h"
#include "manage/rpc/stream.h"

namespace atl::manage::rpc {

class StreamPump : public std::enable_shared_from_this<StreamPump> {
 public:
  /// The connection, as a stream sees it.
  class Owner {
   public:
    /// `sent` is called when the frame has gone out; not if the connection ends before.
    virtual void queue_stream_frame(const Header& header, std::vector<u8> payload, std::function<void()> sent) = 0;
    /// The stream is over; it may be destroyed (later, not from inside this).
    virtual void stream_ended(u32 serial) = 0;
    /// Input that waited was taken.
    virtual void stream_input_changed() = 0;

   protected:
    ~Owner() = default;
  };

  virtual ~StreamPump() = default;
  /// Starts moving data to the client; after the reply was queued.
  virtual void begin() = 0;
  /// A frame of the client's.
  virtual void take(Frame frame) = 0;
  /// Whether so much input waits that the connection should not be read.
  virtual bool is_full() const = 0;
  /// The connection is gone: the owner must not be called again.
  virtual void abandon() = 0;
};

/// For a StreamJob, on `workers`.
std::shared_ptr<StreamPump> make_job_pump(StreamPump::Owner& owner, const Header& call, std::unique_ptr<StreamJob> job, Loop& loop,
                                          WorkerPool& workers);
/// For a non-blocking descriptor, both ways.
std::shared_ptr<StreamPump> make_fd_pump(StreamPump::Owner& owner, const Header& call, Fd fd, Loop& loop);

}  // namespace atl::manage::rpc
