#include "block/chain.h"

#include <algorithm>

#include "block/image.h"

namespace atl::block {
namespace {

/// Whether `part` is `node` or one of the filters and the image below it, as far as they show the same.
bool is_in_filters(const NodePtr& node, const Node& part) {
  for (NodePtr at = node; at; at = at->children().front().node) {
    if (at.get() == &part) return true;
    if (!at->is_filter()) return false;
  }
  return false;
}

}  // namespace

NodePtr backing_of(Node& node) {
  NodePtr only;
  auto children = node.children();
  for (Child& child : children) {
    if (child.role == "backing") return child.node;
    if (child.role == "file" && children.size() == 1) only = child.node;
  }
  return only && !node.image() ? backing_of(*only) : nullptr;
}

NodePtr below_filters(NodePtr node) {
  while (node && node->is_filter()) node = node->children().front().node;
  return node;
}

NodePtr next_in_chain(const Node& node) {
  if (node.is_filter()) return node.children().front().node;
  for (const Child& child : node.children())
    if (child.role == "backing") return child.node;
  return nullptr;
}

std::vector<const Node*> chain_between(const Node& top, const Node& bottom) {
  std::vector<const Node*> list;
  for (const Node* node = &top; node; node = next_in_chain(*node).get()) {
    list.push_back(node);
    if (node == &bottom) break;
  }
  return list;
}

bool is_in_chain(NodePtr top, const Node& part) {
  for (NodePtr node = std::move(top); node; node = backing_of(*node))
    if (is_in_filters(node, part)) return true;
  return false;
}

NodePtr overlay_of(NodePtr top, const Node& below) {
  for (NodePtr node = below_filters(std::move(top)); node;) {
    NodePtr next = backing_of(*node);
    if (next && is_in_filters(next, below)) return node;
    node = below_filters(std::move(next));
  }
  return nullptr;
}

Task<Result<BlockStatus>> status_above(Node& top, const Node* base, u64 offset, u64 bytes) {
  NodePtr keep;
  Node* node = &top;
  while (true) {
    Result<BlockStatus> found = co_await node->block_status(offset, bytes);
    BlockStatus status = CO_TRY(std::move(found));
    if (status.allocated) co_return status;
    bytes = std::min(bytes, status.bytes);
    status.bytes = bytes;
    NodePtr below = backing_of(*node);
    if (below && base && is_in_filters(below, *base)) co_return status;
    if (!below || below->size_bytes() <= offset) {
      status.allocated = status.zero = true;
      status.data = false;
      co_return status;
    }
    bytes = std::min(bytes, below->size_bytes() - offset);
    keep = std::move(below);
    node = keep.get();
  }
}

}  // namespace atl::block
