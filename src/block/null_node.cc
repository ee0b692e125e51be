// Null node ("null-co"): takes every write, keeps nothing, reads as zeroes.
#include "block/iovecs.h"
#include "block/node.h"

namespace atl::block {
namespace {

class NullNode final : public Node {
 public:
  NullNode(Loop& loop, const NullOptions& options) : loop_(loop), options_(options), size_(options.size) {}

  NodeInfo info() const override {
    NodeInfo info;
    info.node_name = options_.node_name;
    info.driver = options_.driver;
    info.filename = options_.driver + "://";
    info.size_bytes = size_;
    info.can_discard = true;
    return info;
  }
  u64 size_bytes() const override { return size_; }
  Task<Status> resize(u64 size_bytes, Preallocation) override {
    size_ = size_bytes;
    co_return Status{};
  }
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override {
    BlockStatus status;
    status.bytes = bytes;
    status.offset = offset;
    status.file = this;
    status.zero = options_.read_zeroes;
    co_return status;
  }

  Task<Status> read(u64 offset, std::span<const iovec> out) override {
    Status status = co_await answer(offset, iovec_bytes(out));
    if (status && options_.read_zeroes) iovec_clear(out);
    co_return status;
  }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32) override {
    return answer(offset, iovec_bytes(data));
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32) override { return answer(offset, size); }
  Task<Status> discard(u64 offset, u64 size) override { return answer(offset, size); }
  Task<Status> flush() override { return answer(0, 0); }

 private:
  Task<Status> answer(u64 offset, u64 size) {
    CO_TRY(check_range(offset, size, size_));
    if (options_.latency_ns) co_await loop_.sleep(options_.latency_ns);
    co_return Status{};
  }

  Loop& loop_;
  const NullOptions options_;
  u64 size_;
};

}  // namespace

std::unique_ptr<Node> make_null_node(Loop& loop, const NullOptions& options) {
  NullOptions named = options;
  if (named.node_name.empty()) named.node_name = generate_node_name();
  return std::make_unique<NullNode>(loop, named);
}

}  // namespace atl::block
