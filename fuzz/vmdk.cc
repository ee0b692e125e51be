// A hostile VMDK image, sparse or a descriptor whose extents are the file itself; see block_image.h.
#include "block_image.h"

namespace {

using namespace atl;
using namespace atl::block;

class SameFile final : public VmdkExtents {
 public:
  explicit SameFile(NodePtr file) : file_(std::move(file)) {}
  Task<Result<NodePtr>> open(std::string) override { co_return file_; }

 private:
  NodePtr file_;
};

Task<Result<NodePtr>> open_image(NodePtr file, MappedOptions options) {
  SameFile extents(file);
  co_return co_await open_vmdk_node(file, extents, std::move(options));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fuzz::try_bytes(data, size, open_image);
}
