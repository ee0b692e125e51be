#include "block/write_through.h"

#include "block/transparent_node.h"

namespace atl::block {
namespace {

class WriteThroughNode final : public TransparentNode {
 public:
  using TransparentNode::TransparentNode;

  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    return file_->write(offset, data, flags | kFua);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    return file_->write_zeroes(offset, size, flags | kFua);
  }
  Task<Status> discard(u64 offset, u64 size) override { return flushed(file_->discard(offset, size)); }
  Task<Status> resize(u64 size_bytes, Preallocation how) override { return flushed(file_->resize(size_bytes, how)); }
  Task<Status> write_compressed(u64 offset, std::span<const iovec> data) override {
    return flushed(file_->write_compressed(offset, data));
  }

 private:
  Task<Status> flushed(Task<Status> change) {
    Status status = co_await std::move(change);
    if (status) co_return co_await file_->flush();
    co_return status;
  }
};

}  // namespace

NodePtr make_write_through(NodePtr node) { return std::make_shared<WriteThroughNode>(std::move(node)); }

}  // namespace atl::block
