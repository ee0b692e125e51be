#include "control/screen/user_input.h"

#include <algorithm>
#include <ranges>

#include <fmt/format.h>

#include "base/strings.h"
#include "display/keys.h"
#include "machine/machine.h"

namespace atl::control {
namespace {

constexpr size_t kMaxWaiting = 1024;
constexpr u64 kMaxHold_ms = 60'000;
constexpr u64 kBetween_ns = 10'000'000;  // from one chord's release to the next one
constexpr u64 kMillisecond_ns = 1'000'000;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }
Error no_machine() { return Error(ErrorKind::NotFound, "there is no machine yet"); }

}  // namespace

UserInput::UserInput(Loop& loop, std::function<machine::Machine*()> machine)
    : machine_(std::move(machine)), timer_(loop, [this] { holding_ ? release() : next(); }) {}

Result<UserInput::Chord> UserInput::parse_chord(std::string_view text) {
  constexpr size_t kMaxKeys = 16;
  Chord chord;
  for (std::string_view name : split(text, '-')) {
    auto number = display::key_number(name);
    if (!number && name.starts_with("0x")) {
      if (auto value = parse_hex(name.substr(2)); value && *value > 0 && *value < 256) number = static_cast<u8>(*value);
    }
    if (!number) return invalid(fmt::format("invalid parameter: {}", name));
    chord.push_back(*number);
  }
  if (chord.size() > kMaxKeys) return invalid("too many keys");
  return chord;
}

Status UserInput::press(Chord chord, u64 hold_ms) {
  if (queue_.size() >= kMaxWaiting) return Error(ErrorKind::Busy, "too many keys wait to be pressed");
  queue_.push_back({std::move(chord), std::min(hold_ms, kMaxHold_ms)});
  if (!timer_.armed()) next();
  return {};
}

void UserInput::next() {
  if (queue_.empty()) return;
  for (u8 number : queue_.front().chord) (void)key(number, true);
  holding_ = true;
  timer_.arm_in(queue_.front().hold_ms * kMillisecond_ns);
}

void UserInput::release() {
  for (u8 number : std::views::reverse(queue_.front().chord)) (void)key(number, false);
  holding_ = false;
  queue_.pop_front();
  if (!queue_.empty()) timer_.arm_in(kBetween_ns);
}

Status UserInput::key(u8 number, bool down) {
  machine::Machine* machine = machine_();
  return machine ? machine->input().key(number, down) : no_machine();
}

Status UserInput::move(i32 dx, i32 dy, i32 dz) {
  machine::Machine* machine = machine_();
  if (!machine) return no_machine();
  if (dx == 0 && dy == 0 && machine->input().absolute()) return tell_pointer(dz);
  return machine->input().move({.x = dx, .y = dy, .wheel = dz, .buttons = buttons_});
}

Status UserInput::point(std::optional<i32> x, std::optional<i32> y) {
  machine::Machine* machine = machine_();
  if (!machine) return no_machine();
  x_ = std::clamp(x.value_or(x_), 0, display::PointerEvent::kMax);
  y_ = std::clamp(y.value_or(y_), 0, display::PointerEvent::kMax);
  return machine->input().point({.x = x_, .y = y_, .buttons = buttons_});
}

Status UserInput::set_buttons(u8 buttons) {
  buttons_ = buttons;
  return tell_pointer(0);
}

/// Buttons and wheel, without moving.
Status UserInput::tell_pointer(i32 wheel) {
  machine::Machine* machine = machine_();
  if (!machine) return no_machine();
  display::InputRouter& input = machine->input();
  if (input.absolute()) return input.point({.x = x_, .y = y_, .wheel = wheel, .buttons = buttons_});
  return input.move({.wheel = wheel, .buttons = buttons_});
}

bool UserInput::absolute() const {
  machine::Machine* machine = machine_();
  return machine && machine->input().absolute();
}

}  // namespace atl::control
