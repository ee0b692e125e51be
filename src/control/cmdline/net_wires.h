// The wires between programs: -netdev socket, stream and dgram.
#pragma once

#include "base/key_values.h"
#include "net/backend.h"

namespace atl::control {

/// `type`: socket, stream or dgram.
Result<net::SocketOptions> wire_from_values(const std::string& type, KeyValues& values, const std::string& id);

}  // namespace atl::control
