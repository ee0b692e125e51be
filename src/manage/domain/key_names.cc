#include "manage/domain/key_names.h"

#include <linux/input-event-codes.h>

namespace atl::manage {
namespace {

struct Extended {
  u16 key;
  u8 scancode;
};
// Keys that send 0xE0 before their code; the others up to F12 have the same number in both sets.
constexpr Extended kExtended[] = {
    {KEY_KPENTER, 0x1c}, {KEY_RIGHTCTRL, 0x1d}, {KEY_KPSLASH, 0x35}, {KEY_SYSRQ, 0x37},  {KEY_RIGHTALT, 0x38}, {KEY_HOME, 0x47},
    {KEY_UP, 0x48},      {KEY_PAGEUP, 0x49},    {KEY_LEFT, 0x4b},    {KEY_RIGHT, 0x4d},  {KEY_END, 0x4f},      {KEY_DOWN, 0x50},
    {KEY_PAGEDOWN, 0x51}, {KEY_INSERT, 0x52},   {KEY_DELETE, 0x53},  {KEY_LEFTMETA, 0x5b}, {KEY_RIGHTMETA, 0x5c}, {KEY_COMPOSE, 0x5d}};

}  // namespace

std::optional<u32> pc_scancode(u32 codeset, u32 code) {
  constexpr u32 kLinux = 0, kXt = 1, kRfb = 7;
  if (codeset == kXt || codeset == kRfb) return code < 256 ? std::optional(code) : std::nullopt;
  if (codeset != kLinux) return std::nullopt;
  for (const auto& key : kExtended)
    if (key.key == code) return key.scancode | 0x80u;
  if (code >= KEY_ESC && code <= KEY_F12) return code;
  return std::nullopt;
}

}  // namespace atl::manage
