// Backing chains: images on images, with filters between them that are looked through.
#pragma once

#include "block/node.h"

namespace atl::block {

/// The backing file's node, or nullptr. Nodes without a format of their own are looked through.
NodePtr backing_of(Node& node);
/// The first node that is no filter, from `node` on downward.
NodePtr below_filters(NodePtr node);
/// What stands below in the chain: what a filter shows, or a backing file.
NodePtr next_in_chain(const Node& node);
/// From `top` to `bottom`, both included.
std::vector<const Node*> chain_between(const Node& top, const Node& bottom);
/// Whether `part` is `top` or something that it stands on as backing file, filters included.
bool is_in_chain(NodePtr top, const Node& part);
/// The node that stands on `below` in the chain of `top`; nullptr if there is none.
NodePtr overlay_of(NodePtr top, const Node& below);
/// Where the bytes at `offset` come from, looking through backing files down to (not into) `base`: `allocated` is false if
/// no node above `base` has them. Without a base, what the whole chain lacks is `zero`.
Task<Result<BlockStatus>> status_above(Node& top, const Node* base, u64 offset, u64 bytes);

}  // namespace atl::block
