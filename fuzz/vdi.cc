// A hostile VirtualBox (vdi) image, see block_image.h.
#include "block_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return atl::fuzz::try_bytes(data, size, atl::block::open_vdi_node);
}
