// An NBD server on one loop: fixed newstyle negotiation, structured replies, metadata contexts, TLS (doc/proto.md).
//
// Clients are strangers: what they send is bounded in size, number and time of negotiation. Missing: extended headers,
// resizing, server-side authorization lists.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "block/nbd/address.h"
#include "block/nbd/channel.h"
#include "block/node.h"

namespace atl::block::nbd {

/// A run of bytes in a metadata context.
struct ContextRun {
  u64 bytes = 0;
  u32 flags = 0;
};

/// What a client may ask about ranges of an export besides base:allocation.
struct MetaContext {
  std::string name;   // "qemu:dirty-bitmap:b0"
  /// The run at `offset`, at most `bytes` long.
  std::function<Task<Result<ContextRun>>(u64 offset, u64 bytes)> look;
};

struct Export {
  std::string name, description;
  NodePtr node;
  bool readonly = false;
  bool multi_conn = true;    // several clients see each other's flushed writes
  u64 offset = 0, bytes = 0; // a window of the node; 0 bytes: to its end
  std::vector<MetaContext> contexts;

  u64 size_bytes() const { return bytes ? bytes : node->size_bytes() - std::min(offset, node->size_bytes()); }
};

class Session;

class Server {
 public:
  struct Options {
    std::shared_ptr<const TlsCredentials> tls;   // then nobody gets in without
    u32 max_clients = 0;                         // 0: no limit; more wait in the sockets' queues
  };

  Server(Loop& loop, Options options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  Status listen(const Address& address);
  /// A listening, non-blocking socket.
  void listen_on(Fd socket);
  /// A connected, blocking socket.
  void serve(Fd socket);

  Status add_export(Export exported);
  /// Clients that use it are thrown out if `force`, else it is Busy.
  Status remove_export(const std::string& name, bool force);
  std::shared_ptr<const Export> find_export(const std::string& name) const;
  const std::map<std::string, std::shared_ptr<const Export>>& exports() const { return exports_; }

  /// No more clients; those that are there are thrown out.
  void stop();
  size_t clients() const { return sessions_.size(); }
  /// After a client has gone.
  std::function<void()> on_client_left;

 private:
  friend class Session;
  void accept_clients(int socket);
  void update_watches();
  void left(Session* session);

  Loop& loop_;
  const Options options_;
  std::map<std::string, std::shared_ptr<const Export>> exports_;
  struct Listener {
    Fd socket;
    std::unique_ptr<Loop::Watch> watch;
  };
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::set<Session*> sessions_;
  bool stopping_ = false;
};

}  // namespace atl::block::nbd
