#include "devices/virtio/rng.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <utility>

namespace atl::devices {

namespace {

constexpr u64 kMaxBytesARequest = 64 * kKiB;  // a request may be answered in part (5.4.6.1)

}  // namespace

VirtioRng::VirtioRng(VirtioRngOptions options, Loop& loop, memory::AddressSpace& memory)
    : VirtioDevice({.device_id = virtio::kIdEntropy, .queue_sizes = {8}}, loop, memory),
      options_(std::move(options)),
      quota_(options_.max_bytes),
      period_timer_(loop, [this] { new_period(); }) {}

Result<Fd> VirtioRng::open_source(const std::string& path) { return open_file(path, O_RDONLY | O_NONBLOCK); }

void VirtioRng::serve(u16 index) {
  Queue& queue = queue_at(index);
  bool limited = options_.max_bytes != ~u64{0};
  if (limited && !period_timer_.armed()) period_timer_.arm_in(options_.period_ns);
  while (quota_ > 0) {
    auto chain = queue.pop();
    if (!chain) break;
    if (fill(*chain)) continue;
    queue.put_back(std::move(*chain));
    break;
  }
  queue.notify();
}

/// False if the source has nothing now.
bool VirtioRng::fill(Chain& chain) {
  if (chain.writable_bytes() == 0) return true;
  iovec out = chain.writable().front();
  out.iov_len = std::min({out.iov_len, static_cast<size_t>(quota_), static_cast<size_t>(kMaxBytesARequest)});
  ssize_t n = ::readv(options_.source.get(), &out, 1);
  if (n <= 0) {
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) wait_for_source();
    return false;
  }
  chain.add_written(static_cast<u64>(n));
  if (options_.max_bytes != ~u64{0}) quota_ -= static_cast<u64>(n);
  return true;
}

void VirtioRng::new_period() {
  quota_ = options_.max_bytes;
  serve_later(0);
}

void VirtioRng::wait_for_source() {
  source_watch_.emplace(loop(), options_.source.get(), POLLIN, [this](u32) {
    source_watch_.reset();
    serve_later(0);
  });
}

void VirtioRng::stopping() {
  period_timer_.cancel();
  source_watch_.reset();
}

void VirtioRng::reset_state() { quota_ = options_.max_bytes; }

}  // namespace atl::devices
