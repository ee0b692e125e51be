#include "display/vnc/client.h"

#include <algorithm>
#include <utility>

#include "display/vnc/keymap.h"

namespace atl::display::vnc {
namespace {

constexpr size_t kMaxInput = 64 * 1024;   // of one message that is kept whole
constexpr u16 kMaxEncodings = 1024;
constexpr u32 kMaxCutText = 16 * 1024 * 1024;
constexpr size_t kMaxOutput = 16 * 1024 * 1024;  // of answers that a viewer asks for and does not read
constexpr u8 kShift = 0x2a, kShiftRight = 0x36;

}  // namespace

Client::Client(const Settings& settings, const Input& input, const Surface& picture, const CursorShape& cursor, bool secured)
    : settings_(settings), hands_(input), picture_(picture), handshake_(settings, secured, output_),
      updates_(settings, input, picture, cursor) {}

bool Client::receive(std::span<const u8> bytes) {
  input_.append(bytes);
  Parsed result = Parsed::Done;
  while (result == Parsed::Done && input_.left() > 0) result = wants_tls() ? Parsed::Broken : parse_one();
  input_.compact();
  return result != Parsed::Broken && input_.left() <= kMaxInput && output_.size() <= kMaxOutput;
}

Parsed Client::parse_one() {
  if (skip_) {
    const size_t part = std::min<u64>(skip_, input_.left());
    input_.take(part);
    skip_ -= part;
    return Parsed::Done;
  }
  if (ready_) return parse_message();
  const Parsed result = handshake_.parse(input_);
  if (handshake_.done()) begin_session();
  return result;
}

void Client::begin_session() {
  ready_ = true;
  updates_.start();
  put16(output_, picture_.width());
  put16(output_, picture_.height());
  PixelFormat().append_to(output_);
  put_text(output_, settings_.name);
}

void Client::resized() { updates_.resized(std::exchange(asked_size_, false) ? SizeReason::ThisViewer : SizeReason::Server); }

Parsed Client::parse_message() {
  switch (input_.byte(0)) {
    case kSetPixelFormat: return parse_format();
    case kSetEncodings: return parse_encodings();
    case kUpdateRequest: return parse_update_request();
    case kKeyEvent: return parse_key();
    case kPointerEvent: return parse_pointer();
    case kClientCutText: return parse_cut_text();
    case kEnableContinuous: return parse_continuous();
    case kClientFence: return parse_fence();
    case kXvp: return parse_xvp();
    case kSetDesktopSize: return parse_desktop_size();
    case kQemuMessage: return parse_qemu();
    default: return Parsed::Broken;
  }
}

// -- picture ---------------------------------------------------------------------------------------------------------------

Parsed Client::parse_format() {
  constexpr size_t kBytes = 4 + PixelFormat::kWireBytes;
  if (!input_.has(kBytes)) return Parsed::NeedMore;
  auto format = PixelFormat::parse(std::span<const u8, PixelFormat::kWireBytes>(input_.here() + 4, PixelFormat::kWireBytes));
  input_.take(kBytes);
  if (!format) return Parsed::Broken;
  updates_.set_format(*format);
  return Parsed::Done;
}

Parsed Client::parse_encodings() {
  if (!input_.has(4)) return Parsed::NeedMore;
  const u16 count = input_.be16(2);
  if (count > kMaxEncodings) return Parsed::Broken;
  if (!input_.has(4 + size_t{count} * 4)) return Parsed::NeedMore;
  std::vector<i32> encodings;
  for (u16 i = 0; i < count; ++i) encodings.push_back(static_cast<i32>(input_.be32(4 + size_t{i} * 4)));
  input_.take(4 + size_t{count} * 4);
  updates_.set_encodings(encodings);
  announce_extensions();
  return Parsed::Done;
}

/// Extensions with messages of their own: the first such message says that we know them.
void Client::announce_extensions() {
  if (updates_.wants(kFence) && !std::exchange(told_fence_, true)) {
    output_.insert(output_.end(), {kServerFence, 0, 0, 0});
    put32(output_, kFenceRequest);
    output_.push_back(0);
  }
  if (updates_.wants(kContinuousUpdates) && !std::exchange(told_continuous_, true)) output_.push_back(kEndOfContinuous);
  if (updates_.wants(kXvpEncoding) && hands_.power && !std::exchange(told_xvp_, true))
    output_.insert(output_.end(), {kXvp, 0, kXvpVersion, kXvpInit});
}

Parsed Client::parse_update_request() {
  if (!input_.has(10)) return Parsed::NeedMore;
  updates_.request(input_.byte(1) != 0, {input_.be16(2), input_.be16(4), input_.be16(6), input_.be16(8)});
  input_.take(10);
  return Parsed::Done;
}

Parsed Client::parse_continuous() {
  if (!input_.has(10)) return Parsed::NeedMore;
  const bool on = input_.byte(1);
  if (!on && updates_.is_continuous()) output_.push_back(kEndOfContinuous);
  updates_.set_continuous(on, {input_.be16(2), input_.be16(4), input_.be16(6), input_.be16(8)});
  input_.take(10);
  return Parsed::Done;
}

/// Everything is done in order here, so that whatever a fence asks for holds already.
Parsed Client::parse_fence() {
  if (!input_.has(9)) return Parsed::NeedMore;
  const u32 flags = input_.be32(4), size = input_.byte(8);
  if (size > kMaxFencePayload) return Parsed::Broken;
  if (!input_.has(9 + size)) return Parsed::NeedMore;
  if (flags & kFenceRequest) {
    output_.insert(output_.end(), {kServerFence, 0, 0, 0});
    put32(output_, flags & (kFenceBlockBefore | kFenceBlockAfter | kFenceSyncNext));
    output_.push_back(static_cast<u8>(size));
    output_.insert(output_.end(), input_.here() + 9, input_.here() + 9 + size);
  }
  input_.take(9 + size);
  return Parsed::Done;
}

Parsed Client::parse_desktop_size() {
  constexpr size_t kHeader = 8, kScreen = 16;
  if (!input_.has(kHeader)) return Parsed::NeedMore;
  const u32 width = input_.be16(2), height = input_.be16(4), screens = input_.byte(6);
  if (!input_.has(kHeader + screens * kScreen)) return Parsed::NeedMore;
  input_.take(kHeader + screens * kScreen);
  if (screens != 1 || width == 0 || height == 0) updates_.refuse_size(SizeResult::Invalid);
  else wish_size(width, height);
  return Parsed::Done;
}

/// The guest decides; when it does, resized() tells.
void Client::wish_size(u32 width, u32 height) {
  if (hands_.resize && hands_.resize(width, height)) asked_size_ = true;
  else updates_.refuse_size(SizeResult::Prohibited);
}

// -- input -----------------------------------------------------------------------------------------------------------------

Parsed Client::parse_key() {
  if (!input_.has(8)) return Parsed::NeedMore;
  press_symbol(input_.be32(4), input_.byte(1) != 0);
  input_.take(8);
  return Parsed::Done;
}

void Client::press(u8 number, bool down) {
  if (number == kShift || number == kShiftRight) shift_held_ = down;
  hands_.key(number, down);
}

/// Viewers with a keyboard send their own shift keys, too: they are what the guest sees. Programs that type may send only the
/// symbol: then shift is held for them.
void Client::press_symbol(u32 symbol, bool down) {
  auto found = settings_.keymap ? settings_.keymap->find(symbol) : std::nullopt;
  if (!found && !(found = key_of_symbol(symbol))) return;
  const SymbolKey key = *found;
  const bool locked = hands_.leds && (hands_.leds() & 4) && symbol >= 'A' && symbol <= 'Z';
  if (down && key.shift && !shift_held_ && !locked && !shifted_key_) {
    shifted_key_ = key.number;
    hands_.key(kShift, true);
  }
  press(key.number, down);
  if (down || shifted_key_ != key.number) return;
  hands_.key(kShift, false);
  shifted_key_ = 0;
}

Parsed Client::parse_pointer() {
  if (!input_.has(6)) return Parsed::NeedMore;
  const u8 buttons = input_.byte(1);
  const i32 x = input_.be16(2), y = input_.be16(4);
  input_.take(6);
  const bool steps = updates_.wants(kPointerType) && hands_.absolute && !hands_.absolute();
  if (steps && hands_.move) hands_.move(x - kRelativeCentre, y - kRelativeCentre, buttons);
  else hands_.pointer(static_cast<u32>(x), static_cast<u32>(y), buttons);
  return Parsed::Done;
}

/// There is no clipboard to put it on. A negative length is that of an extended message, which was not offered.
Parsed Client::parse_cut_text() {
  if (!input_.has(8)) return Parsed::NeedMore;
  const u32 length = input_.be32(4);
  if (length > kMaxCutText) return Parsed::Broken;
  input_.take(8);
  skip_ = length;
  return Parsed::Done;
}

Parsed Client::parse_xvp() {
  if (!input_.has(4)) return Parsed::NeedMore;
  const u8 version = input_.byte(2), code = input_.byte(3);
  input_.take(4);
  if (!told_xvp_) return Parsed::Broken;
  const bool known = version == kXvpVersion && code >= kXvpShutdown && code <= kXvpReset;
  if (!known || !hands_.power(static_cast<PowerAction>(code - kXvpShutdown)))
    output_.insert(output_.end(), {kXvp, 0, kXvpVersion, kXvpFail});
  return Parsed::Done;
}

/// Extended key event: down flag, symbol, key number with 0xe0 as bit 7.
Parsed Client::parse_qemu() {
  if (!input_.has(2)) return Parsed::NeedMore;
  if (input_.byte(1) != kQemuExtendedKey) return Parsed::Broken;
  if (!input_.has(12)) return Parsed::NeedMore;
  const bool down = input_.be16(2);
  const u32 symbol = input_.be32(4), number = input_.be32(8);
  input_.take(12);
  if (number > 0 && number < 256) press(static_cast<u8>(number), down);
  else press_symbol(symbol, down);
  return Parsed::Done;
}

}  // namespace atl::display::vnc
