// Making the target of create, convert and dd.
#pragma once

#include "img/create_options.h"
#include "img/nodes.h"
#include "img/tool.h"

namespace atl::img {

/// The driver of that name, if it can create. Errors as qemu-img words them, `prefix` ("x: ") in front.
Result<const block::Driver*> creating_driver(const std::string& format, std::string_view prefix = "");
/// Whether everything in a node is known to read as zeroes.
Task<Result<bool>> is_known_zero(Node& node);

}  // namespace atl::img
