#include "block/detect_zeroes.h"

#include "block/iovecs.h"
#include "block/transparent_node.h"

namespace atl::block {
namespace {

class DetectZeroesNode final : public TransparentNode {
 public:
  DetectZeroesNode(NodePtr node, DetectZeroes how) : TransparentNode(std::move(node)), how_(how) {}

  NodeInfo info() const override {
    NodeInfo info = file_->info();
    info.detect_zeroes = how_ == DetectZeroes::Unmap ? "unmap" : "on";
    return info;
  }
  Task<Status> write(u64 offset, std::span<const iovec> data, u32 flags) override {
    if (!iovec_is_zero(data)) return file_->write(offset, data, flags);
    return write_zeroes(offset, iovec_bytes(data), flags);
  }
  Task<Status> write_zeroes(u64 offset, u64 size, u32 flags) override {
    if (how_ == DetectZeroes::Unmap) flags |= kMayUnmap;
    return file_->write_zeroes(offset, size, flags);
  }

 private:
  const DetectZeroes how_;
};

}  // namespace

NodePtr make_detect_zeroes(NodePtr node, DetectZeroes how) {
  return std::make_shared<DetectZeroesNode>(std::move(node), how);
}

}  // namespace atl::block
