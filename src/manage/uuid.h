// Uuids: text and random ones (RFC 4122, version 4).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "manage/rpc/xdr.h"

namespace atl::manage {

/// 32 hexadecimal digits, hyphens allowed between bytes.
std::optional<Uuid> parse_uuid(std::string_view text);
/// Lower case, with hyphens.
std::string format_uuid(const Uuid& uuid);
Uuid random_uuid();

}  // namespace atl::manage
