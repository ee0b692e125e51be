#include "img/objects.h"

#include <fmt/format.h>

#include "base/key_values.h"
#include "base/tls.h"
#include "block/secret.h"

namespace atl::img {
Status add_object(block::Graph& graph, std::string_view text) {
  KeyValues options = TRY(KeyValues::parse(text, "qom-type"));
  std::string type = options.take("qom-type").value_or("");
  std::string id = TRY(options.take_required("id"));
  if (type == "secret") {
    graph.add_secret(std::move(id), TRY(block::read_secret(std::move(options))));
    return {};
  }
  const TlsOptions tls = TRY(read_tls_options(type, std::move(options)));
  graph.add_tls_credentials(std::move(id), TRY(TlsCredentials::load(tls)));
  return {};
}

}  // namespace atl::img
