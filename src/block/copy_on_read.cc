#include "block/copy_on_read.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/mapping.h"
#include "base/math.h"
#include "block/filter_node.h"
#include "block/iovecs.h"
#include "block/job/copy.h"
#include "block/range_guard.h"

namespace atl::block {
namespace {

constexpr u64 kPieceBytes = 1 * kMiB;

class CopyOnReadNode final : public FilterNode {
 public:
  CopyOnReadNode(NodePtr file, std::string node_name, NodePtr bottom)
      : FilterNode(std::move(file)), node_name_(std::move(node_name)), bottom_(std::move(bottom)) {}

  NodeInfo info() const override { return node_name_.empty() ? file_->info() : named_info(node_name_, "copy-on-read"); }
  bool is_filter() const override { return !node_name_.empty() || file_->is_filter(); }
  Image* image() override { return node_name_.empty() ? file_->image() : nullptr; }
  std::vector<Child> children() const override {
    return node_name_.empty() ? file_->children() : std::vector<Child>{{"file", file_}};
  }
  Status replace_child(std::string_view role, NodePtr node) override {
    if (node_name_.empty()) return file_->replace_child(role, std::move(node));
    return FilterNode::replace_child(role, std::move(node));
  }

  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    return guarded(offset, iovec_bytes(data), file_->write(offset, data, flags));
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    return guarded(offset, size, file_->write_zeroes(offset, size, flags));
  }
  Task<Status> discard(u64 offset, u64 size) override { return guarded(offset, size, file_->discard(offset, size)); }

 private:
  Task<Status> guarded(u64 offset, u64 bytes, Task<Status> change) {
    static_cast<void>(co_await guard_.before_write(offset, bytes));
    Status status = co_await std::move(change);
    guard_.written(offset, bytes);
    co_return status;
  }
  Task<Result<BlockStatus>> look(u64 offset, u64 bytes);
  Task<Result<u64>> read_run(u64 offset, std::span<const iovec> out);
  Task<Status> keep(u64 offset, u64 bytes);

  const std::string node_name_;
  const NodePtr bottom_;   // nothing is copied from here on down; nullptr: from everywhere
  RangeGuard guard_;
};

/// `allocated`: the image itself has it, or nobody above the bottom does.
Task<Result<BlockStatus>> CopyOnReadNode::look(u64 offset, u64 bytes) {
  Result<BlockStatus> found = co_await file_->block_status(offset, bytes);
  BlockStatus status = CO_TRY(std::move(found));
  NodePtr below = backing_of(*file_);
  if (status.allocated || !below || below == bottom_ || below->size_bytes() <= offset) {
    status.allocated = true;
    co_return status;
  }
  u64 inside = std::min(status.bytes, below->size_bytes() - offset);
  found = co_await status_above(*below, bottom_.get(), offset, inside);
  status = CO_TRY(std::move(found));
  status.allocated = !status.allocated || (!bottom_ && status.zero);
  co_return status;
}

Task<Status> CopyOnReadNode::read(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  if (file_->info().readonly) co_return co_await file_->read(offset, out);
  for (u64 done = 0; done < size;) {
    auto rest = iovec_slice(out, done);
    Result<u64> read = co_await read_run(offset + done, rest);
    done += CO_TRY(std::move(read));
  }
  co_return Status{};
}

Task<Result<u64>> CopyOnReadNode::read_run(u64 offset, std::span<const iovec> out) {
  const u64 size = iovec_bytes(out);
  Result<BlockStatus> found = co_await look(offset, size);
  BlockStatus status = CO_TRY(std::move(found));
  u64 bytes = std::min(status.bytes, size);
  if (!status.allocated) {
    bytes = std::min(bytes, kPieceBytes);
    static_cast<void>(co_await guard_.lock(offset, bytes));
    Status kept = co_await keep(offset, bytes);
    guard_.unlock(offset, bytes);
    CO_TRY(std::move(kept));
  }
  auto part = iovec_slice(out, 0, bytes);
  Status status_read = co_await file_->read(offset, part);
  CO_TRY(std::move(status_read));
  co_return bytes;
}

/// The guest may have written there before the lock was ours; then there is nothing to do.
Task<Status> CopyOnReadNode::keep(u64 offset, u64 bytes) {
  Result<BlockStatus> found = co_await look(offset, bytes);
  BlockStatus status = CO_TRY(std::move(found));
  if (status.allocated) co_return Status{};
  bytes = std::min(bytes, status.bytes);
  Mapping buffer = CO_TRY(Mapping::anonymous(bytes));
  iovec whole{buffer.data(), bytes};
  Status done = co_await file_->read(offset, {&whole, 1});
  if (done) done = co_await file_->write(offset, {&whole, 1}, kNoFlags);
  co_return done;
}

Task<Result<NodePtr>> open_copy_on_read(Graph& graph, Json options, OpenMode mode, std::string node_name) {
  OptionReader reader(std::move(options), "copy-on-read");
  std::string bottom_name = CO_TRY(reader.string("bottom", {}));
  Json child = reader.child("file");
  CO_TRY(reader.finish());
  mode.no_probe = false;
  Result<NodePtr> opened = co_await graph.open(std::move(child), std::move(mode));
  NodePtr file = CO_TRY(std::move(opened));
  NodePtr bottom;
  if (!bottom_name.empty()) {
    bottom = graph.find(bottom_name);
    if (!bottom) co_return Error(ErrorKind::NotFound, fmt::format("Bottom node '{}' not found", bottom_name));
    bottom = backing_of(*bottom);
  }
  co_return NodePtr(std::make_shared<CopyOnReadNode>(std::move(file), std::move(node_name), std::move(bottom)));
}

}  // namespace

NodePtr make_copy_on_read(Graph&, NodePtr node) {
  return std::make_shared<CopyOnReadNode>(std::move(node), std::string(), nullptr);
}

extern const Driver kCopyOnReadDriver;
const Driver kCopyOnReadDriver = {.name = "copy-on-read", .open = open_copy_on_read};

}  // namespace atl::block
