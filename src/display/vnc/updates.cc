#include "display/vnc/updates.h"

#include <algorithm>
#include <utility>

namespace atl::display::vnc {
namespace {

constexpr u32 kMaxTightPixels = 65536;   // of one piece: palettes of small pieces are small
constexpr size_t kMaxRefusals = 4, kMaxMotions = 16;
constexpr i32 kPixelEncodings[] = {kTight, kZrle, kHextile, kRaw};

u32 blocks(u32 pixels) { return (pixels + kBlock - 1) / kBlock; }

}  // namespace

Updates::Updates(const Settings& settings, const Input& hands, const Surface& picture, const CursorShape& cursor)
    : settings_(settings), hands_(hands), picture_(picture), cursor_(cursor) {
  resized(SizeReason::Server);
}

void Updates::start() {
  width_ = picture_.width();
  height_ = picture_.height();
  size_due_ = false;
}

bool Updates::wants(i32 pseudo_encoding) const { return std::ranges::find(encodings_, pseudo_encoding) != encodings_.end(); }

void Updates::set_encodings(std::span<const i32> encodings) {
  const std::vector<i32> before = std::exchange(encodings_, {encodings.begin(), encodings.end()});
  auto is_new = [&](i32 e) { return wants(e) && std::ranges::find(before, e) == before.end(); };
  auto known = std::ranges::find_first_of(encodings_, kPixelEncodings);
  encoding_ = known == encodings_.end() ? i32{kRaw} : *known;
  style_ = {};
  for (i32 e : encodings) {
    if (e >= kCompress0 && e <= kCompress9) style_.level = std::max(e - kCompress0, 1);
    if (e >= kQuality0 && e <= kQuality9 && settings_.lossy) style_.quality = static_cast<u8>(e - kQuality0);
  }
  if (is_new(kQemuExtendedKeys)) keys_due_ = true;
  if (is_new(kDesktopName)) name_due_ = true;
  if (is_new(kExtendedDesktopSize)) size_due_ = true;
  if (is_new(kPointerType)) told_absolute_.reset();
  if (is_new(kLedState)) told_leds_.reset();
  if (is_new(kCursor) || is_new(kCursorWithAlpha)) cursor_due_ = true;
}

void Updates::request(bool incremental, const Rect& rect) {
  requested_ = true;
  if (!incremental) changed(rect);
}

void Updates::set_continuous(bool on, const Rect& rect) {
  // Parts outside are sent too: a viewer that asks for less than everything is none we know of.
  if (on) changed(rect);
  continuous_ = on;
}

// -- what changed ----------------------------------------------------------------------------------------------------------

void Updates::resized(SizeReason reason) {
  size_due_ = true;
  size_reason_ = reason;
  columns_ = blocks(picture_.width());
  rows_ = blocks(picture_.height());
  dirty_.assign(size_t{columns_} * rows_, true);
  motions_.clear();
  any_dirty_ = true;
}

void Updates::refuse_size(SizeResult result) {
  if (refusals_.size() < kMaxRefusals) refusals_.push_back(result);
}

void Updates::changed(const Rect& rect) {
  const u32 right = static_cast<u32>(std::min<u64>(u64{rect.x} + rect.width, picture_.width()));
  const u32 bottom = static_cast<u32>(std::min<u64>(u64{rect.y} + rect.height, picture_.height()));
  for (u32 y = rect.y / kBlock; y * kBlock < bottom; ++y)
    for (u32 x = rect.x / kBlock; x * kBlock < right; ++x) dirty_[size_t{y} * columns_ + x] = any_dirty_ = true;
}

/// A viewer that does not have what moved yet, or does not know how, is sent the pixels.
void Updates::moved(const Motion& motion) {
  const Rect from{motion.from_x, motion.from_y, motion.to.width, motion.to.height};
  auto is_seen = [&](const Rect& r) { return r.x + r.width <= width_ && r.y + r.height <= height_; };
  const bool told = wants(kCopyRect) && !size_due_ && motions_.size() < kMaxMotions && is_seen(from) && is_seen(motion.to) && !any_dirty_in(from);
  if (told) motions_.push_back(motion);
  else changed(motion.to);
}

bool Updates::any_dirty_in(const Rect& rect) const {
  for (u32 y = rect.y / kBlock; y < rows_ && y * kBlock < rect.y + rect.height; ++y)
    for (u32 x = rect.x / kBlock; x < columns_ && x * kBlock < rect.x + rect.width; ++x)
      if (is_dirty(x, y)) return true;
  return false;
}

/// The largest rectangle of dirty blocks that begins with a run at this one; they are clean then.
Rect Updates::take_block(u32 x, u32 y) {
  u32 right = x, bottom = y + 1;
  while (right < columns_ && is_dirty(right, y)) ++right;
  auto all_dirty = [&](u32 row) {
    for (u32 i = x; i < right; ++i)
      if (!is_dirty(i, row)) return false;
    return true;
  };
  while (bottom < rows_ && all_dirty(bottom)) ++bottom;
  for (u32 row = y; row < bottom; ++row)
    std::fill_n(dirty_.begin() + static_cast<std::ptrdiff_t>(size_t{row} * columns_ + x), right - x, false);
  return {x * kBlock, y * kBlock, (right - x) * kBlock, (bottom - y) * kBlock};
}

/// As far as the viewer knows of the picture: one that cannot be resized keeps its size.
std::vector<Rect> Updates::take_dirty() {
  std::vector<Rect> rects;
  if (!std::exchange(any_dirty_, false)) return rects;
  const u32 right = std::min(width_, picture_.width()), bottom = std::min(height_, picture_.height());
  for (u32 y = 0; y < rows_; ++y) {
    for (u32 x = 0; x < columns_; ++x) {
      if (!is_dirty(x, y)) continue;
      Rect rect = take_block(x, y);
      if (rect.x >= right || rect.y >= bottom) continue;
      rect.width = std::min(rect.width, right - rect.x);
      rect.height = std::min(rect.height, bottom - rect.y);
      rects.push_back(rect);
    }
  }
  return rects;
}

// -- messages --------------------------------------------------------------------------------------------------------------

void Updates::send(std::vector<u8>& out) {
  if (!requested_ && !continuous_) return;
  const size_t start = out.size();
  out.insert(out.end(), {kUpdate, 0, 0, 0});
  u32 count = 0;
  if (announce_size(out)) {
    count = 1;  // alone: the viewer makes room before it reads on
  } else {
    count = announce(out) + static_cast<u32>(motions_.size());
    put_motions(out);
    for (const Rect& rect : take_dirty()) count += send_rectangle(rect, out);
  }
  if (count == 0) {
    out.resize(start);
    return;
  }
  store_be<u16>(&out[start + 2], static_cast<u16>(count));
  requested_ = false;
}

void Updates::put_motions(std::vector<u8>& out) {
  for (const Motion& m : motions_) {
    begin_rectangle(out, m.to, kCopyRect);
    put16(out, m.from_x);
    put16(out, m.from_y);
  }
  motions_.clear();
}

void Updates::begin_rectangle(std::vector<u8>& out, const Rect& rect, i32 encoding) const {
  for (u32 value : {rect.x, rect.y, rect.width, rect.height}) put16(out, value);
  put32(out, static_cast<u32>(encoding));
}

/// The new size, or why there is none.
bool Updates::announce_size(std::vector<u8>& out) {
  const bool extended = wants(kExtendedDesktopSize);
  if (!refusals_.empty() && extended) {
    put_extended_size(out, SizeReason::ThisViewer, refusals_.front());
    refusals_.erase(refusals_.begin());
    return true;
  }
  if (!size_due_ || !(extended || wants(kDesktopSize))) return false;
  size_due_ = false;
  width_ = picture_.width();
  height_ = picture_.height();
  if (extended) put_extended_size(out, std::exchange(size_reason_, SizeReason::Server), SizeResult::Done);
  else begin_rectangle(out, {0, 0, width_, height_}, kDesktopSize);
  return true;
}

/// One screen that fills the picture.
void Updates::put_extended_size(std::vector<u8>& out, SizeReason reason, SizeResult result) {
  begin_rectangle(out, {static_cast<u32>(reason), static_cast<u32>(result), width_, height_}, kExtendedDesktopSize);
  out.insert(out.end(), {1, 0, 0, 0});
  put32(out, 0);  // its id
  for (u32 value : {0u, 0u, width_, height_}) put16(out, value);
  put32(out, 0);
}

/// Pseudo rectangles that tell of other things than pixels; the result is how many.
u32 Updates::announce(std::vector<u8>& out) {
  u32 count = 0;
  if (std::exchange(keys_due_, false)) {
    begin_rectangle(out, {}, kQemuExtendedKeys);
    ++count;
  }
  if (std::exchange(name_due_, false)) {
    begin_rectangle(out, {}, kDesktopName);
    put_text(out, settings_.name);
    ++count;
  }
  if (const bool absolute = hands_.absolute && hands_.absolute(); wants(kPointerType) && told_absolute_ != absolute) {
    told_absolute_ = absolute;
    begin_rectangle(out, {absolute, 0, width_, height_}, kPointerType);
    ++count;
  }
  if (const u8 leds = hands_.leds ? hands_.leds() : u8{0}; wants(kLedState) && told_leds_ != leds) {
    told_leds_ = leds;
    begin_rectangle(out, {}, kLedState);
    out.push_back(leds);
    ++count;
  }
  if (std::exchange(cursor_due_, false)) count += put_cursor(out);
  return count;
}

/// With alpha: raw pixels, red first, alpha last. Without: the viewer's format and a mask of a bit a pixel.
u32 Updates::put_cursor(std::vector<u8>& out) {
  const CursorShape& c = cursor_;
  const Rect rect{c.hot_x, c.hot_y, c.width, c.height};
  if (wants(kCursorWithAlpha)) {
    begin_rectangle(out, rect, kCursorWithAlpha);
    put32(out, kRaw);
    for (u32 p : c.pixels) put32(out, p << 8 | p >> 24);
    return 1;
  }
  if (!wants(kCursor)) return 0;
  begin_rectangle(out, rect, kCursor);
  format_.append_row(out, c.pixels);
  const size_t line = (c.width + 7) / 8, at = out.size();
  out.resize(at + line * c.height);
  for (size_t i = 0; i < c.pixels.size(); ++i) {
    if (c.pixels[i] >> 31) out[at + i / c.width * line + i % c.width / 8] |= static_cast<u8>(0x80 >> i % c.width % 8);
  }
  return 1;
}

u32 Updates::send_rectangle(const Rect& rect, std::vector<u8>& out) {
  if (encoding_ == kTight) return send_tight(rect, out);
  begin_rectangle(out, rect, encoding_);
  if (encoding_ == kZrle) {
    zrle_.encode(picture_, rect, format_, style_.level, out);
  } else if (encoding_ == kHextile) {
    hextile_.encode(picture_, rect, format_, out);
  } else {
    for (u32 y = 0; y < rect.height; ++y) format_.append_row(out, picture_.row(rect.y + y).subspan(rect.x, rect.width));
  }
  return 1;
}

/// In pieces that the encoding allows.
u32 Updates::send_tight(const Rect& rect, std::vector<u8>& out) {
  u32 count = 0;
  for (u32 x = 0; x < rect.width; x += TightEncoder::kMaxWidth) {
    const u32 width = std::min(TightEncoder::kMaxWidth, rect.width - x), most = std::max(kMaxTightPixels / width, 1u);
    for (u32 y = 0; y < rect.height; y += most, ++count) {
      const Rect piece{rect.x + x, rect.y + y, width, std::min(most, rect.height - y)};
      begin_rectangle(out, piece, kTight);
      tight_.encode(picture_, piece, format_, style_, out);
    }
  }
  return count;
}

}  // namespace atl::display::vnc
