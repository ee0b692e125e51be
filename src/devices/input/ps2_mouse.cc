#include "devices/input/ps2_mouse.h"

#include <algorithm>
#include <utility>

namespace atl::devices::ps2 {
namespace {

enum Command : u8 { kScale1 = 0xe6, kScale2 = 0xe7, kResolution = 0xe8, kStatus = 0xe9, kStream = 0xea, kReadData = 0xeb,
                    kEndWrap = 0xec, kWrap = 0xee, kRemote = 0xf0, kIdentify = 0xf2, kSampleRate = 0xf3, kEnable = 0xf4,
                    kDisable = 0xf5, kDefaults = 0xf6, kResendLast = 0xfe, kReset = 0xff };
constexpr u8 kPlain = 0, kWheel = 3, kExplorer = 4;
constexpr i32 kFarthest = 1 << 20;

}  // namespace

void Mouse::reset() {
  clear_output();
  set_defaults();
  id_ = kPlain;
  buttons_ = awaited_by_ = 0;
  wrap_ = false;
}

void Mouse::set_defaults() {
  rate_ = 100;
  resolution_ = 2;
  remote_ = reporting_ = double_scale_ = false;
  dx_ = dy_ = dz_ = 0;
}

void Mouse::visit(Archive& archive) {
  visit_output(archive);
  archive.field(16, "id", id_);
  archive.field(17, "rate", rate_);
  archive.field(18, "resolution", resolution_);
  archive.field(19, "buttons", buttons_);
  archive.field(20, "knock0", knock_[0]);
  archive.field(21, "knock1", knock_[1]);
  archive.field(22, "awaited_by", awaited_by_);
  archive.field(23, "remote", remote_);
  archive.field(24, "wrap", wrap_);
  archive.field(25, "reporting", reporting_);
  archive.field(26, "double_scale", double_scale_);
}

void Mouse::take(u8 byte) {
  if (const u8 command = std::exchange(awaited_by_, u8{0})) return take_argument(command, byte);
  if (wrap_ && byte != kEndWrap && byte != kReset) return answer({byte});
  take_command(byte);
}

void Mouse::take_command(u8 byte) {
  switch (byte) {
    case kReset:
      reset();
      return answer({kAck, kSelfTestPassed, kPlain});
    case kIdentify: return answer({kAck, id_});
    case kStatus: return answer({kAck, status(), resolution_, rate_});
    case kReadData:
      answer({kAck});
      put_packet();
      return;
    case kResendLast: return answer({last_output()});
    case kResolution:
    case kSampleRate: awaited_by_ = byte; break;
    case kScale1:
    case kScale2: double_scale_ = byte == kScale2; break;
    case kStream:
    case kRemote: remote_ = byte == kRemote; break;
    case kWrap:
    case kEndWrap: wrap_ = byte == kWrap; break;
    case kEnable:
    case kDisable: reporting_ = byte == kEnable; break;
    case kDefaults: set_defaults(); break;
    default: return answer({kResend});
  }
  answer({kAck});
}

void Mouse::take_argument(u8 command, u8 byte) {
  if (command == kResolution) resolution_ = byte & 3;
  if (command == kSampleRate) set_sample_rate(byte);
  answer({kAck});
}

/// 200, 100, 80 turns the wheel on; 200, 200, 80 the wheel and two more buttons.
void Mouse::set_sample_rate(u8 rate) {
  if (rate == 80 && knock_[0] == 200 && knock_[1] == 100) id_ = kWheel;
  if (rate == 80 && knock_[0] == 200 && knock_[1] == 200) id_ = kExplorer;
  knock_[0] = std::exchange(knock_[1], rate);
  rate_ = rate;
}

u8 Mouse::status() const {
  const u8 held = static_cast<u8>((buttons_ & kLeft ? 4 : 0) | (buttons_ & kMiddle ? 2 : 0) | (buttons_ & kRight ? 1 : 0));
  return static_cast<u8>(held | (double_scale_ ? 0x10 : 0) | (reporting_ ? 0x20 : 0) | (remote_ ? 0x40 : 0));
}

void Mouse::move(i32 dx, i32 dy, i32 dz, u8 buttons) {
  auto add = [](i32 a, i32 b) { return std::clamp(std::clamp(a, -kFarthest, kFarthest) + b, -kFarthest, kFarthest); };
  dx_ = add(dx, dx_);
  dy_ = add(dy, dy_);
  dz_ = add(dz, dz_);
  const bool clicked = std::exchange(buttons_, buttons) != buttons;
  if (!reporting_ || remote_) return;
  bool more = clicked || dx_ || dy_ || dz_;
  for (int packets = 0; more && packets < 4; ++packets) more = put_packet();
}

/// One report of at most 255 steps a direction; true if some of the way is left.
bool Mouse::put_packet() {
  const i32 dx = std::clamp(dx_, -255, 255), dy = std::clamp(-dy_, -255, 255);  // up is positive on the wire
  const i32 dz = std::clamp(dz_, id_ == kExplorer ? -8 : -128, id_ == kExplorer ? 7 : 127);
  dx_ -= dx;
  dy_ += dy;
  dz_ = id_ == kPlain ? 0 : dz_ - dz;
  const u8 first = static_cast<u8>(8 | (buttons_ & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0));
  const u8 extra = static_cast<u8>((dz & 15) | (buttons_ & kSide ? 0x10 : 0) | (buttons_ & kExtra ? 0x20 : 0));
  const u8 x = static_cast<u8>(dx), y = static_cast<u8>(dy);
  if (id_ == kPlain) event({first, x, y});
  else event({first, x, y, id_ == kExplorer ? extra : static_cast<u8>(dz)});
  return dx_ || dy_ || dz_;
}

}  // namespace atl::devices::ps2
