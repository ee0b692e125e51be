#include "display/vnc/keymap.h"

#include <xkbcommon/xkbcommon.h>

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "display/keys.h"

namespace atl::display::vnc {
namespace {

constexpr u32 kLinuxOffset = 8;   // of xkb's key codes
constexpr xkb_level_index_t kShiftLevel = 1;

/// Names that are not simply xkb's, as layout or layout(variant).
struct Layout {
  std::string_view name, layout, variant;
};
constexpr Layout kLayouts[] = {
    {"en-us", "us", ""}, {"en-gb", "gb", ""}, {"de-ch", "ch", ""}, {"fr-be", "be", ""}, {"fr-ca", "ca", ""}, {"fr-ch", "ch", "fr"},
    {"ar", "ara", ""}, {"da", "dk", ""}, {"et", "ee", ""}, {"ja", "jp", ""}, {"pt-br", "br", ""}, {"sl", "si", ""}, {"sv", "se", ""},
    {"fo", "fo", ""}, {"cz", "cz", ""}, {"bepo", "fr", "bepo"}, {"nl-be", "be", ""},
};

struct FreeContext {
  void operator()(xkb_context* c) const { ::xkb_context_unref(c); }
};
struct FreeKeymap {
  void operator()(xkb_keymap* k) const { ::xkb_keymap_unref(k); }
};

using Keys = std::map<u32, SymbolKey>;

/// The first key that gives a symbol keeps it: without modifiers rather than with them.
void take_level(xkb_keymap* keymap, xkb_keycode_t code, xkb_level_index_t level, Keys& keys) {
  const u8 number = key_of_linux_code(code - kLinuxOffset);
  const xkb_keysym_t* symbols = nullptr;
  const int count = ::xkb_keymap_key_get_syms_by_level(keymap, code, 0, level, &symbols);
  for (int i = 0; number && i < count; ++i) keys.try_emplace(symbols[i], SymbolKey{number, level == kShiftLevel});
}

}  // namespace

Result<std::unique_ptr<KeyMap>> KeyMap::load(std::string_view name) {
  const auto* known = std::ranges::find(kLayouts, name, &Layout::name);
  const std::string layout(known == std::end(kLayouts) ? name : known->layout);
  const std::string variant(known == std::end(kLayouts) ? "" : known->variant);
  const std::unique_ptr<xkb_context, FreeContext> context(::xkb_context_new(XKB_CONTEXT_NO_ENVIRONMENT_NAMES));
  if (!context) return Error(ErrorKind::Io, "keyboard layouts are not installed (xkb-data)");
  ::xkb_context_set_log_level(context.get(), XKB_LOG_LEVEL_CRITICAL);  // the error below says it
  const xkb_rule_names names{.rules = "evdev", .model = "pc105", .layout = layout.c_str(), .variant = variant.c_str(), .options = ""};
  const std::unique_ptr<xkb_keymap, FreeKeymap> keymap(::xkb_keymap_new_from_names(context.get(), &names, XKB_KEYMAP_COMPILE_NO_FLAGS));
  if (!keymap) return Error(ErrorKind::NotFound, fmt::format("could not read keymap file: '{}'", name));
  auto map = std::make_unique<KeyMap>();
  for (xkb_level_index_t level = 0; level < 4; ++level)
    for (xkb_keycode_t code = ::xkb_keymap_min_keycode(keymap.get()); code <= ::xkb_keymap_max_keycode(keymap.get()); ++code)
      take_level(keymap.get(), code, level, map->keys_);
  return map;
}

std::optional<SymbolKey> KeyMap::find(u32 symbol) const {
  const auto found = keys_.find(symbol);
  return found == keys_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace atl::display::vnc
