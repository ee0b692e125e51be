#include "block/node.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "base/math.h"

namespace atl::block {

std::string generate_node_name() {
  u32 random = 0;
  [[maybe_unused]] ssize_t n = ::getrandom(&random, sizeof random, 0);  // small requests do not fail
  return fmt::format("#block{:08x}", random);
}

Status check_range(u64 offset, u64 size, u64 node_bytes) {
  if (range_fits(offset, size, align_up(node_bytes, kSectorBytes))) return {};
  return Error(ErrorKind::Invalid,
               fmt::format("{} bytes at {} are outside the {} bytes of the disk", size, offset, node_bytes), EINVAL);
}

}  // namespace atl::block
