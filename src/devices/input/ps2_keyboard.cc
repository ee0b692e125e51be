#include "devices/input/ps2_keyboard.h"

#include <array>
#include <utility>

namespace atl::devices::ps2 {
namespace {

enum Command : u8 { kSetLeds = 0xed, kEcho = 0xee, kScanCodeSet = 0xf0, kIdentify = 0xf2, kRepeatRate = 0xf3, kEnable = 0xf4,
                    kDisable = 0xf5, kDefaults = 0xf6, kResendLast = 0xfe, kReset = 0xff };

/// Set 2's code by set 1's.
constexpr std::array<u8, 128> kSet2 = [] {
  std::array<u8, 128> t{};
  constexpr u8 kMain[] = {0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d, 0x15, 0x1d, 0x24,
                          0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b,
                          0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59,
                          0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75,
                          0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69, 0x72, 0x7a, 0x70, 0x71, 0x84};
  for (unsigned i = 0; i < sizeof kMain; ++i) t[i + 1] = kMain[i];
  constexpr std::pair<u8, u8> kOthers[] = {{0x56, 0x61}, {0x57, 0x78}, {0x58, 0x07}, {0x5b, 0x1f}, {0x5c, 0x27}, {0x5d, 0x2f},
                                           {0x5e, 0x37}, {0x5f, 0x3f}, {0x63, 0x5e}};
  for (auto [set1, set2] : kOthers) t[set1] = set2;
  return t;
}();

constexpr std::array<u8, 256> kSet1 = [] {
  std::array<u8, 256> t{};
  for (unsigned i = 0; i < 256; ++i) t[i] = static_cast<u8>(i);
  for (unsigned i = 1; i < 128; ++i)
    if (kSet2[i]) t[kSet2[i]] = static_cast<u8>(i);
  return t;
}();

}  // namespace

u8 set1_of_set2(u8 code) { return kSet1[code]; }

void Keyboard::reset() {
  clear_output();
  set_defaults();
  leds_ = awaited_by_ = 0;
  scanning_ = true;
}

void Keyboard::set_defaults() {
  set_ = 2;
  repeat_ = 0x2b;
}

void Keyboard::visit(Archive& archive) {
  visit_output(archive);
  archive.field(16, "set", set_);
  archive.field(17, "leds", leds_);
  archive.field(18, "repeat", repeat_);
  archive.field(19, "awaited_by", awaited_by_);
  archive.field(20, "scanning", scanning_);
}

void Keyboard::take(u8 byte) {
  if (const u8 command = std::exchange(awaited_by_, u8{0}); command && byte < 0x80) return take_argument(command, byte);
  switch (byte) {
    case kReset:
      reset();
      answer({kAck, kSelfTestPassed});
      break;
    case kSetLeds:
    case kScanCodeSet:
    case kRepeatRate:
      awaited_by_ = byte;
      answer({kAck});
      break;
    case kEcho: answer({kEcho}); break;
    case kIdentify: answer({kAck, 0xab, 0x83}); break;
    case kResendLast: answer({last_output()}); break;
    case kEnable:
    case kDisable:
    case kDefaults:
      clear_output();
      if (byte != kEnable) set_defaults();
      scanning_ = byte != kDisable;
      answer({kAck});
      break;
    default: answer({kResend}); break;
  }
}

void Keyboard::take_argument(u8 command, u8 byte) {
  if (command == kSetLeds) leds_ = byte & 7;
  if (command == kRepeatRate) repeat_ = byte;
  if (command == kScanCodeSet && byte == 0) return answer({kAck, set_});
  if (command == kScanCodeSet && byte > 2) return answer({kResend});
  if (command == kScanCodeSet) set_ = byte;
  answer({kAck});
}

void Keyboard::key(Key key, bool down) {
  if (!scanning_) return;
  if (key == kKeyPause) {
    if (down) put_pause();
  } else if (key == kKeyPrint) {
    put_print(down);
  } else {
    put_code(key, down);
  }
}

void Keyboard::put_code(Key key, bool down) {
  const bool extended = key & 0x80;
  const u8 set1 = key & 0x7f, set2 = kSet2[set1];
  if (set_ == 1) {
    const u8 code = static_cast<u8>(set1 | (down ? 0 : 0x80));
    extended ? event({0xe0, code}) : event({code});
  } else if (set2) {
    if (extended) down ? event({0xe0, set2}) : event({0xe0, 0xf0, set2});
    else down ? event({set2}) : event({0xf0, set2});
  }
}

void Keyboard::put_pause() {
  if (set_ == 1) event({0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5});
  else event({0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77});
}

/// With the shift codes around it that old programs want.
void Keyboard::put_print(bool down) {
  if (set_ == 1) down ? event({0xe0, 0x2a, 0xe0, 0x37}) : event({0xe0, 0xb7, 0xe0, 0xaa});
  else down ? event({0xe0, 0x12, 0xe0, 0x7c}) : event({0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12});
}

}  // namespace atl::devices::ps2
