#include "devices/input/ps2.h"

namespace atl::devices::ps2 {

void Device::visit_output(Archive& archive) {
  std::vector<u8> bytes(output_.begin(), output_.end());
  archive.blob(1, "output", bytes, kLimit);
  archive.field(2, "last", last_);
  if (archive.loading()) output_.assign(bytes.begin(), bytes.end());
}

}  // namespace atl::devices::ps2
