// A keyboard layout for viewers that tell symbols rather than keys: -k. Layouts are those of xkeyboard-config, by QEMU's names.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "display/vnc/keysyms.h"

namespace atl::display::vnc {

class KeyMap {
 public:
  /// "en-us", "de", "fr-ch" ...; also what xkeyboard-config itself calls a layout. The error names it.
  static Result<std::unique_ptr<KeyMap>> load(std::string_view name);

  std::optional<SymbolKey> find(u32 symbol) const;

 private:
  std::map<u32, SymbolKey> keys_;
};

}  // namespace atl::display::vnc
