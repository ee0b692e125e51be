// Exporting block nodes over NBD.
#include <fmt/format.h>

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

Reply nbd_server_start(QmpContext& c, const Json& arguments) {
  auto address = TRY(address_from(arguments["addr"]));
  u64 clients = number_argument(arguments, "max-connections").value_or(0);
  return done(exports(c).start(address, static_cast<u32>(std::min<u64>(clients, ~u32{0}))));
}

Reply nbd_server_add(QmpContext& c, const Json& arguments) {
  machine::BlockExports::ExportOptions options;
  options.node = text_argument(arguments, "device");
  options.name = text_argument(arguments, "name", options.node);
  options.description = text_argument(arguments, "description");
  options.bitmap = text_argument(arguments, "bitmap");
  options.writable = flag_argument(arguments, "writable", false);
  return done(exports(c).add(options));
}

Reply nbd_server_remove(QmpContext& c, const Json& arguments) {
  std::string mode = text_argument(arguments, "mode", "safe");
  if (mode != "safe" && mode != "hard") return Error(ErrorKind::Invalid, fmt::format("Invalid parameter '{}'", mode));
  return done(exports(c).remove(text_argument(arguments, "name"), mode == "hard"));
}

Reply nbd_server_stop(QmpContext& c, const Json&) { return done(exports(c).stop()); }

constexpr QmpCommand kCommands[] = {
    {"nbd-server-start", "addr:o max-connections?:i", nbd_server_start},
    {"nbd-server-add", "device:s name?:s description?:s writable?:b bitmap?:s", nbd_server_add, "DeviceNotFound"},
    {"nbd-server-remove", "name:s mode?:s", nbd_server_remove},
    {"nbd-server-stop", "", nbd_server_stop},
};

}  // namespace

std::span<const QmpCommand> export_commands() { return kCommands; }

}  // namespace atl::control
