// What a disk model does with the medium below it: requests, and what happens when the host fails one (rerror, werror).
//
// Threads: the loop of the medium's node.
#pragma once

#include <coroutine>
#include <functional>
#include <string>
#include <vector>

#include "base/loop.h"
#include "base/task.h"
#include "block/node.h"

namespace atl::devices {

/// The host failed a request of the guest.
struct BlockError {
  bool read = false;
  bool no_space = false;
  block::ErrorPolicy action = block::ErrorPolicy::Report;  // Report, Ignore or Stop: what has been done
  std::string text;
};

struct DiskIoOptions {
  block::ErrorPolicy read_error = block::ErrorPolicy::Report;
  block::ErrorPolicy write_error = block::ErrorPolicy::StopOnNoSpace;
  bool write_through = false;  // writes are on stable storage before they complete
  /// Told of each failed request, on the loop. With action Stop the request waits for retry_kept(), and the machine must
  /// pause. May be null.
  std::function<void(const BlockError&)> on_error;
};

class DiskIo {
 public:
  DiskIo(Loop& loop, DiskIoOptions options) : loop_(loop), options_(std::move(options)) {}
  /// Requests must have ended, or be kept: those end as cancelled now.
  ~DiskIo() { drop_kept(); }
  DiskIo(const DiskIo&) = delete;
  DiskIo& operator=(const DiskIo&) = delete;

  Loop& loop() const { return loop_; }
  /// The medium, which outlives its time here; nullptr: none. With nothing in flight.
  void set_node(block::Node* node) { node_ = node; }
  block::Node* node() const { return node_; }
  u64 size_bytes() const { return node_ ? node_->size_bytes() : 0; }
  bool write_cache() const { return write_cache_; }
  void set_write_cache(bool on) { write_cache_ = on; }
  /// As after power-on.
  void reset_write_cache() { write_cache_ = !options_.write_through; }

  // As block::Node has them. Without a medium they fail.
  Task<Status> read(u64 offset, std::span<const iovec> out);
  Task<Status> write(u64 offset, std::span<const iovec> data, bool fua = false);
  Task<Status> write_zeroes(u64 offset, u64 size, bool may_unmap);
  Task<Status> discard(u64 offset, u64 size);
  Task<Status> flush();

  /// Requests that the node works on; kept ones do not count.
  bool is_idle() const { return in_flight_ == 0; }
  bool has_kept() const { return !kept_.empty(); }
  /// Calls `done` once idle: now, or in a turn of its own.
  void when_idle(std::function<void()> done);
  /// The machine runs again: what failed and was kept goes once more.
  void retry_kept() { release_kept(false); }
  /// Nobody waits for the answer any more: kept requests fail as cancelled.
  void drop_kept() { release_kept(true); }

 private:
  struct Waiter {
    std::coroutine_handle<> handle;
    bool* dropped;
  };
  struct Keep {
    DiskIo& io;
    bool dropped = false;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle) { io.kept_.push_back({handle, &dropped}); }
    bool await_resume() const { return !dropped; }
  };

  template <class Make>
  Task<Status> run(bool is_read, Make make);
  block::ErrorPolicy decide(bool is_read, const Error& error);
  void ended();
  void release_kept(bool drop);
  u32 write_flags(bool fua) const { return fua || !write_cache_ ? block::kFua : block::kNoFlags; }

  Loop& loop_;
  const DiskIoOptions options_;
  block::Node* node_ = nullptr;
  bool write_cache_ = !options_.write_through;
  u32 in_flight_ = 0;
  std::vector<Waiter> kept_;
  std::vector<std::function<void()>> idle_waiters_;
};

/// Calls `done` on the loop once all are idle at the same time.
void when_all_idle(std::vector<DiskIo*> disks, std::function<void()> done);

}  // namespace atl::devices
