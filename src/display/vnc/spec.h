// Numbers of the remote framebuffer protocol (RFC 6143), and of extensions that clients use (community protocol description,
// rfbproto: VeNCrypt, Tight, Cursor, ExtendedDesktopSize, DesktopName, QEMU's, Fence, ContinuousUpdates, xvp).
#pragma once

#include "base/types.h"

namespace atl::display::vnc {

enum class Security : u8 { Invalid = 0, None = 1, Vnc = 2, VeNCrypt = 19 };
/// VeNCrypt's sub-types.
enum class SubSecurity : u32 { TlsNone = 257, TlsVnc = 258, X509None = 260, X509Vnc = 261 };

enum ClientMessage : u8 { kSetPixelFormat = 0, kSetEncodings = 2, kUpdateRequest = 3, kKeyEvent = 4, kPointerEvent = 5,
                          kClientCutText = 6, kEnableContinuous = 150, kClientFence = 248, kXvp = 250, kSetDesktopSize = 251,
                          kQemuMessage = 255 };
enum ServerMessage : u8 { kUpdate = 0, kSetColourMap = 1, kBell = 2, kEndOfContinuous = 150, kServerFence = 248 };
enum QemuMessage : u8 { kQemuExtendedKey = 0 };

enum Encoding : i32 {
  kRaw = 0, kCopyRect = 1, kHextile = 5, kTight = 7, kZrle = 16,
  // Pseudo encodings: what else the viewer understands.
  kQuality0 = -32, kQuality9 = -23, kDesktopSize = -223, kLastRect = -224, kCursor = -239, kCompress0 = -256, kCompress9 = -247,
  kPointerType = -257, kQemuExtendedKeys = -258, kLedState = -261, kDesktopName = -307, kExtendedDesktopSize = -308,
  kXvpEncoding = -309, kFence = -312, kContinuousUpdates = -313, kCursorWithAlpha = -314,
};

enum FenceFlag : u32 { kFenceBlockBefore = 1, kFenceBlockAfter = 2, kFenceSyncNext = 4, kFenceRequest = 0x80000000 };
enum XvpCode : u8 { kXvpFail = 0, kXvpInit = 1, kXvpShutdown = 2, kXvpReboot = 3, kXvpReset = 4 };
inline constexpr u8 kXvpVersion = 1;
inline constexpr u32 kMaxFencePayload = 64;
/// What an x or y of a relative pointer event means "no step" by.
inline constexpr i32 kRelativeCentre = 0x7fff;

inline constexpr char kVersion[] = "RFB 003.008\n";
inline constexpr u32 kVersionBytes = 12;
inline constexpr u32 kZrleTile = 64;
inline constexpr u32 kBlock = 16;   // the grid that changes are noted in

}  // namespace atl::display::vnc
