#include "block/node.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "base/math.h"
#include "block/iovecs.h"

namespace atl::block {

Task<Status> Node::resize(u64, Preallocation) {
  co_return Error(ErrorKind::Unsupported, "Image format driver does not support resize", ENOTSUP);
}

Task<Status> Node::set_readonly(bool readonly) {
  NodeInfo now = info();
  if (now.readonly == readonly) co_return Status{};
  co_return Error(ErrorKind::Unsupported,
                  fmt::format("driver '{}' cannot change between read-only and read-write", now.driver), ENOTSUP);
}

Task<Result<BlockStatus>> Node::block_status(u64, u64 bytes) {
  BlockStatus status;
  status.bytes = bytes;
  co_return status;
}

Task<Status> Node::write_compressed(u64, std::span<const iovec>) {
  co_return Error(ErrorKind::Unsupported, "this format does not store compressed data", ENOTSUP);
}

Status Node::replace_child(std::string_view role, NodePtr) {
  return Error(ErrorKind::Unsupported, fmt::format("the child '{}' of this node cannot be replaced", role), ENOTSUP);
}

Task<Status> write_zeroes_as_data(Node& node, u64 offset, u64 size) {
  while (size > 0) {
    auto zeroes = iovec_zeroes(size);
    u64 n = iovec_bytes(zeroes);
    Status status = co_await node.write(offset, zeroes, kNoFlags);
    CO_TRY(std::move(status));
    offset += n;
    size -= n;
  }
  co_return Status{};
}

std::string generate_node_name() {
  u32 random = 0;
  [[maybe_unused]] ssize_t n = ::getrandom(&random, sizeof random, 0);  // small requests do not fail
  return fmt::format("#block{:010}", random);
}

Status check_range(u64 offset, u64 size, u64 node_bytes) {
  if (range_fits(offset, size, align_up(node_bytes, kSectorBytes))) return {};
  return Error(ErrorKind::Invalid,
               fmt::format("{} bytes at {} are outside the {} bytes of the disk", size, offset, node_bytes), EINVAL);
}

}  // namespace atl::block
