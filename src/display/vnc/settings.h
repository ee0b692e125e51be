// What all viewers of a server have in common: how they get in, and what their input does.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/types.h"

namespace atl {
class TlsCredentials;
}

namespace atl::display::vnc {

class KeyMap;

enum class PowerAction : u8 { Shutdown, Reboot, Reset };

/// The viewer's hands. Those that are left out are not offered to viewers.
struct Input {
  std::function<void(u8 key_number, bool down)> key;
  /// Where the pointer is on the picture; buttons as the protocol has them: left, middle, right, wheel up, wheel down.
  std::function<void(u32 x, u32 y, u8 buttons)> pointer;
  /// Steps of the pointer, for viewers that were told that the guest wants those.
  std::function<void(i32 dx, i32 dy, u8 buttons)> move;
  /// Whether the guest's pointer is told places.
  std::function<bool()> absolute;
  /// The keyboard's lights (display::KeyboardLed).
  std::function<u8()> leds;
  /// False: that cannot be had.
  std::function<bool(PowerAction action)> power;
  /// A size for the picture that the viewer would like; false if the guest cannot be told.
  std::function<bool(u32 width, u32 height)> resize;
};

struct Settings {
  std::string name = "Atoll";
  std::optional<std::string> password;   // at most eight characters count
  i64 password_ends = 0;                 // seconds since the epoch from which the password opens no more; 0: never
  std::shared_ptr<const TlsCredentials> tls;   // VeNCrypt is demanded
  bool anonymous_tls = false;            // the credentials have no certificate
  std::shared_ptr<const KeyMap> keymap;  // of viewers that tell symbols; without: the US layout's
  bool lossy = false;                    // JPEG for viewers that ask for a quality
};

}  // namespace atl::display::vnc
