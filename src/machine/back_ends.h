// What devices of a machine are plugged into on the host side: disks, networks, entropy sources, and the I/O threads that
// serve them. Each has an id and at most one user. Control thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/thread.h"
#include "block/node.h"
#include "machine/config.h"
#include "net/backend.h"

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

  Status add_drive(const DriveConfig& config);
  Status remove_drive(const std::string& id);
  Status add_network(const NetConfig& config);
  Status remove_network(const std::string& id);
  Status add_rng(const RngConfig& config);
  /// Removes an rng back end or an idle I/O thread.
  Status remove_object(const std::string& id);

  /// A drive for the device `user`, on the loop of `thread`. The error says who uses it already.
  struct ClaimedDrive {
    block::Node* node = nullptr;
    const DriveConfig* config = nullptr;
  };
  /// `shared`: other processes may write the file, too (share-rw); it is not locked then.
  Result<ClaimedDrive> claim_drive(const std::string& id, const std::string& user, LoopThread& thread, bool shared);
  Result<net::Backend*> claim_network(const std::string& id, const std::string& user);
  /// Entropy sources may have several users.
  Result<std::string> rng_path(const std::string& id) const;
  /// Frees all that `user` has claimed.
  void release(const std::string& user);

  struct Drive {
    DriveConfig config;
    std::unique_ptr<block::Node> node;
    LoopThread* thread = nullptr;
    std::string user;
    bool io_error = false;
  };
  struct Network {
    NetConfig config;
    std::unique_ptr<net::Backend> backend;
    std::string user;
  };
  std::vector<Drive>& drives() { return drives_; }
  const std::vector<Network>& networks() const { return networks_; }
  Drive* find_drive(const std::string& id);

  /// Writes all caches of all disks to stable storage.
  Status flush();
  /// Ends all I/O threads; the loops stay, so that their users can be destroyed.
  void stop_threads();

 private:
  BackEnds() = default;
  Status open_drive(Drive& drive, LoopThread& thread);
  void close_drive(Drive& drive);
  Network* find_network(const std::string& id);

  std::unique_ptr<LoopThread> default_;
  std::map<std::string, std::unique_ptr<LoopThread>> iothreads_;
  std::vector<Drive> drives_;
  std::vector<Network> networks_;
  std::vector<RngConfig> rngs_;
};

}  // namespace atl::machine
