#include "block/root.h"

#include <algorithm>

#include "base/clock.h"
#include "block/iovecs.h"

namespace atl::block {

Task<Status> WriteObserver::before_write(u64, u64) { co_return Status{}; }
Task<Status> WriteObserver::settled(u64, u64) { co_return Status{}; }

Root::Root(Graph& graph, NodePtr node) : graph_(graph) {
  set_node(std::move(node));
  graph_.add_root(this);
}

Root::~Root() {
  CHECK(in_flight_ == 0);
  graph_.remove_root(this);
}

void Root::set_node(NodePtr node) {
  CHECK(in_flight_ == 0);
  node_ = std::move(node);
  observers_.clear();
  for (NodePtr at = node_; at; at = at->is_filter() ? at->children().front().node : nullptr) observers_.push_back(graph_.observers(*at));
}

bool Root::is_observed() const {
  return std::ranges::any_of(observers_, [](const auto& list) { return !list->empty(); });
}

bool Root::is_observed_by(const WriteObserver* observer) const {
  return std::ranges::any_of(observers_, [&](const auto& list) { return std::ranges::find(*list, observer) != list->end(); });
}

Task<Status> Root::drain() {
  ++drains_;
  Quiet quiet{*this};
  co_await quiet;
  co_return Status{};
}

void Root::resume() {
  CHECK(drains_ > 0);
  if (--drains_) return;
  // Posted: who resumes may hold the graph in the middle of a change.
  for (auto waiter : std::exchange(waiting_, {})) graph_.loop().post([waiter] { waiter.resume(); });
}

void Root::ended() {
  if (--in_flight_) return;
  for (auto waiter : std::exchange(drainers_, {})) graph_.loop().post([waiter] { waiter.resume(); });
}

/// Waits for the gate, and counts as under way from then on.
class Root::Pass {
 public:
  explicit Pass(Root& root) : root_(root) {}
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;
  ~Pass() {
    if (entered_) root_.ended();
  }
  Task<Status> enter() {
    while (root_.drains_) {
      Gate gate{root_};
      co_await gate;
    }
    begin();
    co_return Status{};
  }
  void begin() {
    entered_ = true;
    ++root_.in_flight_;
  }

 private:
  Root& root_;
  bool entered_ = false;
};

Task<Status> Root::throttle_request(bool is_write, u64 bytes) {
  u64 wait_ns = throttle_->reserve(is_write, bytes, monotonic_ns());
  return wait_for_share(graph_.loop(), wait_ns, [this] { return drains_ > 0; });
}

Task<Status> Root::account(OperationStats& stats, u64 bytes, Task<Status> task) {
  const u64 start = monotonic_ns();
  Status status = co_await std::move(task);
  const u64 now = monotonic_ns();
  stats_.last_access_ns = now;
  if (stats.latency) [[unlikely]]
    stats.latency->add(now - start);
  if (status) {
    ++stats.operations;
    stats.bytes += bytes;
    stats.time_ns += now - start;
  } else {
    ++(status.error().kind() == ErrorKind::Invalid ? stats.invalid : stats.failed);
  }
  co_return status;
}

/// A change with its observers. `task` has not started yet.
Task<Status> Root::change(OperationStats& stats, u64 offset, u64 bytes, Task<Status> task) {
  if (!is_observed()) [[likely]] {
    Status status = co_await account(stats, bytes, std::move(task));
    stats_.highest_write = std::max(stats_.highest_write, offset + bytes);
    if (write_threshold) check_threshold(offset + bytes);
    co_return status;
  }
  Observers observers;
  for (const auto& list : observers_) observers.insert(observers.end(), list->begin(), list->end());
  Status status;
  size_t asked = 0;
  while (status && asked < observers.size()) status = co_await observers[asked++]->before_write(offset, bytes);
  if (status) status = co_await account(stats, bytes, std::move(task));
  // Some may have gone meanwhile.
  for (size_t i = 0; i < asked; ++i)
    if (is_observed_by(observers[i])) observers[i]->written(offset, bytes);
  for (size_t i = 0; i < asked; ++i)
    if (is_observed_by(observers[i])) static_cast<void>(co_await observers[i]->settled(offset, bytes));
  stats_.highest_write = std::max(stats_.highest_write, offset + bytes);
  check_threshold(offset + bytes);
  co_return status;
}

void Root::set_histogram(OperationStats RootStats::*operation, std::vector<u64> boundaries_ns) {
  std::optional<LatencyHistogram>& latency = (stats_.*operation).latency;
  latency.reset();
  if (boundaries_ns.empty()) return;
  std::vector<u64> bins(boundaries_ns.size() + 1);
  latency = LatencyHistogram{std::move(boundaries_ns), std::move(bins)};
}

void Root::check_threshold(u64 end) {
  if (!write_threshold || end <= write_threshold) return;
  const u64 threshold = std::exchange(write_threshold, 0);
  if (on_threshold) on_threshold(end - threshold, threshold);
}

Task<Status> Root::read(u64 offset, std::span<const iovec> out) {
  Pass pass(*this);
  if (drains_) [[unlikely]]
    static_cast<void>(co_await pass.enter());
  else
    pass.begin();
  const u64 bytes = iovec_bytes(out);
  if (throttle_) static_cast<void>(co_await throttle_request(false, bytes));
  co_return co_await account(stats_.read, bytes, node_->read(offset, out));
}

Task<Status> Root::write(u64 offset, std::span<const iovec> data, u32 flags) {
  Pass pass(*this);
  if (drains_) [[unlikely]]
    static_cast<void>(co_await pass.enter());
  else
    pass.begin();
  const u64 bytes = iovec_bytes(data);
  if (throttle_) static_cast<void>(co_await throttle_request(true, bytes));
  co_return co_await change(stats_.write, offset, bytes, node_->write(offset, data, flags));
}

Task<Status> Root::write_zeroes(u64 offset, u64 size, u32 flags) {
  Pass pass(*this);
  static_cast<void>(co_await pass.enter());
  if (throttle_) static_cast<void>(co_await throttle_request(true, size));
  co_return co_await change(stats_.write, offset, size, node_->write_zeroes(offset, size, flags));
}

Task<Status> Root::discard(u64 offset, u64 size) {
  Pass pass(*this);
  static_cast<void>(co_await pass.enter());
  co_return co_await change(stats_.unmap, offset, size, node_->discard(offset, size));
}

Task<Status> Root::write_compressed(u64 offset, std::span<const iovec> data) {
  Pass pass(*this);
  static_cast<void>(co_await pass.enter());
  const u64 bytes = iovec_bytes(data);
  co_return co_await change(stats_.write, offset, bytes, node_->write_compressed(offset, data));
}

Task<Status> Root::flush() {
  Pass pass(*this);
  static_cast<void>(co_await pass.enter());
  co_return co_await account(stats_.flush, 0, node_->flush());
}

Task<Status> Root::resize(u64 size_bytes, Preallocation how) {
  Pass pass(*this);
  static_cast<void>(co_await pass.enter());
  Status status = co_await node_->resize(size_bytes, how);
  if (status && on_resized) on_resized();
  co_return status;
}

}  // namespace atl::block
