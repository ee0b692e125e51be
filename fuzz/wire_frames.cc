// A peer's stream on a network wire: whatever it sends, frames stay inside of the bounds and the rest is refused.
#include <cstddef>
#include <cstdlib>

#include "net/socket_backend.h"

extern "C" int LLVMFuzzerTestOneInput(const atl::u8* data, size_t size) {
  atl::net::FrameCutter cutter;
  for (size_t at = 0; at < size;) {
    const size_t part = std::min<size_t>(size - at, 1 + data[at] % 97);
    if (!cutter.add({data + at, part})) return 0;
    at += part;
    for (auto frame = cutter.next(); !frame.empty(); frame = cutter.next())
      if (frame.size() > atl::net::kMaxWireFrame) std::abort();
  }
  return 0;
}
