// Monitor commands for screen, keyboard and mouse.
#include <fmt/format.h>

#include "base/strings.h"
#include "control/hmp/command.h"
#include "control/screen/screendump.h"

namespace atl::control {
namespace {

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::string_view word : split(text, ' '))
    if (!word.empty()) words.push_back(word);
  return words;
}

/// A decimal number that may be negative.
Result<i32> steps(std::string_view text) {
  const bool negative = text.starts_with('-');
  auto value = parse_u64(text.substr(negative ? 1 : 0));
  if (!value || *value > 32768) return invalid(fmt::format("'{}' is not a number of steps", text));
  return negative ? -static_cast<i32>(*value) : static_cast<i32>(*value);
}

}  // namespace

/// screendump [-f ppm|png] filename
Status hmp_screendump(HmpContext& c, const HmpArguments& arguments) {
  auto words = words_of(arguments.text);
  auto format = PictureFormat::Ppm;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] != "-f") continue;
    format = TRY(picture_format(words[i + 1]));
    words.erase(words.begin() + static_cast<i64>(i), words.begin() + static_cast<i64>(i) + 2);
    break;
  }
  if (words.size() != 1) return invalid("a file name is expected");
  return screendump(c.vm.machine(), {}, std::string(words[0]), format);
}

/// sendkey keys [hold_ms]
Status hmp_sendkey(HmpContext& c, const HmpArguments& arguments) {
  const auto words = words_of(arguments.text);
  if (words.empty() || words.size() > 2) return invalid("keys and an optional time in milliseconds are expected");
  auto chord = TRY(UserInput::parse_chord(words[0]));
  auto hold_ms = words.size() == 2 ? parse_u64(words[1]) : std::optional<u64>(UserInput::kHold_ms);
  if (!hold_ms) return invalid(fmt::format("'{}' is not a number of milliseconds", words[1]));
  return c.vm.input().press(std::move(chord), *hold_ms);
}

/// mouse_move dx dy [dz]
Status hmp_mouse_move(HmpContext& c, const HmpArguments& arguments) {
  const auto words = words_of(arguments.text);
  if (words.size() != 2 && words.size() != 3) return invalid("dx dy [dz] are expected");
  const i32 dx = TRY(steps(words[0])), dy = TRY(steps(words[1]));
  const i32 dz = words.size() == 3 ? TRY(steps(words[2])) : 0;
  return c.vm.input().move(dx, dy, dz);
}

/// mouse_button state: 1 left, 2 middle, 4 right
Status hmp_mouse_button(HmpContext& c, const HmpArguments& arguments) {
  auto state = parse_u64(arguments.text);
  if (!state || *state > 7) return invalid("a sum of 1 (left), 2 (middle) and 4 (right) is expected");
  return c.vm.input().set_buttons(static_cast<u8>((*state & 1) | (*state & 2) << 1 | (*state & 4) >> 1));
}

namespace {

Result<display::vnc::Server*> vnc_server(HmpContext& c, std::string_view protocol) {
  if (protocol != "vnc") return invalid("'vnc' is expected");
  if (RemoteScreen* screen = c.vm.remote_screen()) return &screen->server();
  return Error(ErrorKind::NotFound, "VNC is not enabled (-vnc)");
}

}  // namespace

/// set_password vnc password
Status hmp_set_password(HmpContext& c, const HmpArguments& arguments) {
  const auto words = words_of(arguments.text);
  if (words.size() != 2) return invalid("vnc and a password are expected");
  auto* server = TRY(vnc_server(c, words[0]));
  if (!server->has_password()) return invalid("VNC has no password authentication (-vnc ...,password=on)");
  server->set_password(std::string(words[1]));
  return {};
}

/// change vnc password PASSWORD
Status hmp_change_vnc(HmpContext& c, const std::vector<std::string>& words) {
  if (words.size() < 2 || (words[1] != "password" && words[1] != "passwd")) return invalid("Expected 'password' after 'vnc'");
  if (words.size() != 3) return invalid("change vnc password: a password is expected on the same line");
  const std::string request = "vnc " + words[2];
  return hmp_set_password(c, {.format = "", .text = request});
}

/// expire_password vnc time
Status hmp_expire_password(HmpContext& c, const HmpArguments& arguments) {
  const auto words = words_of(arguments.text);
  if (words.size() != 2) return invalid("vnc and a time are expected");
  auto* server = TRY(vnc_server(c, words[0]));
  server->set_password_end(TRY(password_end(words[1])));
  return {};
}

/// mouse_set index, as `info mice` numbers them
Status hmp_mouse_set(HmpContext& c, const HmpArguments& arguments) {
  auto index = parse_u64(arguments.text);
  if (!index) return invalid("a mouse's index is expected");
  return c.vm.machine().input().select_mouse(*index);
}

}  // namespace atl::control
