// How much clients may ask for at once.
#pragma once

namespace atl::manage::rpc {

/// The defaults are libvirt's.
struct Limits {
  unsigned max_clients = 5000;
  unsigned max_client_requests = 5;
  unsigned max_anonymous_clients = 20;  // not authenticated yet
  unsigned handshake_timeout_s = 30;    // for TLS's
  unsigned keepalive_interval_s = 5;    // 0: never
  unsigned keepalive_count = 5;
  unsigned workers = 20;
  unsigned quick_workers = 5;
};

}  // namespace atl::manage::rpc
