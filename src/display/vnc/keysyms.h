// X key symbols to keys of a keyboard with the US layout, for clients that do not send key numbers.
#pragma once

#include <optional>

#include "base/types.h"

namespace atl::display::vnc {

struct SymbolKey {
  u8 number = 0;        // display/keys.h
  bool shift = false;   // the symbol is the key's upper one
};

std::optional<SymbolKey> key_of_symbol(u32 symbol);

}  // namespace atl::display::vnc
