#include "img/joined_node.h"

#include "block/iovecs.h"
#include "img/nodes.h"

namespace atl::img {
namespace {

using block::BlockStatus;

class JoinedNode final : public Node {
 public:
  explicit JoinedNode(std::vector<NodePtr> parts) : parts_(std::move(parts)) {
    for (const NodePtr& part : parts_) bytes_ += disk_bytes(*part);
  }

  block::NodeInfo info() const override { return {.driver = "joined", .size_bytes = bytes_, .readonly = true}; }
  u64 size_bytes() const override { return bytes_; }
  Task<Status> read(u64 offset, std::span<const iovec> out) override;
  Task<Status> write(u64, std::span<const iovec>, u32) override { return refuse(); }
  Task<Status> write_zeroes(u64, u64, u32) override { return refuse(); }
  Task<Status> discard(u64, u64) override { return refuse(); }
  Task<Status> flush() override { co_return Status{}; }
  Task<Result<BlockStatus>> block_status(u64 offset, u64 bytes) override;

 private:
  static Task<Status> refuse() { co_return Error(ErrorKind::Permission, "joined sources are read-only", EPERM); }
  /// The part that holds `offset`, which becomes relative to it.
  Node& part_at(u64& offset) const {
    size_t i = 0;
    while (i + 1 < parts_.size() && offset >= disk_bytes(*parts_[i])) offset -= disk_bytes(*parts_[i++]);
    return *parts_[i];
  }

  const std::vector<NodePtr> parts_;
  u64 bytes_ = 0;
};

Task<Status> JoinedNode::read(u64 offset, std::span<const iovec> out) {
  const u64 size = block::iovec_bytes(out);
  for (u64 done = 0; done < size;) {
    u64 at = offset + done;
    Node& part = part_at(at);
    const u64 bytes = std::min(size - done, disk_bytes(part) - at);
    auto slice = block::iovec_slice(out, done, bytes);
    Status status = co_await part.read(at, slice);
    CO_TRY(std::move(status));
    done += bytes;
  }
  co_return Status{};
}

/// What no image of a part's chain holds reads as zeroes here: there is nothing below the joined disk.
Task<Result<BlockStatus>> JoinedNode::block_status(u64 offset, u64 bytes) {
  Node& part = part_at(offset);
  auto found = co_await chain_status(part, offset, std::min(bytes, disk_bytes(part) - offset));
  const ChainStatus chain = CO_TRY(std::move(found));
  BlockStatus status;
  status.bytes = chain.bytes;
  status.data = chain.data;
  status.zero = chain.zero || !chain.present;
  co_return status;
}

}  // namespace

NodePtr join_nodes(std::vector<NodePtr> parts) { return std::make_shared<JoinedNode>(std::move(parts)); }

}  // namespace atl::img
