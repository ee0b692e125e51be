#include "machine/block_exports.h"

#include <fmt/format.h>

#include <algorithm>

#include "block/forward_node.h"

namespace atl::machine {
namespace {

using block::nbd::ContextRun;
using block::nbd::MetaContext;

constexpr u32 kDirty = 1;  // NBD_STATE_DIRTY of qemu's metadata contexts

Task<Result<ContextRun>> look_at(std::shared_ptr<block::DirtyBitmap> bitmap, u64 offset, u64 bytes) {
  ContextRun run;
  auto dirty = bitmap->next_dirty(offset, bytes);
  if (dirty && dirty->offset == offset) {
    run.bytes = dirty->bytes;
    run.flags = kDirty;
  } else {
    run.bytes = dirty ? std::min(bytes, dirty->offset - offset) : bytes;
  }
  co_return run;
}

MetaContext context_of(std::shared_ptr<block::DirtyBitmap> bitmap) {
  MetaContext context;
  context.name = "qemu:dirty-bitmap:" + bitmap->name();
  context.look = [bitmap](u64 offset, u64 bytes) { return look_at(bitmap, offset, bytes); };
  return context;
}

}  // namespace

Status BlockExports::start(const block::nbd::Address& address, u32 max_clients, std::shared_ptr<const TlsCredentials> tls) {
  if (server_) return Error(ErrorKind::Exists, "NBD server already running");
  place_ = store_.places().front();
  return place_->thread.run_on([&]() -> Status {
    block::nbd::Server::Options options;
    options.max_clients = max_clients;
    options.tls = std::move(tls);
    auto server = std::make_unique<block::nbd::Server>(place_->thread.loop(), std::move(options));
    TRY(server->listen(address));
    server_ = std::move(server);
    return {};
  });
}

Status BlockExports::add(const ExportOptions& options) {
  if (exports_.contains(options.id)) return Error(ErrorKind::Exists, fmt::format("Block export id '{}' is already in use", options.id));
  auto located = TRY(store_.locate(options.node));
  if (!server_) return Error(ErrorKind::Invalid, "NBD server not running");
  if (located.place != place_ && !options.bitmaps.empty())
    return Error(ErrorKind::Unsupported, fmt::format("Node '{}' lives on an I/O thread of its own: its bitmaps cannot be exported", options.node));
  const std::string name = options.name.empty() ? options.node : options.name;
  // A root of its own: the export goes on while the graph below changes.
  auto root = located.place->thread.run_on([&] { return std::make_shared<block::Root>(located.place->graph, located.node); });
  TRY(place_->thread.run_on([&] {
    block::NodePtr node;
    if (located.place == place_) node = std::move(root);
    else node = block::make_forward_node(place_->thread.loop(), located.place->thread.loop(), std::move(root));
    return add_to_server(options, std::move(node), name);
  }));
  ExportOptions kept = options;
  kept.name = name;
  exports_.emplace(options.id, std::move(kept));
  return {};
}

Status BlockExports::add_to_server(const ExportOptions& options, block::NodePtr node, const std::string& name) {
  block::nbd::Export exported;
  exported.name = name;
  if (exported.name.size() > 4096) return Error(ErrorKind::Invalid, "export name is too long");
  if (options.description.size() > 4096) return Error(ErrorKind::Invalid, "export description is too long");
  exported.description = options.description;
  const bool readonly = node->info().readonly;
  if (options.strict && options.writable && readonly)
    return Error(ErrorKind::Permission, "Cannot export read-only node as writable");
  exported.readonly = !options.writable || readonly;
  if (server_->find_export(exported.name))
    return Error(ErrorKind::Exists, fmt::format("NBD server already has export named '{}'", exported.name));
  for (const std::string& bitmap : options.bitmaps) {
    auto* entry = place_->find_bitmap_entry(*node->children()[0].node, bitmap);  // what the root stands on
    if (!entry) return Error(ErrorKind::NotFound, fmt::format("Bitmap '{}' is not found", bitmap));
    // What is exported read-only must not change: nor what its bitmaps say.
    if (exported.readonly && !readonly && entry->bitmap->enabled)
      return Error(ErrorKind::Invalid, fmt::format("Enabled bitmap '{}' incompatible with readonly export", bitmap));
    exported.contexts.push_back(context_of(entry->bitmap));
  }
  exported.node = std::move(node);
  return server_->add_export(std::move(exported));
}

Status BlockExports::remove(const std::string& name, bool force) {
  if (!server_) return Error(ErrorKind::Invalid, "NBD server not running");
  TRY(place_->thread.run_on([&] { return server_->remove_export(name, force); }));
  const auto gone = std::ranges::find(exports_, name, [](const auto& entry) { return entry.second.name; });
  if (gone == exports_.end()) return {};
  const std::string id = gone->first;
  exports_.erase(gone);
  tell_removed(id);
  return {};
}

Status BlockExports::remove_id(const std::string& id, bool force) {
  auto found = exports_.find(id);
  if (found == exports_.end()) return Error(ErrorKind::NotFound, fmt::format("Export '{}' is not found", id));
  return remove(std::string(found->second.name), force);
}

namespace {

/// Sessions end on the loop, after the last of their requests. Draining hurries those that wait for a limit.
Task<Status> end_server(BlockStore::Place& place, block::nbd::Server& server) {
  server.stop();
  while (server.clients()) {
    static_cast<void>(co_await place.graph.drain());
    place.graph.resume();
    co_await place.thread.loop().sleep(1'000'000);
  }
  co_return Status{};
}

}  // namespace

Status BlockExports::stop() {
  if (!server_) return Error(ErrorKind::Invalid, "NBD server not running");
  Status ended = finish_on(place_->thread, [&] { return end_server(*place_, *server_); });
  place_->thread.run_on([&] { server_.reset(); });
  for (BlockStore::Place* place : store_.places()) place->thread.run_on([] {});  // roots of nodes there have gone
  for (const auto& [id, options] : std::exchange(exports_, {})) tell_removed(id);
  return ended;
}

}  // namespace atl::machine
