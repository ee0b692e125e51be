// What devices of a machine are plugged into on the host side: disks, networks, entropy sources, and the I/O threads that
// serve them. Each has an id and at most one user. Control thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/thread.h"
#include "machine/block_store.h"
#include "machine/config.h"
#include "machine/machine_info.h"
#include "net/backend.h"
#include "net/hub.h"

namespace atl::machine {

class BackEnds {
 public:
  /// Starts the default I/O thread.
  static Result<std::unique_ptr<BackEnds>> create();
  ~BackEnds();

  Status add_iothread(const IoThreadConfig& config);
  /// "" is the default I/O thread.
  Result<LoopThread*> iothread(const std::string& id);
  LoopThread& default_thread() { return *default_; }
  /// Those that options brought.
  std::vector<IoThreadInfo> iothreads() const;
  /// A thread for one device whose work waits for another process.
  Result<LoopThread*> own_thread(const std::string& user);

  BlockStore& blocks() { return *blocks_; }
  Status add_network(const NetConfig& config);
  Status remove_network(const std::string& id);
  Status change_forward(const std::string& id, const net::HostForward& rule, bool add);
  Status add_rng(const RngConfig& config);
  /// Removes an rng back end or an idle I/O thread.
  Status remove_object(const std::string& id);

  Result<net::Backend*> claim_network(const std::string& id, const std::string& user);
  /// The character back end of a network that is another process's; nothing if it is of another kind.
  Result<std::optional<CharId>> claim_vhost_user(const std::string& id, const std::string& user);
  /// Entropy sources may have several users.
  Result<std::string> rng_path(const std::string& id) const;
  /// Frees all that `user` has claimed.
  void release(const std::string& user);

  struct Network {
    NetConfig config;
    std::unique_ptr<net::Backend> backend;  // nullptr: vhost-user
    std::string user;
    std::string describe() const { return backend ? backend->describe() : "vhost-user"; }
  };
  const std::vector<Network>& networks() const { return networks_; }

  /// Writes all caches of all disks to stable storage.
  Status flush();
  /// Closes all disks and ends all I/O threads; the loops stay, so that their users can be destroyed.
  void stop_threads();

 private:
  BackEnds() = default;
  Network* find_network(const std::string& id);
  Result<std::unique_ptr<net::Backend>> open_network(const NetConfig& config);
  Result<std::unique_ptr<net::Backend>> open_hub_port(const net::HubPortOptions& options);
  void close_network(Network& network);

  std::unique_ptr<LoopThread> default_;
  std::map<std::string, std::unique_ptr<LoopThread>> iothreads_;
  std::unique_ptr<BlockStore> blocks_;
  std::map<u32, net::Hub> hubs_;      // by number; behind their ports
  std::vector<Network> networks_;
  std::vector<RngConfig> rngs_;
};

}  // namespace atl::machine
