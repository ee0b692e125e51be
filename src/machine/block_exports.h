// The machine's NBD server: block nodes for other programs. One server, on the loop of the default I/O thread; what lives on
// another I/O thread cannot be exported. Control thread.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "block/nbd/server.h"
#include "machine/block_store.h"

namespace atl::machine {

class BlockExports {
 public:
  explicit BlockExports(BlockStore& store) : store_(store) {}
  ~BlockExports() { static_cast<void>(stop()); }
  BlockExports(const BlockExports&) = delete;
  BlockExports& operator=(const BlockExports&) = delete;

  struct ExportOptions {
    std::string id;            // of the export, for its owner
    std::string node, name, description;
    std::vector<std::string> bitmaps;
    bool writable = false;
    bool strict = false;       // a node that is read-only cannot be exported as writable
  };
  bool is_running() const { return server_ != nullptr; }
  Status start(const block::nbd::Address& address, u32 max_clients, std::shared_ptr<const TlsCredentials> tls);
  Status add(const ExportOptions& options);
  /// By the name that clients know. `force`: clients are thrown out.
  Status remove(const std::string& name, bool force);
  Status remove_id(const std::string& id, bool force);
  Status stop();
  const std::map<std::string, ExportOptions>& list() const { return exports_; }   // by id

 private:
  Status add_to_server(const ExportOptions& options, BlockStore::Located& located, const std::string& name);
  BlockStore& store_;
  BlockStore::Place* place_ = nullptr;
  std::unique_ptr<block::nbd::Server> server_;
  std::map<std::string, ExportOptions> exports_;
};

}  // namespace atl::machine
