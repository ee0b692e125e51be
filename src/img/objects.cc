#include "img/objects.h"

#include <fmt/format.h>

#include "base/key_values.h"
#include "block/nbd/tls.h"
#include "block/secret.h"

namespace atl::img {
namespace {

Status add_tls(block::Graph& graph, std::string id, KeyValues options, block::nbd::TlsOptions::Kind kind) {
  block::nbd::TlsOptions tls;
  tls.kind = kind;
  tls.dir = options.take("dir").value_or("");
  tls.priority = options.take("priority").value_or("");
  if (kind == block::nbd::TlsOptions::Psk) tls.username = options.take("username").value_or(tls.username);
  static constexpr std::string_view kEndpoints[] = {"client", "server"};
  tls.server = TRY(options.take_choice("endpoint", kEndpoints, 0)) == 1;
  tls.verify_peer = TRY(options.take_bool("verify-peer", true));
  TRY(options.expect_empty());
  graph.add_tls_credentials(std::move(id), TRY(block::nbd::TlsCredentials::load(tls)));
  return {};
}

}  // namespace

Status add_object(block::Graph& graph, std::string_view text) {
  KeyValues options = TRY(KeyValues::parse(text, "qom-type"));
  std::string type = options.take("qom-type").value_or("");
  std::string id = TRY(options.take_required("id"));
  if (type == "secret") {
    graph.add_secret(std::move(id), TRY(block::read_secret(std::move(options))));
    return {};
  }
  if (type == "tls-creds-x509") return add_tls(graph, std::move(id), std::move(options), block::nbd::TlsOptions::X509);
  if (type == "tls-creds-psk") return add_tls(graph, std::move(id), std::move(options), block::nbd::TlsOptions::Psk);
  return Error(ErrorKind::Unsupported, fmt::format("invalid object type: {}", type));
}

}  // namespace atl::img
