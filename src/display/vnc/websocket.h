// The server's side of one WebSocket connection (RFC 6455): the HTTP request that opens it, and frames in both directions.
//
// Supported: binary messages in fragments of any size (passed on as they come, nothing is gathered), ping, close. Missing:
// text messages, extensions; both break the connection, as the standard wants. No I/O. Thread: the loop's.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/types.h"

namespace atl::display::vnc {

class WebSocket {
 public:
  /// Bytes from the peer: their content is appended to `content`, answers (already framed) to `answer`. False: not a
  /// WebSocket, or closed; the answer still wants sending.
  bool receive(std::span<const u8> bytes, std::vector<u8>& content, std::vector<u8>& answer);
  bool is_open() const { return open_; }
  /// Appends `data` as a binary message.
  static void frame(std::span<const u8> data, std::vector<u8>& out);

 private:
  bool open_by_request(std::vector<u8>& answer);
  bool take_frames(std::vector<u8>& content, std::vector<u8>& answer);
  bool begin_frame();
  void take_payload(std::vector<u8>& content);
  bool end_control(std::vector<u8>& answer);

  bool open_ = false;
  std::vector<u8> input_;        // a request or a frame's header that is not complete, a control frame's payload
  bool in_frame_ = false;
  u8 opcode_ = 0;
  u64 left_ = 0;                 // of the frame's payload
  u8 mask_[4] = {};
  unsigned mask_at_ = 0;
  std::vector<u8> control_;
};

}  // namespace atl::display::vnc
