// A node that stands on one other node and shows it as it is: the base of everything that watches, slows down or changes
// requests. Its child has the role "file".
#pragma once

#include "block/node.h"

namespace atl::block {

class FilterNode : public Node {
 public:
  explicit FilterNode(NodePtr file) : file_(std::move(file)) {}

  NodeInfo info() const override { return file_->info(); }
  Task<Status> read(u64 offset, std::span<const iovec> out) override { return file_->read(offset, out); }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    return file_->write(offset, data, flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    return file_->write_zeroes(offset, size, flags);
  }
  Task<Status> discard(u64 offset, u64 size) override { return file_->discard(offset, size); }
  Task<Status> flush() override { return file_->flush(); }
  Task<Status> close() override { return file_->close(); }
  Task<Status> set_readonly(bool readonly) override { return file_->set_readonly(readonly); }
  u64 size_bytes() const override { return file_->size_bytes(); }
  Task<Status> resize(u64 size_bytes, Preallocation how) override { return file_->resize(size_bytes, how); }
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override { return file_->block_status(offset, bytes); }
  Task<Status> write_compressed(u64 offset, std::span<const iovec> data) override {
    return file_->write_compressed(offset, data);
  }
  DebugPoints* debug_points() override { return file_->debug_points(); }
  bool is_filter() const override { return true; }
  std::vector<Child> children() const override { return {{"file", file_}}; }
  Status replace_child(std::string_view role, NodePtr node) override {
    if (role != "file" || !node) return Node::replace_child(role, std::move(node));
    file_ = std::move(node);
    return {};
  }

 protected:
  /// What info() tells of a filter that a user named.
  NodeInfo named_info(const std::string& node_name, const char* driver) const {
    NodeInfo info = file_->info();
    info.node_name = node_name;
    info.driver = driver;
    return info;
  }

  NodePtr file_;
};

}  // namespace atl::block
