#include "block/nbd/uri.h"

#include <fmt/format.h>

#include "base/strings.h"

namespace atl::block::nbd {
namespace {

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

Result<std::string> decode_percent(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    auto value = i + 2 < text.size() ? parse_hex(text.substr(i + 1, 2)) : std::nullopt;
    if (!value || *value == 0) return invalid(fmt::format("Invalid escape in '{}'", text));
    out += static_cast<char>(*value);
    i += 2;
  }
  return out;
}

std::string encode_percent(std::string_view text) {
  std::string out;
  for (char c : text) {
    bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                 std::string_view("-._~/:").find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<u8>(c));
  }
  return out;
}

/// "host:port", "[::1]:port" or "host".
void put_host(Json& options, std::string_view text) {
  std::string_view host = text, port;
  size_t bracket = text.starts_with('[') ? text.find(']') : text.npos;
  size_t colon = text.find(':', bracket == text.npos ? 0 : bracket);
  if (colon != text.npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  if (bracket != text.npos) host = text.substr(1, bracket - 1);
  options["server.type"] = "inet";
  options["server.host"] = host.empty() ? "localhost" : std::string(host);
  options["server.port"] = port.empty() ? std::to_string(kDefaultPort) : std::string(port);
}

void put_path(Json& options, std::string_view path) {
  options["server.type"] = "unix";
  options["server.path"] = std::string(path);
}

/// What follows "?" in a URI.
Status put_query(Json& options, std::string_view query, bool over_unix) {
  while (!query.empty()) {
    size_t end = std::min(query.find_first_of("&;"), query.size());
    std::string_view part = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    size_t equals = part.find('=');
    std::string_view key = part.substr(0, equals);
    std::string value = TRY(decode_percent(equals == part.npos ? "" : part.substr(equals + 1)));
    if (key == "socket" && over_unix) put_path(options, value);
    else if (key == "tls-certificates") options["tls-certificates"] = value;
    else if (key == "tls-psk-file") options["tls-psk-file"] = value;
    else if (key == "tls-hostname") options["tls-hostname"] = value;
    else if (key == "tls-username") options["tls-username"] = value;
    else return invalid(fmt::format("unexpected parameter '{}' in an NBD URI", key));
  }
  return {};
}

Result<Json> parse_uri(std::string_view name) {
  Json options{{"driver", "nbd"}};
  size_t colon = name.find("://");
  std::string_view scheme = name.substr(0, colon), rest = name.substr(colon + 3);
  bool over_unix = scheme.ends_with("+unix");
  if (scheme.starts_with("nbds")) options["tls"] = "on";
  size_t question = std::min(rest.find('?'), rest.size());
  std::string_view query = question < rest.size() ? rest.substr(question + 1) : std::string_view();
  rest = rest.substr(0, question);
  size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  std::string_view path = rest.substr(slash);
  if (path.starts_with('/')) path.remove_prefix(1);
  if (size_t at = authority.rfind('@'); at != authority.npos) {
    options["tls-username"] = TRY(decode_percent(authority.substr(0, at)));
    authority.remove_prefix(at + 1);
  }
  if (!over_unix) put_host(options, authority);
  if (!path.empty()) options["export"] = TRY(decode_percent(path));
  TRY(put_query(options, query, over_unix));
  if (over_unix && !options.contains("server.path")) return invalid("an NBD URI of a Unix socket needs '?socket=PATH'");
  return options;
}

/// "unix:/path:exportname=x", "host:port:exportname=x": the export's name takes all that follows.
Result<Json> parse_old_name(std::string_view rest) {
  Json options{{"driver", "nbd"}};
  constexpr std::string_view kExport = ":exportname=";
  size_t at = rest.find(kExport);
  if (at != rest.npos) {
    options["export"] = std::string(rest.substr(at + kExport.size()));
    rest = rest.substr(0, at);
  }
  if (rest.starts_with("unix:")) {
    put_path(options, rest.substr(5));
    return options;
  }
  size_t bracket = rest.starts_with('[') ? rest.find(']') : 0;
  if (rest.empty() || bracket == rest.npos || rest.find(':', bracket) == rest.npos)
    return invalid(fmt::format("address '{}' has no port", rest));
  put_host(options, rest);
  return options;
}

}  // namespace

Result<Json> parse_nbd_name(std::string_view name) {
  if (name.find("://") < name.find('/')) return parse_uri(name);
  if (!name.starts_with("nbd:")) return invalid("File name string for new protocols must start with 'nbd:'");
  return parse_old_name(name.substr(4));
}

std::string nbd_uri(const Address& address, const std::string& export_name, bool tls) {
  std::string uri = tls ? "nbds" : "nbd";
  if (address.is_unix()) {
    uri += "+unix://";
    if (!export_name.empty()) uri += "/" + encode_percent(export_name);
    return uri + "?socket=" + address.path;
  }
  bool v6 = address.host.find(':') != std::string::npos;
  uri += "://" + (v6 ? "[" + address.host + "]" : address.host) + ":" + address.port;
  if (!export_name.empty()) uri += "/" + encode_percent(export_name);
  return uri;
}

}  // namespace atl::block::nbd
