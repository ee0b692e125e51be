// Two pictures that a guest drew: what is found to have moved lies inside of both, and moving it makes it right.
#include <cstddef>
#include <cstdlib>

#include "display/vnc/motion.h"

extern "C" int LLVMFuzzerTestOneInput(const atl::u8* data, size_t size) {
  using namespace atl::display;
  if (size < 4) return 0;
  const atl::u32 width = 33 + data[0], height = 1 + data[1];
  Surface before(width, height), now(width, height);
  for (atl::u32 y = 0; y < height; ++y) {
    for (atl::u32 x = 0; x < width; ++x) {
      before.row(y)[x] = data[2 + (x + y * data[2]) % (size - 2)] & 15;
      now.row(y)[x] = data[2 + (x + data[3] % 64 + y * data[2]) % (size - 2)] & 15;
    }
  }
  const auto motion = vnc::find_motion(before, now, vnc::difference(before, now));
  if (!motion) return 0;
  const Rect& to = motion->to;
  if (to.x + to.width > width || to.y + to.height > height) std::abort();
  if (motion->from_x + to.width > width || motion->from_y + to.height > height) std::abort();
  vnc::apply_motion(before, *motion);
  for (atl::u32 y = to.y; y < to.y + to.height; ++y)
    for (atl::u32 x = to.x; x < to.x + to.width; ++x)
      if (before.row(y)[x] != now.row(y)[x]) std::abort();
  return 0;
}
