// Where something outside the graph stands on it: a guest's disk, an export, the tool. A root can be moved to another node
// while its user goes on, waits while the graph is changed, counts what passes, and slows it down.
//
// Requests that pass a root are seen by the observers of its node: dirty bitmaps and jobs.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "block/driver.h"
#include "block/throttle.h"

namespace atl::block {

/// Watches changes of a node's content. On the node's loop.
class WriteObserver {
 public:
  virtual ~WriteObserver() = default;
  /// Before a change: may make it wait. An error fails the request.
  virtual Task<Status> before_write(u64 offset, u64 bytes);
  /// After it, however it went.
  virtual void written(u64 offset, u64 bytes) = 0;
  /// After all have been told: the request completes only when this does.
  virtual Task<Status> settled(u64 offset, u64 bytes);
};
using Observers = std::vector<WriteObserver*>;

/// An observer of a node, until this goes.
class Observation {
 public:
  Observation() = default;
  Observation(Graph& graph, Node& node, WriteObserver& observer) : list_(graph.observers(node)), observer_(&observer) {
    list_->push_back(observer_);
  }
  Observation(Observation&& other) noexcept : list_(std::move(other.list_)), observer_(other.observer_) {}
  Observation& operator=(Observation&& other) noexcept {
    end();
    list_ = std::move(other.list_);
    observer_ = other.observer_;
    return *this;
  }
  ~Observation() { end(); }
  void end() {
    if (list_) std::erase(*list_, observer_);
    list_.reset();
  }

 private:
  std::shared_ptr<Observers> list_;
  WriteObserver* observer_ = nullptr;
};

/// How many requests took how long: bins[i] counts those below boundaries_ns[i] and not below the one before.
struct LatencyHistogram {
  std::vector<u64> boundaries_ns, bins;
  void add(u64 ns) { ++bins[static_cast<size_t>(std::ranges::upper_bound(boundaries_ns, ns) - boundaries_ns.begin())]; }
};

struct OperationStats {
  u64 bytes = 0, operations = 0, failed = 0, invalid = 0, merged = 0, time_ns = 0;
  std::optional<LatencyHistogram> latency;   // if somebody wants it
};
struct RootStats {
  OperationStats read, write, flush, unmap;
  u64 highest_write = 0;      // the end of the write that reached furthest
  u64 last_access_ns = 0;     // monotonic; 0: none yet
};

class Root final : public Node {
 public:
  Root(Graph& graph, NodePtr node);
  ~Root() override;
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  // Requests wait while the root is drained.
  NodeInfo info() const override { return node_->info(); }
  u64 size_bytes() const override { return node_->size_bytes(); }
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override;
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override;
  Task<Status> discard(u64 offset, u64 size) override;
  Task<Status> flush() override;
  Task<Status> close() override { return node_->close(); }
  Task<Status> resize(u64 size_bytes, Preallocation how) override;
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override { return node_->block_status(offset, bytes); }
  Task<Status> write_compressed(u64 offset, std::span<const iovec> data) override;
  std::vector<Child> children() const override { return {{"file", node_}}; }

  const NodePtr& node() const { return node_; }
  /// Only while drained, or before the first request.
  void set_node(NodePtr node);

  /// Keeps new requests waiting, and waits for those under way. As many resume()s as drain()s let them go on.
  Task<Status> drain();
  void resume();
  bool is_drained() const { return drains_ > 0; }

  const RootStats& stats() const { return stats_; }
  /// Counts from now on; without boundaries no more.
  void set_histogram(OperationStats RootStats::*operation, std::vector<u64> boundaries_ns);
  /// nullptr: no limits.
  void set_throttle(std::shared_ptr<ThrottleGroup> group) { throttle_ = std::move(group); }
  const std::shared_ptr<ThrottleGroup>& throttle() const { return throttle_; }
  /// Called when the size has changed through this graph. Loop thread.
  std::function<void()> on_resized;
  /// Told once when a write ends above the threshold (0: none), which is then 0 again.
  u64 write_threshold = 0;
  std::function<void(u64 amount_exceeded, u64 threshold)> on_threshold;

 private:
  class Pass;
  struct Gate {
    Root& root;
    bool await_ready() const { return root.drains_ == 0; }
    void await_suspend(std::coroutine_handle<> waiter) { root.waiting_.push_back(waiter); }
    void await_resume() const {}
  };
  struct Quiet {
    Root& root;
    bool await_ready() const { return root.in_flight_ == 0; }
    void await_suspend(std::coroutine_handle<> waiter) { root.drainers_.push_back(waiter); }
    void await_resume() const {}
  };

  Task<Status> change(OperationStats& stats, u64 offset, u64 bytes, Task<Status> task);
  Task<Status> account(OperationStats& stats, u64 bytes, Task<Status> task);
  Task<Status> throttle_request(bool is_write, u64 bytes);
  void ended();
  bool is_observed() const;
  bool is_observed_by(const WriteObserver* observer) const;
  void check_threshold(u64 end);

  Graph& graph_;
  NodePtr node_;
  std::vector<std::shared_ptr<Observers>> observers_;   // of the node, and of those that it is a filter of
  std::shared_ptr<ThrottleGroup> throttle_;
  RootStats stats_;
  u32 drains_ = 0, in_flight_ = 0;
  std::vector<std::coroutine_handle<>> waiting_, drainers_;
};

}  // namespace atl::block
