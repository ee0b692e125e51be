// Driver "nbd": exports of NBD servers as nodes.
#include <fmt/format.h>

#include "block/driver.h"
#include "block/nbd/client_node.h"
#include "block/nbd/uri.h"
#include "block/protocol/remote_node.h"

namespace atl::block {
namespace {

using namespace nbd;

constexpr u64 kSecond = 1'000'000'000;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

Result<Address> read_address(OptionReader& reader) {
  Address address;
  address.path = TRY(reader.string("server.path", ""));
  if (address.path.empty()) address.path = TRY(reader.string("path", ""));
  auto type = reader.string("server.type", address.path.empty() ? "inet" : "unix");
  if (!type) return std::move(type).error();
  if (*type != "inet" && *type != "unix") return invalid(fmt::format("NBD server type '{}' is not supported", *type));
  if (*type == "unix" && address.path.empty()) return invalid("an NBD server on a Unix socket needs 'server.path'");
  if (*type == "unix") return address;
  std::string host = TRY(reader.string("server.host", "")), port = TRY(reader.string("server.port", ""));
  if (host.empty()) host = TRY(reader.string("host", ""));
  if (port.empty()) port = TRY(reader.string("port", std::to_string(kDefaultPort)));
  if (host.empty()) return invalid("NBD server address missing");
  address.host = host;
  address.port = port;
  return address;
}

/// Credentials by the id of their object, or from where a "nbds:" URI says.
Result<std::shared_ptr<const TlsCredentials>> read_tls(OptionReader& reader, Graph& graph) {
  std::string id = TRY(reader.string("tls-creds", ""));
  bool wanted = TRY(reader.boolean("tls", false));
  TlsOptions options;
  options.dir = TRY(reader.string("tls-certificates", ""));
  options.psk_file = TRY(reader.string("tls-psk-file", ""));
  options.username = TRY(reader.string("tls-username", options.username));
  if (!id.empty()) {
    auto credentials = graph.tls_credentials(id);
    if (!credentials) return invalid(fmt::format("No TLS credentials with id '{}'", id));
    if (credentials->options().server) return invalid("Expecting TLS credentials with a client endpoint");
    return credentials;
  }
  if (!wanted) return std::shared_ptr<const TlsCredentials>();
  if (!options.psk_file.empty()) options.kind = TlsOptions::Psk;
  if (options.dir.empty() && options.psk_file.empty()) options.dir = "/etc/pki/libvirt";
  return TlsCredentials::load(options);
}

Result<ClientOptions> read_options(Graph& graph, Json tree, const OpenMode& mode) {
  OptionReader reader(std::move(tree), "nbd");
  ClientOptions options;
  options.address = TRY(read_address(reader));
  options.hello.export_name = TRY(reader.string("export", ""));
  if (options.hello.export_name.size() > kMaxString) return invalid("export name too long to send to server");
  options.hello.tls = TRY(read_tls(reader, graph));
  options.hello.tls_hostname = TRY(reader.string("tls-hostname", options.address.is_unix() ? "" : options.address.host));
  options.hello.dirty_bitmap = TRY(reader.string("x-dirty-bitmap", ""));
  options.reconnect_delay_ns = TRY(reader.number("reconnect-delay", 0)) * kSecond;
  options.open_timeout_ns = TRY(reader.number("open-timeout", 0)) * kSecond;
  TRY(reader.finish());
  options.readonly = mode.readonly;
  options.auto_readonly = mode.auto_readonly;
  options.discard = mode.discard;
  return options;
}

Task<Result<NodePtr>> open_nbd(Graph& graph, Json tree, OpenMode mode, std::string node_name) {
  auto options = read_options(graph, std::move(tree), mode);
  if (!options) co_return std::move(options).error();
  options->node_name = std::move(node_name);
  co_return co_await open_client_node(graph.loop(), *std::move(options));
}

Task<Status> create_on_nbd(Graph& graph, NodePtr, std::string filename, Json options) {
  return create_on_disk(graph, std::move(filename), std::move(options), "nbd");
}

}  // namespace

extern const Driver kNbdDriver;
const Driver kNbdDriver = {.name = "nbd",
                           .protocol = true,
                           .parse_name = parse_nbd_name,
                           .schemes = {"nbd", "nbd+unix", "nbd+tcp", "nbds", "nbds+unix", "nbds+tcp"},
                           .open = open_nbd,
                           .create = create_on_nbd,
                           .create_options = {{"size", CreateOption::Size, "Virtual disk size"}}};

}  // namespace atl::block
