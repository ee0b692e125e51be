// Questions about a graph of nodes that several sub-commands ask.
#pragma once

#include <optional>
#include <string>

#include "base/math.h"
#include "block/image_info.h"

namespace atl::img {

using block::Node;
using block::NodePtr;

/// The child of that role, or nullptr.
NodePtr child_of(const Node& node, std::string_view role);
std::string format_of(const Node& node);
/// Its size as disks have it: in whole sectors.
inline u64 disk_bytes(const Node& node) { return align_up(node.size_bytes(), block::kSectorBytes); }
/// The message of an error without what the layers added in front of the host's: "No space left on device".
std::string short_reason(const Error& error);

/// Where a run of bytes comes from, down the backing chain.
struct ChainStatus {
  u64 bytes = 0;
  bool present = false;   // some image of the chain holds it
  bool data = false, zero = false, compressed = false;
  int depth = 0;          // 0: the image itself, 1: its backing file ...
  std::optional<u64> offset;
  const Node* file = nullptr;
};
/// Looks from `top` down to, but not into, `base` (nullptr: all the way).
Task<Result<ChainStatus>> chain_status(Node& top, u64 offset, u64 bytes, const Node* base = nullptr);

}  // namespace atl::img
