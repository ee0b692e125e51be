// One viewer: its handshake, its messages, and what it must still be shown (RFC 6143, chapter 7).
//
// The server feeds it bytes and the present picture; it produces bytes. It knows no socket, so that a fuzzer can drive it.
// Messages: those of the RFC, QEMU's extended key events, fences, continuous updates, SetDesktopSize and xvp. Text to paste
// is skipped: there is no clipboard. Missing: QEMU's audio. Thread: the loop's.
#pragma once

#include "display/vnc/handshake.h"
#include "display/vnc/updates.h"

namespace atl::display::vnc {

class Client {
 public:
  Client(const Settings& settings, const Input& input, const Surface& picture, const CursorShape& cursor, bool secured = false);

  /// Bytes from the viewer. False: it does not speak the protocol, or may not come in; drop it.
  bool receive(std::span<const u8> bytes);
  /// What waits to be sent; the sender erases what has gone.
  std::vector<u8>& output() { return output_; }
  /// TLS begins behind the present output; nothing is read until tls_done(). Bytes that came too early break the protocol.
  bool wants_tls() const { return handshake_.wants_tls(); }
  bool tls_done() { return handshake_.tls_done() != Parsed::Broken; }

  /// Something changed inside `rect`, or the picture's size did.
  void changed(const Rect& rect) { updates_.changed(rect); }
  void moved(const Motion& motion) { updates_.moved(motion); }
  void resized();
  void cursor_changed() { updates_.cursor_changed(); }
  /// Sends what changed if the viewer has asked for it. Not to be called while much output waits.
  void update() {
    if (ready()) updates_.send(output_);
  }
  bool ready() const { return ready_; }
  bool wants_motion() const { return updates_.wants(kCopyRect); }
  /// Asked at connection: whether others may stay.
  bool shared() const { return handshake_.shared(); }

 private:
  Parsed parse_one();
  void begin_session();
  Parsed parse_message();
  Parsed parse_format();
  Parsed parse_encodings();
  Parsed parse_update_request();
  Parsed parse_key();
  Parsed parse_pointer();
  Parsed parse_cut_text();
  Parsed parse_continuous();
  Parsed parse_fence();
  Parsed parse_xvp();
  Parsed parse_desktop_size();
  Parsed parse_qemu();
  void announce_extensions();
  void press_symbol(u32 symbol, bool down);
  void press(u8 number, bool down);
  void wish_size(u32 width, u32 height);

  const Settings& settings_;
  const Input& hands_;
  const Surface& picture_;
  InputBytes input_;
  std::vector<u8> output_;
  Handshake handshake_;
  Updates updates_;
  bool ready_ = false;
  u64 skip_ = 0;                    // bytes of cut text to come
  bool told_fence_ = false, told_continuous_ = false, told_xvp_ = false;
  bool shift_held_ = false;         // the viewer holds a shift key
  bool asked_size_ = false;         // the next change of size is this viewer's doing
  u8 shifted_key_ = 0;              // held with a shift that the viewer did not press
};

}  // namespace atl::display::vnc
