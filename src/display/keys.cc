#include "display/keys.h"

#include <algorithm>
#include <iterator>

namespace atl::display {
namespace {

struct Key {
  std::string_view name;
  u8 number;
};

// The first name of a number is the one that is shown.
constexpr Key kKeys[] = {
    {"esc", 0x01}, {"1", 0x02}, {"2", 0x03}, {"3", 0x04}, {"4", 0x05}, {"5", 0x06}, {"6", 0x07}, {"7", 0x08}, {"8", 0x09},
    {"9", 0x0a}, {"0", 0x0b}, {"minus", 0x0c}, {"equal", 0x0d}, {"backspace", 0x0e}, {"tab", 0x0f},
    {"q", 0x10}, {"w", 0x11}, {"e", 0x12}, {"r", 0x13}, {"t", 0x14}, {"y", 0x15}, {"u", 0x16}, {"i", 0x17}, {"o", 0x18},
    {"p", 0x19}, {"bracket_left", 0x1a}, {"bracket_right", 0x1b}, {"ret", 0x1c}, {"ctrl", 0x1d},
    {"a", 0x1e}, {"s", 0x1f}, {"d", 0x20}, {"f", 0x21}, {"g", 0x22}, {"h", 0x23}, {"j", 0x24}, {"k", 0x25}, {"l", 0x26},
    {"semicolon", 0x27}, {"apostrophe", 0x28}, {"grave_accent", 0x29}, {"shift", 0x2a}, {"backslash", 0x2b},
    {"z", 0x2c}, {"x", 0x2d}, {"c", 0x2e}, {"v", 0x2f}, {"b", 0x30}, {"n", 0x31}, {"m", 0x32},
    {"comma", 0x33}, {"dot", 0x34}, {"slash", 0x35}, {"shift_r", 0x36}, {"kp_multiply", 0x37}, {"asterisk", 0x37},
    {"alt", 0x38}, {"spc", 0x39}, {"caps_lock", 0x3a},
    {"f1", 0x3b}, {"f2", 0x3c}, {"f3", 0x3d}, {"f4", 0x3e}, {"f5", 0x3f}, {"f6", 0x40}, {"f7", 0x41}, {"f8", 0x42},
    {"f9", 0x43}, {"f10", 0x44}, {"num_lock", 0x45}, {"scroll_lock", 0x46},
    {"kp_7", 0x47}, {"kp_8", 0x48}, {"kp_9", 0x49}, {"kp_subtract", 0x4a}, {"kp_4", 0x4b}, {"kp_5", 0x4c}, {"kp_6", 0x4d},
    {"kp_add", 0x4e}, {"kp_1", 0x4f}, {"kp_2", 0x50}, {"kp_3", 0x51}, {"kp_0", 0x52}, {"kp_decimal", 0x53},
    {"sysrq", 0x54}, {"less", 0x56}, {"f11", 0x57}, {"f12", 0x58},
    {"kp_enter", 0x9c}, {"ctrl_r", 0x9d}, {"audiomute", 0xa0}, {"calculator", 0xa1}, {"audioplay", 0xa2}, {"audiostop", 0xa4},
    {"volumedown", 0xae}, {"volumeup", 0xb0}, {"ac_home", 0xb2}, {"kp_divide", 0xb5}, {"print", 0xb7}, {"alt_r", 0xb8},
    {"pause", 0xc6}, {"home", 0xc7}, {"up", 0xc8}, {"pgup", 0xc9}, {"left", 0xcb}, {"right", 0xcd}, {"end", 0xcf},
    {"down", 0xd0}, {"pgdn", 0xd1}, {"insert", 0xd2}, {"delete", 0xd3}, {"meta_l", 0xdb}, {"meta_r", 0xdc},
    {"compose", 0xdd}, {"menu", 0xdd}, {"power", 0xde}, {"sleep", 0xdf}, {"wake", 0xe3},
};

/// Linux numbers the keys of the old keyboard as their scan codes; these came later.
struct LaterKey {
  u16 code;
  u8 number;
};
constexpr LaterKey kLaterKeys[] = {
    {89, 0x73}, {92, 0x79}, {93, 0x70}, {94, 0x7b}, {96, 0x9c}, {97, 0x9d}, {98, 0xb5}, {99, 0xb7}, {100, 0xb8}, {102, 0xc7},
    {103, 0xc8}, {104, 0xc9}, {105, 0xcb}, {106, 0xcd}, {107, 0xcf}, {108, 0xd0}, {109, 0xd1}, {110, 0xd2}, {111, 0xd3},
    {113, 0xa0}, {114, 0xae}, {115, 0xb0}, {116, 0xde}, {117, 0x59}, {119, 0xc6}, {121, 0x7e}, {124, 0x7d}, {125, 0xdb},
    {126, 0xdc}, {127, 0xdd}, {140, 0xa1}, {142, 0xdf}, {143, 0xe3}, {164, 0xa2}, {166, 0xa4}, {172, 0xb2},
};
constexpr bool is_old_key(u32 code) { return (code >= 1 && code <= 83) || (code >= 86 && code <= 88); }

}  // namespace

u16 linux_code_of_key(u8 number) {
  if (number == 0x54) return 99;  // SysRq with Alt held has a scan code of its own
  if (is_old_key(number)) return number;
  const auto* found = std::ranges::find(kLaterKeys, number, &LaterKey::number);
  return found == std::end(kLaterKeys) ? u16{0} : found->code;
}

u8 key_of_linux_code(u32 code) {
  if (is_old_key(code)) return static_cast<u8>(code);
  const auto* found = std::ranges::find(kLaterKeys, code, &LaterKey::code);
  return found == std::end(kLaterKeys) ? u8{0} : found->number;
}

std::optional<u8> key_number(std::string_view name) {
  const auto* found = std::ranges::find(kKeys, name, &Key::name);
  if (found == std::end(kKeys)) return std::nullopt;
  return found->number;
}

std::string_view key_name(u8 number) {
  const auto* found = std::ranges::find(kKeys, number, &Key::number);
  return found == std::end(kKeys) ? std::string_view() : found->name;
}

}  // namespace atl::display
