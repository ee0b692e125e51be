// A peer's bytes against the WebSocket layer, in pieces: what comes out is never more than what went in.
#include <cstdlib>

#include "display/vnc/websocket.h"
#include "fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace atl;
  display::vnc::WebSocket socket;
  std::vector<u8> content, answer;
  // Most inputs are frames behind a request that is right.
  static constexpr char kRequest[] = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n"
                                     "Sec-WebSocket-Version: 13\r\n\r\n";
  if (size > 0 && data[0] % 4 != 0 && !socket.receive({reinterpret_cast<const u8*>(kRequest), sizeof kRequest - 1}, content, answer))
    std::abort();
  answer.clear();
  for (size_t at = 0; at < size;) {
    const size_t part = std::min<size_t>(size - at, 1 + data[at] % 32);
    if (!socket.receive({data + at, part}, content, answer)) break;
    at += part;
  }
  if (content.size() > size) std::abort();
  return 0;
}
