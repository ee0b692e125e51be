// What a viewer must still be shown, and putting it into messages (RFC 6143, 7.5.3, 7.6.1, 7.7, 7.8; "ContinuousUpdates").
//
// Encodings: CopyRect; Tight, ZRLE, Hextile, Raw, by the viewer's order. Pseudo encodings: DesktopSize, ExtendedDesktopSize,
// DesktopName, Cursor, Cursor With Alpha, QEMU's pointer type, key events and LED state. Missing: tight PNG.
// Thread: the loop's.
#pragma once

#include "display/screen.h"
#include "display/vnc/hextile.h"
#include "display/vnc/motion.h"
#include "display/vnc/settings.h"
#include "display/vnc/spec.h"
#include "display/vnc/tight.h"
#include "display/vnc/wire.h"
#include "display/vnc/zrle.h"

namespace atl::display::vnc {

/// Why the picture has its size, for ExtendedDesktopSize.
enum class SizeReason : u8 { Server = 0, ThisViewer = 1, OtherViewer = 2 };
enum class SizeResult : u8 { Done = 0, Prohibited = 1, Invalid = 3 };

class Updates {
 public:
  Updates(const Settings& settings, const Input& hands, const Surface& picture, const CursorShape& cursor);

  // What the viewer said.
  void set_format(const PixelFormat& format) { format_ = format; }
  /// In the order of preference.
  void set_encodings(std::span<const i32> encodings);
  void request(bool incremental, const Rect& rect);
  /// Updates come without being asked for, inside `rect`.
  void set_continuous(bool on, const Rect& rect);
  bool wants(i32 pseudo_encoding) const;
  bool is_continuous() const { return continuous_; }

  // What happened.
  void changed(const Rect& rect);
  /// The picture's last change, as far as it goes, is this movement; changed() tells the rest.
  void moved(const Motion& motion);
  void resized(SizeReason reason);
  void refuse_size(SizeResult result);
  void cursor_changed() { cursor_due_ = true; }
  /// The viewer has been told this size, by the initialisation message.
  void start();

  /// Appends an update if the viewer waits for one and there is something to tell.
  void send(std::vector<u8>& out);

 private:
  struct Announcements;
  bool announce_size(std::vector<u8>& out);
  void put_extended_size(std::vector<u8>& out, SizeReason reason, SizeResult result);
  u32 announce(std::vector<u8>& out);
  u32 put_cursor(std::vector<u8>& out);
  void begin_rectangle(std::vector<u8>& out, const Rect& rect, i32 encoding) const;
  u32 send_rectangle(const Rect& rect, std::vector<u8>& out);
  u32 send_tight(const Rect& rect, std::vector<u8>& out);
  std::vector<Rect> take_dirty();
  Rect take_block(u32 x, u32 y);
  void put_motions(std::vector<u8>& out);
  bool any_dirty_in(const Rect& rect) const;
  bool is_dirty(u32 x, u32 y) const { return dirty_[size_t{y} * columns_ + x]; }

  const Settings& settings_;
  const Input& hands_;
  const Surface& picture_;
  const CursorShape& cursor_;
  PixelFormat format_;
  std::vector<i32> encodings_;
  i32 encoding_ = kRaw;
  TightEncoder::Style style_;
  ZrleEncoder zrle_;
  TightEncoder tight_;
  HextileEncoder hextile_;

  bool requested_ = false, continuous_ = false;
  bool size_due_ = false, cursor_due_ = false, keys_due_ = false, name_due_ = false;
  SizeReason size_reason_ = SizeReason::Server;
  std::vector<SizeResult> refusals_;
  std::optional<bool> told_absolute_;
  std::optional<u8> told_leds_;
  u32 width_ = 0, height_ = 0;       // as the viewer knows them
  u32 columns_ = 0, rows_ = 0;       // of blocks
  std::vector<bool> dirty_;
  std::vector<Motion> motions_;      // to be told before what is dirty
  bool any_dirty_ = true;
};

}  // namespace atl::display::vnc
