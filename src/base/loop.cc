#include "base/loop.h"

#include <poll.h>

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace atl {
namespace {

constexpr u64 kForever = ~u64{0};
constexpr unsigned kCompletionEntries = 4096;
// From so many bytes on, copying between the page cache and a request's buffers costs far more than waking a thread of the
// kernel, which then does it beside the loop and the others; small requests that hit the cache are done on the spot.
constexpr u64 kThreadedBytes = 128 * 1024;
constexpr u32 kAlwaysTold = POLLERR | POLLHUP | POLLNVAL;

__kernel_timespec to_timespec(u64 ns) {
  return {.tv_sec = static_cast<i64>(ns / 1'000'000'000), .tv_nsec = static_cast<long long>(ns % 1'000'000'000)};
}

/// IOSQE_ASYNC for requests that a thread of the kernel should do.
u8 submission_flags(std::span<const iovec> iov) {
  u64 bytes = 0;
  for (const iovec& part : iov) bytes += part.iov_len;
  return bytes >= kThreadedBytes ? IOSQE_ASYNC : 0;
}

}  // namespace

/// One watch as the kernel knows it: at most one POLL_ADD is in flight. It stays after its Watch until that has ended.
struct Loop::PollState final : Loop::Completion {
  PollState(Loop& owner, int descriptor, u32 mask, std::function<void(u32)> function)
      : loop(owner), fd(descriptor), events(mask), callback(std::move(function)) {}

  void complete(i32 result) override {
    armed = removing = false;
    if (loop.closing_) return;
    u32 ready = result >= 0 ? static_cast<u32>(result) & (events | kAlwaysTold) : 0;
    bool broken = result < 0 && result != -ECANCELED;
    if (broken) ready = POLLNVAL;
    if (watched && events && ready) {
      calling = true;
      callback(ready);
      calling = false;
    }
    if (!watched) return loop.forget_poll(this);
    if (broken) events = 0;  // not a descriptor that can be polled: told once
    loop.arm_poll(this);
  }

  Loop& loop;
  const int fd;
  u32 events;
  std::function<void(u32)> callback;
  size_t place = 0;       // in Loop::polls_
  bool watched = true;    // its Watch lives
  bool armed = false;     // a POLL_ADD is in flight
  bool removing = false;  // and so is its POLL_REMOVE
  bool calling = false;   // inside the callback
};

Result<std::unique_ptr<Loop>> Loop::create(unsigned entries) {
  std::unique_ptr<Loop> loop(new Loop);
  TRY(loop->set_up(entries));
  return loop;
}

Status Loop::set_up(unsigned entries) {
  // Completions are only looked at inside io_uring_enter, so the kernel need not interrupt the thread for them.
  io_uring_params params{};
  params.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  params.cq_entries = kCompletionEntries;
  int r = io_uring_queue_init_params(entries, &ring_, &params);
  if (r == -EINVAL) {  // before Linux 5.19
    params = {};
    params.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
    params.cq_entries = kCompletionEntries;
    r = io_uring_queue_init_params(entries, &ring_, &params);
  }
  if (r < 0) return os_error("set up io_uring", -r);
  ring_ready_ = true;
  if (!(params.features & IORING_FEAT_EXT_ARG))
    return Error(ErrorKind::Unsupported, "set up io_uring: Linux 5.11 or later is needed");
  wake_ = TRY(make_eventfd());
  thread_ = pthread_self();
  wake_watch_ = std::make_unique<Watch>(*this, wake_.get(), POLLIN, [this](u32) { run_posted(); });
  return {};
}

Loop::~Loop() {
  closing_ = true;
  wake_watch_.reset();
  // The kernel may be writing into the buffers of requests, so each one is seen through to its end.
  while (in_flight_ > 0) {
    io_uring_prep_cancel64(next_sqe(), 0, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
    submit_and_wait(10'000'000);
    dispatch_completions();
  }
  if (ring_ready_) io_uring_queue_exit(&ring_);
}

void Loop::run() {
  thread_ = pthread_self();
  stopping_ = false;
  while (!stopping_) turn(kForever);
}

void Loop::run_once(u64 timeout_ns) { turn(timeout_ns); }

void Loop::turn(u64 timeout_ns) {
  submit_and_wait(next_timeout_ns(timeout_ns));
  dispatch_completions();
  run_timers();
  run_deferred();
}

void Loop::stop() {
  {
    Lock lock(mutex_);
    stop_requested_ = true;
  }
  signal_eventfd(wake_);
}

void Loop::post(std::function<void()> function) {
  bool was_empty;
  {
    Lock lock(mutex_);
    was_empty = posted_.empty();
    posted_.push_back(std::move(function));
  }
  if (was_empty) signal_eventfd(wake_);
}

bool Loop::on_loop_thread() const { return pthread_equal(thread_.load(), pthread_self()); }

void Loop::run_posted() {
  drain_eventfd(wake_);
  std::vector<std::function<void()>> batch;
  {
    Lock lock(mutex_);
    batch.swap(posted_);
    stopping_ |= std::exchange(stop_requested_, false);
  }
  for (auto& function : batch) function();
}

// --- submission and completion ---

io_uring_sqe* Loop::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (!sqe) {
    int r = io_uring_submit(&ring_);
    CHECK(r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY);
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void Loop::submit_and_wait(u64 timeout_ns) {
  io_uring_cqe* first = nullptr;
  __kernel_timespec limit = to_timespec(timeout_ns);
  // Failures (-ETIME, -EINTR, -EAGAIN) leave everything in its queue for the next turn.
  if (timeout_ns == kForever)
    io_uring_submit_and_wait(&ring_, 1);
  else
    io_uring_submit_and_wait_timeout(&ring_, &first, 1, &limit, nullptr);
}

void Loop::dispatch_completions() {
  // Copied out first: callbacks submit, and thereby move the queue's ends.
  constexpr unsigned kBatch = 64;
  io_uring_cqe* cqes[kBatch];
  std::pair<Completion*, i32> batch[kBatch];
  unsigned left = kCompletionEntries;  // so that timers get their turn however busy the queue is
  while (left > 0) {
    unsigned n = io_uring_peek_batch_cqe(&ring_, cqes, kBatch);
    if (n == 0) return;
    for (unsigned i = 0; i < n; ++i) batch[i] = {reinterpret_cast<Completion*>(cqes[i]->user_data), cqes[i]->res};
    io_uring_cq_advance(&ring_, n);
    for (unsigned i = 0; i < n; ++i)
      if (batch[i].first) batch[i].first->complete(batch[i].second);
    left -= std::min(left, n);
  }
}

// --- watches ---

void Loop::arm_poll(PollState* state) {
  if (state->armed || state->calling || !state->events) return;
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_poll_add(sqe, state->fd, state->events);
  io_uring_sqe_set_data(sqe, static_cast<Completion*>(state));
  state->armed = true;
}

void Loop::remove_poll(PollState* state) {
  if (!state->armed || std::exchange(state->removing, true)) return;
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_poll_remove(sqe, reinterpret_cast<u64>(static_cast<Completion*>(state)));
  io_uring_sqe_set_data(sqe, nullptr);
}

void Loop::forget_poll(PollState* state) {
  size_t place = state->place;
  std::swap(polls_[place], polls_.back());
  polls_[place]->place = place;
  polls_.pop_back();
}

Loop::Watch::Watch(Loop& loop, int fd, u32 events, std::function<void(u32)> callback) {
  auto state = std::make_unique<PollState>(loop, fd, events, std::move(callback));
  state_ = state.get();
  state->place = loop.polls_.size();
  loop.polls_.push_back(std::move(state));
  loop.arm_poll(state_);
}

Loop::Watch::~Watch() {
  state_->watched = false;
  if (state_->armed)
    state_->loop.remove_poll(state_);  // its completion frees the state
  else if (!state_->calling)
    state_->loop.forget_poll(state_);
}

void Loop::Watch::set_events(u32 events) {
  if (events == state_->events) return;
  state_->events = events;
  // A poll in flight is taken back; its completion arms the new one.
  state_->loop.remove_poll(state_);
  state_->loop.arm_poll(state_);
}

// --- timers and deferred work ---

u64 Loop::next_timeout_ns(u64 limit_ns) const {
  if (!deferred_.empty()) return 0;
  if (timers_.empty()) return limit_ns;
  u64 deadline = timers_.begin()->first;
  u64 now = monotonic_ns();
  return deadline <= now ? 0 : std::min(limit_ns, deadline - now);
}

void Loop::run_timers() {
  if (timers_.empty()) return;
  u64 now = monotonic_ns();
  // The count is taken beforehand: a callback that arms itself for the past again waits for the next turn.
  auto due = std::distance(timers_.begin(), timers_.upper_bound(now));
  for (; due > 0 && !timers_.empty() && timers_.begin()->first <= now; --due) {
    Timer* timer = timers_.begin()->second;
    timer->cancel();
    timer->callback_();
  }
}

void Loop::Timer::arm_at(u64 deadline_ns) {
  cancel();
  place_ = loop_.timers_.emplace(deadline_ns, this);
  armed_ = true;
}

void Loop::Timer::cancel() {
  if (std::exchange(armed_, false)) loop_.timers_.erase(place_);
}

void Loop::run_deferred() {
  for (size_t due = deferred_.size(); due > 0 && !deferred_.empty(); --due) {
    Deferred* first = deferred_.front();
    first->cancel();
    first->callback_();
  }
}

void Loop::Deferred::schedule() {
  if (!std::exchange(scheduled_, true)) loop_.deferred_.push_back(this);
}

void Loop::Deferred::cancel() {
  if (std::exchange(scheduled_, false)) std::erase(loop_.deferred_, this);
}

// --- requests ---

Loop::Request::~Request() { CHECK(!in_flight_); }  // the kernel holds its buffers

bool Loop::Request::await_suspend(std::coroutine_handle<> waiter) {
  if (loop_.closing_) {
    result_ = -ECANCELED;
    return false;
  }
  waiter_ = waiter;
  in_flight_ = true;
  ++loop_.in_flight_;
  io_uring_sqe* sqe = loop_.next_sqe();
  *sqe = sqe_;
  io_uring_sqe_set_data(sqe, static_cast<Completion*>(this));
  return true;
}

void Loop::Request::complete(i32 result) {
  result_ = result;
  in_flight_ = false;
  --loop_.in_flight_;
  waiter_.resume();
}

Loop::Request Loop::readv(int fd, std::span<const iovec> iov, u64 offset) {
  return Request(*this, [&](io_uring_sqe& sqe, auto&) {
    io_uring_prep_readv(&sqe, fd, iov.data(), static_cast<unsigned>(iov.size()), offset);
    sqe.flags |= submission_flags(iov);
  });
}

Loop::Request Loop::writev(int fd, std::span<const iovec> iov, u64 offset) {
  return Request(*this, [&](io_uring_sqe& sqe, auto&) {
    io_uring_prep_writev(&sqe, fd, iov.data(), static_cast<unsigned>(iov.size()), offset);
    sqe.flags |= submission_flags(iov);
  });
}

Loop::Request Loop::fsync(int fd, bool data_only) {
  return Request(
      *this, [&](io_uring_sqe& sqe, auto&) { io_uring_prep_fsync(&sqe, fd, data_only ? IORING_FSYNC_DATASYNC : 0); });
}

Loop::Request Loop::fallocate(int fd, int mode, u64 offset, u64 length) {
  return Request(*this, [&](io_uring_sqe& sqe, auto&) {
    io_uring_prep_fallocate(&sqe, fd, mode, static_cast<off_t>(offset), static_cast<off_t>(length));
  });
}

Loop::Request Loop::sleep(u64 ns) {
  return Request(*this, [&](io_uring_sqe& sqe, __kernel_timespec& time) {
    time = to_timespec(ns);
    io_uring_prep_timeout(&sqe, &time, 0, 0);
  });
}

}  // namespace atl
