#include "manage/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <variant>

#include "base/fd.h"
#include "base/strings.h"

namespace atl::manage {

namespace {

using Strings = std::vector<std::string>;
using Value = std::variant<u64, std::string, Strings>;

/// Where a key's value goes.
using Place = std::variant<bool Config::*, std::string Config::*, Strings Config::*, unsigned rpc::Limits::*>;

struct Key {
  std::string_view name;
  Place place;
};

const Key kKeys[] = {
    {"unix_sock_dir", &Config::socket_dir},
    {"unix_sock_group", &Config::socket_group},
    {"unix_sock_rw_perms", &Config::rw_perms},
    {"unix_sock_ro_perms", &Config::ro_perms},
    {"auth_unix_rw", &Config::auth_rw},
    {"auth_unix_ro", &Config::auth_ro},
    {"libvirt_sockets", &Config::libvirt_sockets},
    {"listen_tcp", &Config::listen_tcp},
    {"listen_tls", &Config::listen_tls},
    {"listen_addr", &Config::listen_addr},
    {"tcp_port", &Config::tcp_port},
    {"tls_port", &Config::tls_port},
    {"auth_tcp", &Config::auth_tcp},
    {"auth_tls", &Config::auth_tls},
    {"tls_dir", &Config::tls_dir},
    {"tls_priority", &Config::tls_priority},
    {"tls_verify_client", &Config::tls_verify_client},
    {"tls_allowed_dn_list", &Config::tls_names},
    {"tls_handshake_timeout", &rpc::Limits::handshake_timeout_s},
    {"sasl_allowed_username_list", &Config::sasl_users},
    {"max_clients", &rpc::Limits::max_clients},
    {"max_anonymous_clients", &rpc::Limits::max_anonymous_clients},
    {"max_client_requests", &rpc::Limits::max_client_requests},
    {"max_workers", &rpc::Limits::workers},
    {"prio_workers", &rpc::Limits::quick_workers},
    {"keepalive_interval", &rpc::Limits::keepalive_interval_s},
    {"keepalive_count", &rpc::Limits::keepalive_count},
    {"log_file", &Config::log_file},
};

/// Reads one value off the front of `text`; nothing if it is malformed.
std::optional<std::string> take_string(std::string_view& text) {
  if (!text.starts_with('"')) return {};
  size_t end = text.find('"', 1);
  if (end == text.npos) return {};
  std::string value(text.substr(1, end - 1));
  text = trim(text.substr(end + 1));
  return value;
}

std::optional<Value> take_list(std::string_view& text) {
  Strings list;
  text = trim(text.substr(1));
  while (!text.starts_with(']')) {
    auto item = take_string(text);
    if (!item) return {};
    list.push_back(*item);
    if (text.starts_with(','))
      text = trim(text.substr(1));
    else if (!text.starts_with(']'))
      return {};
  }
  text = trim(text.substr(1));
  return list;
}

std::optional<Value> take_value(std::string_view& text) {
  if (text.starts_with('[')) return take_list(text);
  if (text.starts_with('"')) {
    auto value = take_string(text);
    return value ? std::optional<Value>(*value) : std::nullopt;
  }
  size_t end = std::min(text.find_first_of(" \t#"), text.size());
  auto number = parse_u64(text.substr(0, end));
  text = trim(text.substr(end));
  return number ? std::optional<Value>(*number) : std::nullopt;
}

/// False if the value is of the wrong kind.
bool store(const Value& value, const Place& place, Config& config) {
  const u64* number = std::get_if<u64>(&value);
  if (auto* flag = std::get_if<bool Config::*>(&place))
    return number && *number <= 1 && (config.**flag = *number != 0, true);
  if (auto* limit = std::get_if<unsigned rpc::Limits::*>(&place))
    return number && *number <= 1'000'000 && (config.limits.**limit = static_cast<unsigned>(*number), true);
  if (auto* text = std::get_if<std::string Config::*>(&place)) {
    if (!std::holds_alternative<std::string>(value)) return false;
    config.** text = std::get<std::string>(value);
    return true;
  }
  if (!std::holds_alternative<Strings>(value)) return false;
  config.*std::get<Strings Config::*>(place) = std::get<Strings>(value);
  return true;
}

Status parse_line(std::string_view line, Config& config) {
  size_t equals = line.find('=');
  if (equals == line.npos) return config_unsupported("expected \"key = value\"");
  std::string_view name = trim(line.substr(0, equals)), rest = trim(line.substr(equals + 1));
  auto key = std::ranges::find(kKeys, name, &Key::name);
  if (key == std::end(kKeys)) return config_unsupported(fmt::format("unknown key '{}'", name));
  auto value = take_value(rest);
  if (!value || (!rest.empty() && !rest.starts_with('#')))
    return config_unsupported(fmt::format("malformed value of '{}'", name));
  if (!store(*value, key->place, config))
    return config_unsupported(fmt::format("'{}' takes another kind of value", name));
  return {};
}

Status check_auth(std::string_view key, const std::string& value) {
  if (value == "none" || value == "sasl") return {};
  if (value == "polkit")
    return config_unsupported(fmt::format("{} = \"polkit\": there is no polkit here; let unix_sock_group decide", key));
  return config_unsupported(fmt::format("{} = \"{}\": expected \"none\" or \"sasl\"", key, value));
}

}  // namespace

Paths Paths::below(const std::string& root) { return {root + "/etc", root + "/lib", root + "/run", root + "/log", ""}; }

Status parse_config(std::string_view text, std::string_view source, Config& config) {
  u32 number = 0;
  for (std::string_view line : split(text, '\n')) {
    ++number;
    line = trim(line);
    if (line.empty() || line.starts_with('#')) continue;
    if (Status status = parse_line(line, config); !status)
      return Error(status.error()).with_context(fmt::format("{}:{}", source, number));
  }
  TRY(check_auth("auth_unix_rw", config.auth_rw));
  TRY(check_auth("auth_unix_ro", config.auth_ro));
  TRY(check_auth("auth_tcp", config.auth_tcp));
  TRY(check_auth("auth_tls", config.auth_tls));
  if (config.limits.max_client_requests == 0 || config.limits.workers == 0 || config.limits.quick_workers == 0)
    return config_unsupported("max_client_requests, max_workers and prio_workers must not be 0");
  if (config.limits.handshake_timeout_s == 0 || config.limits.handshake_timeout_s > 3600)
    return config_unsupported("tls_handshake_timeout must be from 1 to 3600 seconds");
  if (!config.tls_names.empty() && !config.tls_verify_client)
    return config_unsupported("tls_allowed_dn_list needs tls_verify_client = 1");
  return {};
}

Status read_config(const std::string& path, bool required, Config& config) {
  auto text = read_file(path, kMiB);
  if (!text && !required && text.error().os_errno() == ENOENT) return {};
  if (!text) return std::move(text).error();
  return parse_config(*text, path, config);
}

}  // namespace atl::manage
