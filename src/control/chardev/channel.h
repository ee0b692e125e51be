// A pair of descriptors on a loop, with a bounded output buffer: what stdio, socket, pty, file and pipe back ends share.
//
// write() and accept_input() may be called from any thread: they only touch the buffer under its lock and wake the loop,
// which does all the I/O. Everything else belongs to the loop's thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/char_backend.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/sync.h"

namespace atl::control {

class Channel {
 public:
  /// Output that nobody takes: more than this is refused by write().
  static constexpr size_t kOutputLimit = 256 * kKiB;

  static Result<std::unique_ptr<Channel>> create(Loop& loop);
  ~Channel();

  /// The user of the bytes. Its functions are called on the loop.
  void set_frontend(CharBackend::Frontend frontend);
  /// Called when the input ended or the peer went away; the channel is closed by then.
  void on_closed(std::function<void()> closed) { closed_ = std::move(closed); }
  /// Starts I/O on `in` and `out`, which may be the same descriptor or -1, and stay the caller's. Both are O_NONBLOCK.
  void open(int in, int out);
  /// Stops I/O. What is still queued is lost.
  void close();
  bool is_open() const { return out_ >= 0 || in_ >= 0; }
  /// Tells the front end of a state change.
  void notify(CharEvent event);
  /// Tries to get rid of queued output within `timeout_ns`; for the end of the program.
  void drain(u64 timeout_ns);
  /// Output while nobody is connected vanishes instead of filling the buffer.
  void discard_while_closed(bool discard) { discard_while_closed_ = discard; }

  size_t write(std::span<const u8> data);
  void accept_input();
  bool has_frontend() const { return has_frontend_; }
  Loop& loop() { return loop_; }

  /// Descriptors that arrived with the input (SCM_RIGHTS), if the input is a Unix socket: the newest is kept.
  Fd take_received_fd() { return std::move(received_fd_); }

 private:
  Channel(Loop& loop, Fd wake);
  void on_wake();
  void arm_input();
  size_t input_room() const;
  void pause_input();
  void read_input();
  ssize_t read_some(std::span<u8> space);
  void flush();
  bool send_queued();
  void input_ended();

  Loop& loop_;
  Fd wake_;
  CharBackend::Frontend frontend_;
  bool has_frontend_ = false;
  std::function<void()> closed_;
  int in_ = -1, out_ = -1;
  bool in_is_socket_ = false;
  Fd received_fd_;
  std::unique_ptr<Loop::Watch> wake_watch_, in_watch_, out_watch_;
  std::atomic<bool> connected_{false};
  std::atomic<bool> discard_while_closed_{false};
  std::atomic<bool> input_paused_{false};

  Mutex mutex_;
  std::string queue_ GUARDED_BY(mutex_);
  bool was_short_ GUARDED_BY(mutex_) = false;  // a write was cut: tell `writable` when there is room
  std::string sending_;                        // taken from the queue, partly written; loop thread
};

}  // namespace atl::control
