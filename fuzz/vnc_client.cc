// A viewer's bytes against the remote screen: whatever it says, work and memory stay bounded.
#include <cstddef>

#include "display/vnc/client.h"

extern "C" int LLVMFuzzerTestOneInput(const atl::u8* data, size_t size) {
  using namespace atl::display;
  static const Surface picture(100, 70);
  static const vnc::Input input{.key = [](atl::u8, bool) {},
                                .pointer = [](atl::u32, atl::u32, atl::u8) {},
                                .move = [](atl::i32, atl::i32, atl::u8) {},
                                .absolute = [] { return false; },
                                .leds = [] { return atl::u8{3}; },
                                .power = [](vnc::PowerAction) { return true; },
                                .resize = [](atl::u32 width, atl::u32) { return width % 2 == 0; }};
  vnc::Settings settings;
  static const CursorShape cursor{.width = 4, .height = 2, .hot_x = 1, .hot_y = 1, .pixels = std::vector<atl::u32>(8, 0xff123456)};
  settings.lossy = size > 0 && data[0] & 16;
  vnc::Client client(settings, input, picture, cursor);
  // The handshake is over quickly; then messages.
  const atl::u8 hello[] = {'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n', 1, 1};
  const bool greeted = size == 0 || data[0] % 8 != 0;
  if (greeted && !client.receive(hello)) return 0;
  for (size_t at = 0; at < size;) {
    const size_t part = std::min<size_t>(size - at, 1 + data[at] % 64);
    if (!client.receive({data + at, part})) return 0;
    at += part;
    if (client.output().size() < 1 << 20) client.update();
    client.output().clear();
  }
  return 0;
}
