#include "control/chardev/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstring>

#include "base/clock.h"

namespace atl::control {
namespace {

bool is_socket(int fd) {
  struct stat st;
  return fd >= 0 && ::fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

}  // namespace

Result<std::unique_ptr<Channel>> Channel::create(Loop& loop) {
  return std::unique_ptr<Channel>(new Channel(loop, TRY(make_eventfd())));
}

Channel::Channel(Loop& loop, Fd wake) : loop_(loop), wake_(std::move(wake)) {
  wake_watch_ = std::make_unique<Loop::Watch>(loop_, wake_.get(), POLLIN, [this](u32) { on_wake(); });
}

Channel::~Channel() = default;

void Channel::set_frontend(CharBackend::Frontend frontend) {
  frontend_ = std::move(frontend);
  has_frontend_ = frontend_.receive || frontend_.event;
  if (has_frontend_) accept_input();
}

void Channel::open(int in, int out) {
  close();
  in_ = in;
  out_ = out;
  in_is_socket_ = is_socket(in);
  connected_ = true;
  arm_input();
  flush();
}

void Channel::close() {
  in_watch_.reset();
  out_watch_.reset();
  in_ = out_ = -1;
  connected_ = false;
  input_paused_ = false;
  sending_.clear();
  Lock lock(mutex_);
  queue_.clear();
}

void Channel::notify(CharEvent event) {
  if (frontend_.event) frontend_.event(event);
}

size_t Channel::write(std::span<const u8> data) {
  if (!connected_ && discard_while_closed_) return data.size();
  size_t taken;
  {
    Lock lock(mutex_);
    taken = std::min(data.size(), kOutputLimit - std::min(kOutputLimit, queue_.size()));
    queue_.append(reinterpret_cast<const char*>(data.data()), taken);
    if (taken < data.size()) was_short_ = true;
  }
  // On the loop's own thread the bytes leave at once: the greeting of a monitor does not wait for the loop to run.
  if (loop_.on_loop_thread()) flush();
  else signal_eventfd(wake_);
  return taken;
}

void Channel::accept_input() {
  if (input_paused_.exchange(false)) signal_eventfd(wake_);
}

void Channel::on_wake() {
  drain_eventfd(wake_);
  if (!in_watch_ && !input_paused_) arm_input();
  flush();
}

void Channel::arm_input() {
  if (in_ < 0) return;
  in_watch_ = std::make_unique<Loop::Watch>(loop_, in_, POLLIN, [this](u32) { read_input(); });
}

size_t Channel::input_room() const {
  if (!has_frontend_) return 0;
  return frontend_.can_receive ? frontend_.can_receive() : 4096;
}

void Channel::pause_input() {
  // Without a watch a hung-up descriptor cannot wake the loop over and over.
  in_watch_.reset();
  input_paused_ = true;
  // The front end may have made room since it was asked, and found nothing paused then.
  if (input_room() > 0) accept_input();
}

void Channel::read_input() {
  size_t room = input_room();
  if (room == 0) return pause_input();
  u8 chunk[4096];
  ssize_t n = read_some(std::span<u8>(chunk, std::min(room, sizeof chunk)));
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return input_ended();
  if (frontend_.receive) frontend_.receive(std::span<const u8>(chunk, static_cast<size_t>(n)));
}

ssize_t Channel::read_some(std::span<u8> space) {
  if (!in_is_socket_) return ::read(in_, space.data(), space.size());
  iovec part{space.data(), space.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n = ::recvmsg(in_, &message, MSG_CMSG_CLOEXEC);
  if (n < 0) return n;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    int fd;
    std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
    received_fd_ = Fd(fd);
  }
  return n;
}

void Channel::input_ended() {
  if (in_ == out_) {
    close();
  } else {
    in_watch_.reset();
    in_ = -1;
  }
  // Whoever listens may destroy or reopen the channel: nothing of it is touched afterwards.
  if (closed_) closed_();
}

void Channel::flush() {
  if (out_ < 0) return;
  while (true) {
    if (sending_.empty()) {
      Lock lock(mutex_);
      sending_.swap(queue_);
    }
    if (sending_.empty()) break;
    if (!send_queued()) return;
  }
  out_watch_.reset();
  bool tell;
  {
    Lock lock(mutex_);
    tell = std::exchange(was_short_, false);
  }
  if (tell && frontend_.writable) frontend_.writable();
}

// False: the rest must wait (or is lost with the peer).
bool Channel::send_queued() {
  ssize_t n = ::write(out_, sending_.data(), sending_.size());
  if (n >= 0) {
    sending_.erase(0, static_cast<size_t>(n));
    return true;
  }
  if (errno == EINTR) return true;
  if (errno == EAGAIN) {
    if (!out_watch_) out_watch_ = std::make_unique<Loop::Watch>(loop_, out_, POLLOUT, [this](u32) { flush(); });
    return false;
  }
  // A peer that is gone takes no more; its input side reports the end. An error of a file loses these bytes only.
  sending_.clear();
  out_watch_.reset();
  return false;
}

void Channel::drain(u64 timeout_ns) {
  u64 deadline = monotonic_ns() + timeout_ns;
  flush();
  while (out_ >= 0 && !sending_.empty()) {
    u64 now = monotonic_ns();
    if (now >= deadline) return;
    pollfd ready{out_, POLLOUT, 0};
    if (::poll(&ready, 1, static_cast<int>((deadline - now) / 1'000'000) + 1) <= 0) return;
    flush();
  }
}

}  // namespace atl::control
