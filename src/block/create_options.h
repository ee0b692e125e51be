// Options of image creation, as drivers' tables list them.
#pragma once

#include "block/driver.h"

namespace atl::block {

/// Each value as text, of the option's type, with fallbacks filled in. The error names what the driver does not know.
Result<Json> complete_create_options(const Driver& driver, const Json& given);

}  // namespace atl::block
