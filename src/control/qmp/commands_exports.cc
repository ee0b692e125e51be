// Exporting block nodes over NBD.
#include <fmt/format.h>

#include "base/tls.h"
#include "control/cmdline/translate.h"
#include "control/qmp/block_support.h"
#include "machine/block_exports.h"

namespace atl::control {
namespace {

Result<block::nbd::Address> address_from(const Json& address) {
  std::string type = text_argument(address, "type");
  auto at = address.find("data");
  if (at == address.end() || !at->is_object()) return Error(ErrorKind::Invalid, "Parameter 'addr.data' is missing");
  block::nbd::Address result;
  if (type == "unix") {
    result.path = text_argument(*at, "path");
    if (result.path.empty()) return Error(ErrorKind::Invalid, "Parameter 'path' is missing");
    return result;
  }
  if (type != "inet") return Error(ErrorKind::Unsupported, fmt::format("address type '{}' is not supported", type));
  result.host = text_argument(*at, "host");
  result.port = text_argument(*at, "port");
  if (result.host.empty() || result.port.empty()) return Error(ErrorKind::Invalid, "Parameter 'host' or 'port' is missing");
  return result;
}

machine::BlockExports& exports(QmpContext& c) { return store(c).exports(); }

/// Of a node, or of what is in a drive now.
Result<std::string> node_name_of(QmpContext& c, const std::string& node) {
  auto located = TRY(find_node(c, node));
  return located.place->thread.run_on([&] { return located.node->info().node_name; });
}

Result<std::shared_ptr<const TlsCredentials>> server_credentials(QmpContext& c, const std::string& id) {
  auto* place = store(c).places().front();
  auto found = place->thread.run_on([&] { return place->graph.tls_credentials(id); });
  if (!found) return Error(ErrorKind::NotFound, fmt::format("No TLS credentials with id '{}'", id));
  if (!found->options().server) return Error(ErrorKind::Invalid, "Expecting TLS credentials with a server endpoint");
  return found;
}

Reply nbd_server_start(QmpContext& c, const Json& arguments) {
  auto address = TRY(address_from(arguments["addr"]));
  if (!text_argument(arguments, "tls-authz").empty())
    return Error(ErrorKind::Unsupported, "tls-authz is not supported: all whom the credentials admit may connect");
  std::shared_ptr<const TlsCredentials> tls;
  if (std::string id = text_argument(arguments, "tls-creds"); !id.empty()) tls = TRY(server_credentials(c, id));
  u64 clients = number_argument(arguments, "max-connections").value_or(0);
  return done(exports(c).start(address, static_cast<u32>(std::min<u64>(clients, ~u32{0})), std::move(tls)));
}

/// A bitmap's name, or {"node": ..., "name": ...}.
Result<std::vector<std::string>> bitmap_names(const Json& list, const std::string& node) {
  std::vector<std::string> names;
  for (const Json& item : list) {
    const auto* name = item.get_ptr<const std::string*>();
    if (!name && (!item.is_object() || text_argument(item, "name").empty()))
      return Error(ErrorKind::Invalid, "Invalid parameter type for 'bitmaps'");
    if (!name && text_argument(item, "node") != node)
      return Error(ErrorKind::Unsupported, "a bitmap of another node cannot be exported");
    names.push_back(name ? *name : text_argument(item, "name"));
  }
  return names;
}

Reply nbd_server_add(QmpContext& c, const Json& arguments) {
  machine::BlockExports::ExportOptions options;
  options.node = text_argument(arguments, "device");
  options.name = text_argument(arguments, "name", options.node);
  options.id = options.name;
  options.description = text_argument(arguments, "description");
  if (std::string bitmap = text_argument(arguments, "bitmap"); !bitmap.empty()) options.bitmaps.push_back(std::move(bitmap));
  options.writable = flag_argument(arguments, "writable", false);
  return done(exports(c).add(options));
}

Result<bool> is_hard(const Json& arguments) {
  std::string mode = text_argument(arguments, "mode", "safe");
  if (mode != "safe" && mode != "hard") return Error(ErrorKind::Invalid, fmt::format("Parameter 'mode' does not accept value '{}'", mode));
  return mode == "hard";
}

Reply nbd_server_remove(QmpContext& c, const Json& arguments) {
  return done(exports(c).remove(text_argument(arguments, "name"), TRY(is_hard(arguments))));
}

Reply nbd_server_stop(QmpContext& c, const Json&) { return done(exports(c).stop()); }

// --- the same for exports of every type; NBD is the one there is ---

Status check_export(const Json& arguments) {
  const std::string id = text_argument(arguments, "id"), type = text_argument(arguments, "type");
  if (type != "nbd") return Error(ErrorKind::Invalid, fmt::format("Parameter 'type' does not accept value '{}'", type));
  if (!is_well_formed_id(id)) return Error(ErrorKind::Invalid, "Invalid block export id");
  for (const char* key : {"iothread", "fixed-iothread", "writethrough", "allocation-depth"}) {
    auto at = arguments.find(key);
    if (at == arguments.end() || *at == false) continue;
    return Error(ErrorKind::Unsupported, fmt::format("'{}' is not supported for exports", key));
  }
  return {};
}

Reply block_export_add(QmpContext& c, const Json& arguments) {
  TRY(check_export(arguments));
  machine::BlockExports::ExportOptions options;
  options.id = text_argument(arguments, "id");
  options.node = text_argument(arguments, "node-name");
  options.name = text_argument(arguments, "name", options.node);
  options.description = text_argument(arguments, "description");
  if (auto list = arguments.find("bitmaps"); list != arguments.end()) options.bitmaps = TRY(bitmap_names(*list, options.node));
  options.writable = flag_argument(arguments, "writable", false);
  options.strict = true;
  return done(exports(c).add(options));
}

Reply block_export_del(QmpContext& c, const Json& arguments) {
  return done(exports(c).remove_id(text_argument(arguments, "id"), TRY(is_hard(arguments))));
}

Reply query_block_exports(QmpContext& c, const Json&) {
  Json list = Json::array();
  for (const auto& [id, options] : exports(c).list())
    list.push_back({{"id", id}, {"type", "nbd"}, {"node-name", TRY(node_name_of(c, options.node))}, {"shutting-down", false}});
  return list;
}

constexpr QmpCommand kCommands[] = {
    {"nbd-server-start", "addr:o tls-creds?:s tls-authz?:s max-connections?:i", nbd_server_start},
    {"nbd-server-add", "device:s name?:s description?:s writable?:b bitmap?:s", nbd_server_add},
    {"nbd-server-remove", "name:s mode?:s", nbd_server_remove},
    {"nbd-server-stop", "", nbd_server_stop},
    {"block-export-add",
     "type:s id:s node-name:s writable?:b writethrough?:b fixed-iothread?:b iothread?:s name?:s description?:s bitmaps?:a "
     "allocation-depth?:b",
     block_export_add},
    {"block-export-del", "id:s mode?:s", block_export_del},
    {"query-block-exports", "", query_block_exports},
};

}  // namespace

std::span<const QmpCommand> export_commands() { return kCommands; }

}  // namespace atl::control
