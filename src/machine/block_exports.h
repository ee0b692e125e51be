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
    std::string node, name, description, bitmap;
    bool writable = false;
  };
  bool is_running() const { return server_ != nullptr; }
  Status start(const block::nbd::Address& address, u32 max_clients);
  Status add(const ExportOptions& options);
  /// `force`: clients are thrown out.
  Status remove(const std::string& name, bool force);
  Status stop();

 private:
  BlockStore& store_;
  BlockStore::Place* place_ = nullptr;
  std::unique_ptr<block::nbd::Server> server_;
};

}  // namespace atl::machine
