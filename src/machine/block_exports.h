// The machine's NBD server: block nodes for other programs. One server, on the loop of the default I/O thread; requests for
// what lives on another I/O thread travel there and back. Control thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "block/nbd/server.h"
#include "machine/block_store.h"

namespace atl::machine {

class BlockExports {
 public:
  explicit BlockExports(BlockStore& store) : store_(store) {}
  ~BlockExports() {
    removed_ = nullptr;
    static_cast<void>(stop());
  }
  BlockExports(const BlockExports&) = delete;
  BlockExports& operator=(const BlockExports&) = delete;

  struct ExportOptions {
    std::string id;            // of the export, for its owner
    std::string node, name, description;
    std::vector<std::string> bitmaps;
    bool writable = false;
    bool strict = false;       // a node that is read-only cannot be exported as writable
  };
  /// Told of every export that has gone, by its id.
  void on_removed(std::function<void(const std::string& id)> removed) { removed_ = std::move(removed); }
  bool is_running() const { return server_ != nullptr; }
  Status start(const block::nbd::Address& address, u32 max_clients, std::shared_ptr<const TlsCredentials> tls);
  Status add(const ExportOptions& options);
  /// By the name that clients know. `force`: clients are thrown out.
  Status remove(const std::string& name, bool force);
  Status remove_id(const std::string& id, bool force);
  Status stop();
  const std::map<std::string, ExportOptions>& list() const { return exports_; }   // by id

 private:
  Status add_to_server(const ExportOptions& options, block::NodePtr node, const std::string& name);
  void tell_removed(const std::string& id) const {
    if (removed_) removed_(id);
  }

  BlockStore& store_;
  std::function<void(const std::string&)> removed_;
  BlockStore::Place* place_ = nullptr;
  std::unique_ptr<block::nbd::Server> server_;
  std::map<std::string, ExportOptions> exports_;
};

}  // namespace atl::machine
