// Sessions of clients with the serial ports, consoles and channels of VMs: one at a time each, and whoever insists takes it over.
//
// A session is a relay between the port (a pseudo-terminal, a socket) and one end of a socket pair, whose other end the client's
// stream has. It ends when either side does.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/sync.h"
#include "base/thread.h"
#include "manage/domain/tree.h"

namespace atl::manage {

class Consoles {
 public:
  static Result<std::unique_ptr<Consoles>> create();
  ~Consoles();

  /// `key` names the port on this host; `take_over` ends the session that is there. The result is the client's end, non-blocking.
  Result<Fd> open(const std::string& key, Fd port, bool take_over) EXCLUDES(mutex_);

 private:
  class Relay;
  Consoles() = default;
  void ended(const std::string& key, const Relay* relay) EXCLUDES(mutex_);

  std::unique_ptr<LoopThread> thread_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<Relay>> relays_ GUARDED_BY(mutex_);
};

/// The descriptor of a port of a running VM: by alias, or the first one if `name` is empty.
struct OpenedPort {
  Fd fd;
  std::string key;
};
Result<OpenedPort> open_port(const Element& domain, const std::string& name, bool channel);

}  // namespace atl::manage
