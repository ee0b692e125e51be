#include "devices/storage/disk_io.h"

#include <cerrno>
#include <utility>

namespace atl::devices {

using block::ErrorPolicy;

/// `make` gives a new task for each try.
template <class Make>
Task<Status> DiskIo::run(bool is_read, Make make) {
  for (;;) {
    if (!node_) co_return Error(ErrorKind::NotFound, "no medium");
    ++in_flight_;
    Status status = co_await make(*node_);
    ended();
    if (status || status.error().kind() == ErrorKind::Invalid) co_return status;
    const ErrorPolicy action = decide(is_read, status.error());
    if (action == ErrorPolicy::Ignore) co_return Status{};
    if (action != ErrorPolicy::Stop) co_return status;
    Keep keep{*this};
    if (!co_await keep) co_return Error(ErrorKind::Cancelled, "given up by a reset");
  }
}

ErrorPolicy DiskIo::decide(bool is_read, const Error& error) {
  BlockError report{.read = is_read, .no_space = error.os_errno() == ENOSPC, .text = error.text()};
  report.action = is_read ? options_.read_error : options_.write_error;
  if (report.action == ErrorPolicy::StopOnNoSpace) report.action = report.no_space ? ErrorPolicy::Stop : ErrorPolicy::Report;
  if (options_.on_error) options_.on_error(report);
  return report.action;
}

Task<Status> DiskIo::read(u64 offset, std::span<const iovec> out) {
  return run(true, [offset, out](block::Node& node) { return node.read(offset, out); });
}

Task<Status> DiskIo::write(u64 offset, std::span<const iovec> data, bool fua) {
  const u32 flags = write_flags(fua);
  return run(false, [offset, data, flags](block::Node& node) { return node.write(offset, data, flags); });
}

Task<Status> DiskIo::write_zeroes(u64 offset, u64 size, bool may_unmap) {
  const u32 flags = write_flags(false) | (may_unmap ? block::kMayUnmap : 0u);
  return run(false, [offset, size, flags](block::Node& node) { return node.write_zeroes(offset, size, flags); });
}

Task<Status> DiskIo::discard(u64 offset, u64 size) {
  return run(false, [offset, size](block::Node& node) { return node.discard(offset, size); });
}

Task<Status> DiskIo::flush() {
  return run(false, [](block::Node& node) { return node.flush(); });
}

/// Comes from inside a command, which may begin its next request at once: who waits is told in a turn of its own.
void DiskIo::ended() {
  if (--in_flight_ || idle_waiters_.empty()) return;
  for (auto& waiter : std::exchange(idle_waiters_, {}))
    loop_.post([this, waiter = std::move(waiter)]() mutable { when_idle(std::move(waiter)); });
}

void DiskIo::when_idle(std::function<void()> done) {
  if (in_flight_) return idle_waiters_.push_back(std::move(done));
  done();
}

void DiskIo::release_kept(bool drop) {
  for (Waiter& waiter : std::exchange(kept_, {})) {
    *waiter.dropped = drop;
    waiter.handle.resume();
  }
}

void when_all_idle(std::vector<DiskIo*> disks, std::function<void()> done) {
  for (DiskIo* disk : disks) {
    if (disk->is_idle()) continue;
    disk->when_idle([disks = std::move(disks), done = std::move(done)]() mutable {
      when_all_idle(std::move(disks), std::move(done));
    });
    return;
  }
  done();
}

}  // namespace atl::devices
