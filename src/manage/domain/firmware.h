// Which firmware a definition gets that asks for "efi" and leaves the rest open: Debian's OVMF, and a file of variables of its own.
#pragma once

#include <string>

#include "manage/domain/tree.h"

namespace atl::manage {

/// Writes <loader> and <nvram> into <os>. `state`: the daemon's state folder, where variables are kept.
Status choose_firmware(Element& domain, const std::string& state);

}  // namespace atl::manage
