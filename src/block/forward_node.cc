#include "block/forward_node.h"

#include <atomic>

namespace atl::block {
namespace {

/// `co_await hop`: the coroutine goes on on the other loop's thread.
struct Hop {
  Loop& to;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    to.post([waiter] { waiter.resume(); });
  }
  void await_resume() const {}
};

class ForwardNode final : public Node {
 public:
  ForwardNode(Loop& here, Loop& there, std::shared_ptr<Root> root)
      : here_(here), there_(there), root_(std::move(root)), info_(root_->info()), size_(std::make_shared<std::atomic<u64>>(info_.size_bytes)) {
    root_->on_resized = [size = size_, root = root_.get()] { *size = root->size_bytes(); };
  }
  ~ForwardNode() override {
    there_.post([root = std::move(root_)] {});
  }

  NodeInfo info() const override {
    NodeInfo info = info_;
    info.size_bytes = *size_;
    return info;
  }
  u64 size_bytes() const override { return *size_; }
  Task<Status> read(u64 offset, std::span<const iovec> out) override { return there_and_back(root_->read(offset, out)); }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    return there_and_back(root_->write(offset, data, flags));
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    return there_and_back(root_->write_zeroes(offset, size, flags));
  }
  Task<Status> discard(u64 offset, u64 size) override { return there_and_back(root_->discard(offset, size)); }
  Task<Status> flush() override { return there_and_back(root_->flush()); }
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override {
    return there_and_back(status_of_root(root_, offset, bytes));
  }

 private:
  /// Coroutines start when they are awaited: on the thread of the node.
  template <class T>
  Task<T> there_and_back(Task<T> request) {
    Hop out{there_}, back{here_};
    co_await out;
    T result = co_await std::move(request);
    co_await back;
    co_return result;
  }
  /// Root hands this one on without a coroutine of its own, so that it would start at once.
  static Task<Result<BlockStatus>> status_of_root(std::shared_ptr<Root> root, u64 offset, u64 bytes) {
    co_return co_await root->block_status(offset, bytes);
  }

  Loop& here_;
  Loop& there_;
  std::shared_ptr<Root> root_;
  const NodeInfo info_;
  const std::shared_ptr<std::atomic<u64>> size_;
};

}  // namespace

NodePtr make_forward_node(Loop& here, Loop& there, std::shared_ptr<Root> root) {
  return std::make_shared<ForwardNode>(here, there, std::move(root));
}

}  // namespace atl::block
