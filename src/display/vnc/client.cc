#include "display/vnc/client.h"

#include <nettle/des.h>
#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "base/endian.h"
#include "display/vnc/keysyms.h"

namespace atl::display::vnc {
namespace {

constexpr size_t kMaxInput = 64 * 1024;   // of one message that is kept whole
constexpr u16 kMaxEncodings = 1024;
constexpr u32 kMaxCutText = 16 * 1024 * 1024;
constexpr size_t kDesKey = 8;

void put16(std::vector<u8>& out, u32 value) {
  out.push_back(static_cast<u8>(value >> 8));
  out.push_back(static_cast<u8>(value));
}
void put32(std::vector<u8>& out, u32 value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}
void put_text(std::vector<u8>& out, std::string_view text) {
  put32(out, static_cast<u32>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

/// What the viewer must answer (7.2.2): DES with the password's bytes mirrored.
void expected_response(const std::string& password, const u8 (&challenge)[16], u8 (&out)[16]) {
  u8 key[kDesKey] = {};
  for (size_t i = 0; i < std::min(password.size(), kDesKey); ++i)
    for (unsigned bit = 0; bit < 8; ++bit)
      if (password[i] >> bit & 1) key[i] |= static_cast<u8>(0x80 >> bit);
  des_ctx context;
  nettle_des_set_key(&context, key);
  nettle_des_encrypt(&context, sizeof challenge, out, challenge);
}

/// Without telling by time how much was right.
bool equal_secrets(const u8* a, const u8* b, size_t size) {
  u8 difference = 0;
  for (size_t i = 0; i < size; ++i) difference |= a[i] ^ b[i];
  return difference == 0;
}

}  // namespace

Client::Client(const Settings& settings, const Input& input, const Surface& picture)
    : settings_(settings), hands_(input), picture_(picture) {
  output_.insert(output_.end(), kVersion, kVersion + kVersionBytes);
  resized();
  size_changed_ = false;
}

bool Client::receive(std::span<const u8> bytes) {
  input_.insert(input_.end(), bytes.begin(), bytes.end());
  Parsed result = Parsed::Done;
  while (result == Parsed::Done && (at_ < input_.size() || skip_)) result = parse_one();
  input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(at_));
  at_ = 0;
  return result != Parsed::Broken && input_.size() <= kMaxInput;
}

Client::Parsed Client::parse_one() {
  if (skip_) {
    const size_t part = std::min<size_t>(skip_, input_.size() - at_);
    if (part == 0) return Parsed::NeedMore;
    at_ += part;
    skip_ -= static_cast<u32>(part);
    return Parsed::Done;
  }
  switch (state_) {
    case State::Version: return parse_version();
    case State::Security: return parse_security();
    case State::Challenge: return parse_response();
    case State::Init: return parse_init();
    default: return parse_message();
  }
}

// -- handshake -------------------------------------------------------------------------------------------------------------

/// "RFB 003.00x\n"; what is not 3.7 or 3.8 counts as 3.3 (7.1.1).
Client::Parsed Client::parse_version() {
  if (!has(kVersionBytes)) return Parsed::NeedMore;
  const std::string text(here(), here() + kVersionBytes);
  at_ += kVersionBytes;
  if (!text.starts_with("RFB 003.") || text.back() != '\n') return Parsed::Broken;
  minor_ = text == kVersion ? 8 : text == "RFB 003.007\n" ? 7 : 3;
  if (minor_ == 3) return impose_security();
  output_.push_back(1);
  output_.push_back(static_cast<u8>(offered_security()));
  state_ = State::Security;
  return Parsed::Done;
}

/// In 3.3 the server chooses.
Client::Parsed Client::impose_security() {
  put32(output_, static_cast<u32>(offered_security()));
  return begin_security();
}

Client::Parsed Client::begin_security() {
  if (offered_security() == Security::None) {
    if (minor_ == 8) put32(output_, 0);
    state_ = State::Init;
    return Parsed::Done;
  }
  if (::getrandom(challenge_, sizeof challenge_, 0) != sizeof challenge_) return Parsed::Broken;
  output_.insert(output_.end(), challenge_, challenge_ + sizeof challenge_);
  state_ = State::Challenge;
  return Parsed::Done;
}

Client::Parsed Client::parse_security() {
  const u8 chosen = *here();
  ++at_;
  return chosen == static_cast<u8>(offered_security()) ? begin_security() : Parsed::Broken;
}

Client::Parsed Client::parse_response() {
  if (!has(sizeof challenge_)) return Parsed::NeedMore;
  u8 wanted[16];
  expected_response(*settings_.password, challenge_, wanted);
  const bool right = !settings_.password->empty() && equal_secrets(here(), wanted, sizeof wanted);
  at_ += sizeof challenge_;
  if (!right) {
    refuse("Authentication failed");
    return Parsed::Broken;
  }
  put32(output_, 0);
  state_ = State::Init;
  return Parsed::Done;
}

void Client::refuse(const std::string& reason) {
  put32(output_, 1);
  if (minor_ == 8) put_text(output_, reason);
}

Client::Parsed Client::parse_init() {
  shared_ = *here() != 0;
  ++at_;
  width_ = picture_.width();
  height_ = picture_.height();
  put16(output_, width_);
  put16(output_, height_);
  format_.append_to(output_);
  put_text(output_, settings_.name);
  state_ = State::Ready;
  return Parsed::Done;
}

// -- messages --------------------------------------------------------------------------------------------------------------

Client::Parsed Client::parse_message() {
  switch (*here()) {
    case kSetPixelFormat: {
      if (!has(4 + PixelFormat::kWireBytes)) return Parsed::NeedMore;
      auto format = PixelFormat::parse(std::span<const u8, PixelFormat::kWireBytes>(here() + 4, PixelFormat::kWireBytes));
      at_ += 4 + PixelFormat::kWireBytes;
      if (!format) return Parsed::Broken;
      format_ = *format;
      return Parsed::Done;
    }
    case kSetEncodings: return parse_encodings();
    case kUpdateRequest: return parse_update_request();
    case kKeyEvent: return parse_key();
    case kPointerEvent: return parse_pointer();
    case kClientCutText: return parse_cut_text();
    case kQemuMessage: return parse_qemu();
    default: return Parsed::Broken;
  }
}

Client::Parsed Client::parse_encodings() {
  if (!has(4)) return Parsed::NeedMore;
  const u16 count = load_be<u16>(here() + 2);
  if (count > kMaxEncodings) return Parsed::Broken;
  if (!has(4 + size_t{count} * 4)) return Parsed::NeedMore;
  wants_zrle_ = wants_resize_ = wants_qemu_keys_ = false;
  for (u16 i = 0; i < count; ++i) {
    const i32 encoding = static_cast<i32>(load_be<u32>(here() + 4 + size_t{i} * 4));
    wants_zrle_ |= encoding == kZrle;
    wants_resize_ |= encoding == kDesktopSize;
    wants_qemu_keys_ |= encoding == kQemuExtendedKeys;
  }
  at_ += 4 + size_t{count} * 4;
  return Parsed::Done;
}

Client::Parsed Client::parse_update_request() {
  if (!has(10)) return Parsed::NeedMore;
  const bool incremental = here()[1];
  const Rect rect{load_be<u16>(here() + 2), load_be<u16>(here() + 4), load_be<u16>(here() + 6), load_be<u16>(here() + 8)};
  at_ += 10;
  if (!incremental) changed(rect);
  requested_ = true;
  return Parsed::Done;
}

Client::Parsed Client::parse_key() {
  if (!has(8)) return Parsed::NeedMore;
  press_symbol(load_be<u32>(here() + 4), here()[1] != 0);
  at_ += 8;
  return Parsed::Done;
}

/// The viewer sends its own shift keys, too: they are what the guest sees.
void Client::press_symbol(u32 symbol, bool down) {
  if (auto key = key_of_symbol(symbol)) hands_.key(key->number, down);
}

Client::Parsed Client::parse_pointer() {
  if (!has(6)) return Parsed::NeedMore;
  hands_.pointer(load_be<u16>(here() + 2), load_be<u16>(here() + 4), here()[1]);
  at_ += 6;
  return Parsed::Done;
}

/// There is no clipboard to put it on.
Client::Parsed Client::parse_cut_text() {
  if (!has(8)) return Parsed::NeedMore;
  const u32 length = load_be<u32>(here() + 4);
  if (length > kMaxCutText) return Parsed::Broken;
  at_ += 8;
  skip_ = length;
  return Parsed::Done;
}

/// Extended key event: down flag, symbol, key number with 0xe0 as bit 7.
Client::Parsed Client::parse_qemu() {
  if (!has(2)) return Parsed::NeedMore;
  if (here()[1] != kQemuExtendedKey) return Parsed::Broken;
  if (!has(12)) return Parsed::NeedMore;
  const bool down = load_be<u16>(here() + 2);
  const u32 symbol = load_be<u32>(here() + 4), number = load_be<u32>(here() + 8);
  at_ += 12;
  if (number > 0 && number < 256) hands_.key(static_cast<u8>(number), down);
  else press_symbol(symbol, down);
  return Parsed::Done;
}

// -- pictures --------------------------------------------------------------------------------------------------------------

void Client::resized() {
  size_changed_ = true;
  columns_ = (picture_.width() + kTile - 1) / kTile;
  rows_ = (picture_.height() + kTile - 1) / kTile;
  dirty_.assign(size_t{columns_} * rows_, true);
}

void Client::changed(const Rect& rect) {
  const u32 right = std::min<u64>(u64{rect.x} + rect.width, picture_.width());
  const u32 bottom = std::min<u64>(u64{rect.y} + rect.height, picture_.height());
  for (u32 y = rect.y / kTile; y * kTile < bottom; ++y)
    for (u32 x = rect.x / kTile; x * kTile < right; ++x) dirty_[size_t{y} * columns_ + x] = true;
}

/// Runs of dirty tiles, row by row, as far as the viewer knows of them: one that cannot be resized keeps its size.
std::vector<Rect> Client::take_dirty() {
  std::vector<Rect> rects;
  const u32 right = std::min(width_, picture_.width()), bottom = std::min(height_, picture_.height());
  for (u32 y = 0; y < rows_; ++y) {
    for (u32 x = 0; x < columns_; ++x) {
      const u32 first = x;
      while (x < columns_ && dirty_[size_t{y} * columns_ + x]) ++x;
      if (x == first) continue;
      const u32 left = first * kTile, top = y * kTile;
      if (left < right && top < bottom)
        rects.push_back({left, top, std::min(x * kTile, right) - left, std::min(top + kTile, bottom) - top});
    }
  }
  std::fill(dirty_.begin(), dirty_.end(), false);
  return rects;
}

/// Pseudo rectangles that tell something; true if one was sent, as an update of its own.
bool Client::announce() {
  auto alone = [&](const Rect& rect, i32 encoding) {
    output_.insert(output_.end(), {kUpdate, 0, 0, 1});
    begin_rectangle(rect, encoding);
    requested_ = false;
    return true;
  };
  if (wants_qemu_keys_ && !std::exchange(told_qemu_keys_, true)) return alone({}, kQemuExtendedKeys);
  if (!size_changed_ || !wants_resize_) return false;
  size_changed_ = false;
  width_ = picture_.width();
  height_ = picture_.height();
  return alone({0, 0, picture_.width(), picture_.height()}, kDesktopSize);
}

void Client::update() {
  if (!ready() || !requested_ || announce()) return;
  const std::vector<Rect> rects = take_dirty();
  if (rects.empty()) return;
  output_.insert(output_.end(), {kUpdate, 0});
  put16(output_, static_cast<u32>(rects.size()));
  for (const Rect& rect : rects) send_rectangle(rect);
  requested_ = false;
}

void Client::begin_rectangle(const Rect& rect, i32 encoding) {
  for (u32 value : {rect.x, rect.y, rect.width, rect.height}) put16(output_, value);
  put32(output_, static_cast<u32>(encoding));
}

void Client::send_rectangle(const Rect& rect) {
  begin_rectangle(rect, wants_zrle_ ? kZrle : kRaw);
  if (wants_zrle_) return zrle_.encode(picture_, rect, format_, output_);
  for (u32 y = 0; y < rect.height; ++y)
    for (u32 pixel : picture_.row(rect.y + y).subspan(rect.x, rect.width)) format_.append_pixel(output_, pixel);
}

}  // namespace atl::display::vnc
