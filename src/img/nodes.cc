#include "img/nodes.h"

#include <algorithm>
#include <cstring>

#include "block/chain.h"

namespace atl::img {

NodePtr child_of(const Node& node, std::string_view role) {
  for (block::Child& child : node.children())
    if (child.role == role) return std::move(child.node);
  return nullptr;
}

std::string short_reason(const Error& error) {
  return error.os_errno() ? std::strerror(error.os_errno()) : error.text();
}

std::string format_of(const Node& node) { return node.info().driver; }

Task<Result<ChainStatus>> chain_status(Node& top, u64 offset, u64 bytes, const Node* base) {
  ChainStatus found;
  Node* node = &top;
  while (true) {
    auto answer = co_await node->block_status(offset, bytes);
    block::BlockStatus status = CO_TRY(std::move(answer));
    bytes = std::min(bytes, status.bytes);
    NodePtr holder = block::backing_of(*node);
    Node* below = holder.get();  // kept by its parent
    if (status.allocated || !below || below == base) {
      found.present = status.allocated;
      found.data = status.allocated && status.data;
      found.zero = status.zero || (!status.allocated && !below);
      found.compressed = status.compressed;
      if (found.data || (status.allocated && status.offset)) found.offset = status.offset, found.file = status.file;
      break;
    }
    u64 end = below->size_bytes();
    if (offset >= end) {  // a backing file that ends earlier
      found.zero = true;
      break;
    }
    bytes = std::min(bytes, end - offset);
    node = below;
    ++found.depth;
  }
  found.bytes = bytes;
  co_return found;
}

}  // namespace atl::img
