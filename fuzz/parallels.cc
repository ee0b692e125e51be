// A hostile Parallels image, see block_image.h.
#include "block_image.h"

namespace {

using namespace atl::block;

atl::Task<atl::Result<NodePtr>> open_image(NodePtr file, MappedOptions options) {
  return open_parallels_node(std::move(file), true, std::move(options));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return atl::fuzz::try_bytes(data, size, open_image);
}
