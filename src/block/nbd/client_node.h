// An NBD export as a node. Supported: read, write, write zeroes, trim, flush, FUA, block status, reconnecting, TLS, servers
// with block size constraints. Missing: resizing (the protocol has no released extension for it).
#pragma once

#include "block/nbd/client_connection.h"
#include "block/nbd/address.h"
#include "block/node.h"

namespace atl::block::nbd {

struct ClientOptions {
  std::string node_name;
  Address address;
  ClientHello hello;
  bool readonly = false, auto_readonly = false, discard = false;
  u64 reconnect_delay_ns = 0;   // how long requests wait for a lost server to come back
  u64 open_timeout_ns = 0;      // how long opening tries
};

/// Connects and negotiates.
Task<Result<NodePtr>> open_client_node(Loop& loop, ClientOptions options);

}  // namespace atl::block::nbd
