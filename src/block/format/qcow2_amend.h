// Changes of an image's header: names, version, features.
#pragma once

#include "block/driver.h"
#include "block/format/qcow2_core.h"

namespace atl::block::qcow2 {

std::vector<CreateOption> amend_options();

}  // namespace atl::block::qcow2
