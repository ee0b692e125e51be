// One viewer: its handshake, its messages, and what it must still be shown (RFC 6143, chapter 7).
//
// The server feeds it bytes and the present picture; it produces bytes. It knows no socket, so that a fuzzer can drive it.
// Thread: the loop's.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "display/surface.h"
#include "display/vnc/pixel_format.h"
#include "display/vnc/spec.h"
#include "display/vnc/zrle.h"

namespace atl::display::vnc {

/// The viewer's hands.
struct Input {
  std::function<void(u8 key_number, bool down)> key;
  /// Where the pointer is on the picture; buttons as the protocol has them: left, middle, right, wheel up, wheel down.
  std::function<void(u32 x, u32 y, u8 buttons)> pointer;
};

struct Settings {
  std::string name = "Atoll";
  std::optional<std::string> password;   // at most eight characters count
};

class Client {
 public:
  Client(const Settings& settings, const Input& input, const Surface& picture);

  /// Bytes from the viewer. False: it does not speak the protocol, or may not come in; drop it.
  bool receive(std::span<const u8> bytes);
  /// What waits to be sent; the sender erases what has gone.
  std::vector<u8>& output() { return output_; }

  /// Something changed inside `rect`, or the picture's size did.
  void changed(const Rect& rect);
  void resized();
  /// Sends what changed if the viewer has asked for it. Not to be called while much output waits.
  void update();
  bool ready() const { return state_ == State::Ready; }
  /// Asked at connection: whether others may stay.
  bool shared() const { return shared_; }

 private:
  enum class State : u8 { Version, Security, Challenge, Init, Ready };
  enum class Parsed : u8 { Done, NeedMore, Broken };

  Parsed parse_one();
  Parsed parse_version();
  Parsed parse_security();
  Parsed parse_response();
  Parsed parse_init();
  Parsed parse_message();
  Parsed parse_encodings();
  Parsed parse_update_request();
  Parsed parse_key();
  Parsed parse_pointer();
  Parsed parse_cut_text();
  Parsed parse_qemu();
  bool has(size_t bytes) const { return input_.size() - at_ >= bytes; }
  const u8* here() const { return input_.data() + at_; }

  Security offered_security() const { return settings_.password ? Security::Vnc : Security::None; }
  Parsed impose_security();
  Parsed begin_security();
  void refuse(const std::string& reason);
  void press_symbol(u32 symbol, bool down);
  void begin_rectangle(const Rect& rect, i32 encoding);
  void send_rectangle(const Rect& rect);
  bool announce();
  std::vector<Rect> take_dirty();

  const Settings& settings_;
  const Input& hands_;
  const Surface& picture_;
  State state_ = State::Version;
  unsigned minor_ = 8;           // of the protocol 3.x
  std::vector<u8> input_;
  size_t at_ = 0;                // parsed so far
  u32 skip_ = 0;                 // bytes of cut text to come
  std::vector<u8> output_;
  u8 challenge_[16]{};
  bool shared_ = true;

  PixelFormat format_;
  ZrleEncoder zrle_;
  bool wants_zrle_ = false, wants_resize_ = false, wants_qemu_keys_ = false, told_qemu_keys_ = false;
  bool requested_ = false, size_changed_ = false;
  u32 width_ = 0, height_ = 0;   // as the viewer knows them
  u32 columns_ = 0, rows_ = 0;   // of tiles
  std::vector<bool> dirty_;
};

}  // namespace atl::display::vnc
