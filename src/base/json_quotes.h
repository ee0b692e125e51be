// JSON as QEMU reads it: strings may stand between single quotes, too. {'driver': 'raw'} is what its scripts write.
#pragma once

#include <string>
#include <string_view>

namespace atl {

/// The same text with all strings between double quotes. What is no JSON stays no JSON.
std::string with_double_quotes(std::string_view json);

}  // namespace atl
