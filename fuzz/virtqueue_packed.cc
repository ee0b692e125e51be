// Packed virtqueues over memory that a hostile driver wrote and goes on writing.
#include "virtqueue_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  atl::fuzz::run_queue({data, size}, atl::devices::virtio::kFeaturePacked);
  return 0;
}
