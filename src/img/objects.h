// --object: secrets and TLS credentials.
#pragma once

#include <string_view>

#include "block/driver.h"

namespace atl::img {

/// "secret,id=s0,data=...|file=...,format=raw|base64". Other kinds are refused by name.
Status add_object(block::Graph& graph, std::string_view text);

}  // namespace atl::img
