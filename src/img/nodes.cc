#include "img/nodes.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "block/driver.h"
#include "block/job/copy.h"

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

std::optional<u64> allocated_file_bytes(const Node& node) {
  const std::string driver = format_of(node);
  if (driver == "null-co" || driver == "null-aio") return 0;
  if (driver == "blkdebug" || driver == "blkverify") return std::nullopt;   // protocols that do not say
  u64 sum = 0;
  bool leaf = true, known = true;
  for (const block::Child& child : node.children()) {
    if (child.role == "backing") continue;
    leaf = false;
    auto bytes = allocated_file_bytes(*child.node);
    known &= bytes.has_value();
    sum += bytes.value_or(0);
  }
  if (!leaf) return known ? std::optional(sum) : std::nullopt;
  block::NodeInfo info = node.info();
  struct stat status;
  bool local = info.driver == "file" || info.driver == "host_device" || info.driver == "host_cdrom";
  if (!local || ::stat(info.filename.c_str(), &status) < 0) return std::nullopt;
  return static_cast<u64>(status.st_blocks) * 512;
}

std::optional<std::string> full_backing_name(const std::string& image, const std::string& backing) {
  bool absolute = backing.starts_with('/') || block::has_protocol(backing);
  if (!absolute && (image.starts_with("json:") || image.empty())) return std::nullopt;
  return block::resolve_backing_name(backing, image);
}

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
