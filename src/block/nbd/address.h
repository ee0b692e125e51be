// Where an NBD server listens, and connecting or listening there.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/loop.h"
#include "base/task.h"
#include "block/nbd/protocol.h"

namespace atl::block::nbd {

struct Address {
  std::string path;          // a Unix socket, if not empty
  std::string host = "localhost";
  std::string port = "10809";

  bool is_unix() const { return !path.empty(); }
  /// For messages.
  std::string text() const { return is_unix() ? path : host + ":" + port; }
};

/// A connected, blocking socket.
Task<Result<Fd>> connect_to(Loop& loop, Address address);
/// A listening, non-blocking socket.
Result<Fd> listen_at(const Address& address);

}  // namespace atl::block::nbd
