// Numbers of the remote framebuffer protocol (RFC 6143), and of extensions that clients use (community protocol description,
// sections "QEMU Extended Key Event", "ExtendedDesktopSize").
#pragma once

#include "base/types.h"

namespace atl::display::vnc {

enum class Security : u8 { Invalid = 0, None = 1, Vnc = 2 };

enum ClientMessage : u8 { kSetPixelFormat = 0, kSetEncodings = 2, kUpdateRequest = 3, kKeyEvent = 4, kPointerEvent = 5,
                          kClientCutText = 6, kQemuMessage = 255 };
enum ServerMessage : u8 { kUpdate = 0, kSetColourMap = 1, kBell = 2 };
enum QemuMessage : u8 { kQemuExtendedKey = 0 };

enum Encoding : i32 { kRaw = 0, kZrle = 16, kDesktopSize = -223, kLastRect = -224, kQemuExtendedKeys = -258 };

inline constexpr char kVersion[] = "RFB 003.008\n";
inline constexpr u32 kVersionBytes = 12;
inline constexpr u32 kTile = 64;  // of ZRLE, and what changes are looked for in

}  // namespace atl::display::vnc
