// `-object secret`: a password that no command line or log shows, given in a file or, for tests, as data.
#pragma once

#include <string>

#include "base/key_values.h"
#include "base/result.h"

namespace atl::block {

/// From the options "data" or "file" and "format" (raw, base64); any other is refused by name.
Result<std::string> read_secret(KeyValues options);

}  // namespace atl::block
