// A hostile LUKS1 header: parsed, and its slots tried with a password.
#include "block/crypto/luks.h"

#include "block_image.h"

namespace {

using namespace atl;
using namespace atl::block::crypto;

constexpr u32 kMostIterations = 2000;  // more are legal, but slow

bool is_quick(const LuksHeader& header) {
  for (const LuksSlot& slot : header.slots)
    if (slot.active && slot.iterations > kMostIterations) return false;
  return header.key_iterations <= kMostIterations;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  block::MemoryNode file(std::string(reinterpret_cast<const char*>(data), size), fuzz::kImageLimit);
  auto header = block::finish(fuzz::loop(), read_luks_header(file, 0));
  if (!header) return 0;
  (void)luks_info(*header);
  if (is_quick(*header)) (void)block::finish(fuzz::loop(), unlock_luks(file, 0, *header, "secret"));
  return 0;
}
