// Character back ends: -chardev, and the compatibility strings of -serial, -monitor and -qmp.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/math.h"
#include "base/strings.h"
#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

constexpr u64 kMaxRingBytes = 16 * kMiB;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

/// A switch that QEMU has and we lack: "off" is the truth, "on" is refused.
Status refuse_if_on(KeyValues& values, std::string_view key) {
  if (TRY(values.take_bool(key, false))) return invalid(fmt::format("Parameter '{}' is not supported", key));
  return {};
}

Status read_socket(KeyValues& values, ChardevConfig& c) {
  c.path = values.take("path").value_or("");
  c.host = values.take("host").value_or("");
  c.port = values.take("port").value_or("");
  u64 fd = TRY(values.take_u64("fd", ~u64{0}));
  if (fd != ~u64{0}) c.fd = static_cast<int>(std::min<u64>(fd, 1 << 20));
  if (c.path.empty() && c.port.empty() && c.fd < 0) return invalid("chardev: socket: no address: path=, port= or fd= is missing");
  if (!c.path.empty() && !c.port.empty()) return invalid("chardev: socket: path= and port= exclude each other");
  c.server = TRY(values.take_bool("server", false));
  bool wait_given = values.has("wait");
  c.wait = TRY(values.take_bool("wait", c.server));
  if (wait_given && c.wait && !c.server) return invalid("'wait' option is incompatible with socket in client connect mode");
  if (!TRY(values.take_bool("delay", true))) c.nodelay = true;
  c.nodelay = TRY(values.take_bool("nodelay", c.nodelay));
  c.reconnect_seconds = static_cast<u32>(TRY(values.take_u64("reconnect", 0, 86400)));
  if (c.server && c.reconnect_seconds) return invalid("'reconnect' option is incompatible with socket in server listen mode");
  c.telnet = TRY(values.take_bool("telnet", false));
  if (c.telnet && !(c.server && c.is_tcp())) return invalid("'telnet' option needs a TCP socket in server listen mode");
  for (std::string_view key : {"tn3270", "websocket", "abstract"}) TRY(refuse_if_on(values, key));
  return {};
}

Status read_file(KeyValues& values, ChardevConfig& c) {
  c.path = TRY(values.take_required("path"));
  c.input_path = values.take("input-path").value_or("");
  c.append = TRY(values.take_bool("append", false));
  return {};
}

Status read_path(KeyValues& values, ChardevConfig& c) {
  c.path = TRY(values.take_required("path"));
  return {};
}

Status read_stdio(KeyValues& values, ChardevConfig& c) {
  c.signal = TRY(values.take_bool("signal", true));
  return {};
}

Status read_ring(KeyValues& values, ChardevConfig& c) {
  c.ring_bytes = TRY(values.take_size("size", c.ring_bytes));
  if (!is_power_of_two(c.ring_bytes) || c.ring_bytes > kMaxRingBytes)
    return invalid("size of ringbuf chardev must be a power of two, 16 MiB at most");
  return {};
}

Status read_nothing(KeyValues&, ChardevConfig&) { return {}; }

struct Driver {
  std::string_view name;
  ChardevKind kind;
  Status (*read)(KeyValues&, ChardevConfig&);
};
constexpr Driver kDrivers[] = {
    {"null", ChardevKind::Null, read_nothing}, {"stdio", ChardevKind::Stdio, read_stdio},
    {"socket", ChardevKind::Socket, read_socket}, {"file", ChardevKind::File, read_file},
    {"pty", ChardevKind::Pty, read_nothing}, {"serial", ChardevKind::Tty, read_path},
    {"tty", ChardevKind::Tty, read_path}, {"pipe", ChardevKind::Pipe, read_path},
    {"ringbuf", ChardevKind::Ringbuf, read_ring}, {"memory", ChardevKind::Ringbuf, read_ring},
};

const Driver* find_driver(std::string_view name) {
  auto at = std::find_if(std::begin(kDrivers), std::end(kDrivers), [&](const Driver& d) { return d.name == name; });
  return at == std::end(kDrivers) ? nullptr : at;
}

/// "host:port" with everything after the port left in `rest`; the host may be an IPv6 address in brackets.
Result<std::pair<std::string, std::string>> split_host_port(std::string_view address) {
  size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return invalid(fmt::format("'{}' is not host:port", address));
  std::string_view host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return std::pair(std::string(host), std::string(address.substr(colon + 1)));
}

/// Splits "unix:/x,server=on" into "/x" and the list behind the comma.
Result<KeyValues> list_after_address(std::string_view text, std::string& address) {
  size_t comma = std::min(text.find(','), text.size());
  address = text.substr(0, comma);
  return KeyValues::parse(comma == text.size() ? std::string_view() : text.substr(comma + 1));
}

Result<KeyValues> socket_values(std::string_view spec) {
  std::string address;
  bool is_unix = spec.starts_with("unix:"), is_telnet = spec.starts_with("telnet:");
  KeyValues values = TRY(list_after_address(spec.substr(spec.find(':') + 1), address));
  if (is_telnet) values.set("telnet", "on");
  if (is_unix) {
    values.set("path", address.starts_with("path=") ? address.substr(5) : address);
    return values;
  }
  auto [host, port] = TRY(split_host_port(address));
  values.set("host", host);
  values.set("port", port);
  return values;
}

/// The list that -chardev would have had, or an error that names the driver.
Result<KeyValues> values_of_compat(std::string_view spec) {
  KeyValues values;
  if (spec.starts_with("unix:") || spec.starts_with("tcp:") || spec.starts_with("telnet:")) {
    values = TRY(socket_values(spec));
    values.set("backend", "socket");
    return values;
  }
  for (auto [prefix, driver] : {std::pair<std::string_view, const char*>{"file:", "file"}, {"pipe:", "pipe"}}) {
    if (!spec.starts_with(prefix)) continue;
    values.set("path", std::string(spec.substr(prefix.size())));
    values.set("backend", driver);
    return values;
  }
  if (spec.starts_with("/dev/")) {
    values.set("path", std::string(spec));
    values.set("backend", "serial");
    return values;
  }
  values = TRY(KeyValues::parse(spec, "backend"));
  std::string driver = values.get("backend");
  constexpr std::string_view kBare[] = {"null", "stdio", "pty", "ringbuf"};
  if (std::find(std::begin(kBare), std::end(kBare), driver) == std::end(kBare))
    return invalid(fmt::format("'{}' is not a valid char driver", spec));
  return values;
}

}  // namespace

std::vector<std::string_view> chardev_backends() {
  std::vector<std::string_view> names;
  for (const Driver& driver : kDrivers) names.push_back(driver.name);
  return names;
}

Result<ChardevConfig> chardev_from_values(KeyValues values) {
  ChardevConfig c;
  std::string backend = values.take("backend").value_or("");
  auto id = values.take("id");
  if (!id) return invalid("chardev: no id specified");
  c.id = *id;
  if (backend.empty()) return invalid(fmt::format("chardev: \"{}\" missing backend", c.id));
  const Driver* driver = find_driver(backend);
  if (!driver) return invalid(fmt::format("'{}' is not a valid char driver name", backend));
  c.kind = driver->kind;
  c.mux = TRY(values.take_bool("mux", false));
  c.log_path = values.take("logfile").value_or("");
  c.log_append = TRY(values.take_bool("logappend", false));
  TRY(driver->read(values, c));
  TRY(values.expect_empty());
  return c;
}

Result<ChardevConfig> chardev_from_compat(std::string_view spec, const std::string& id) {
  bool mux = spec.starts_with("mon:");
  if (mux) spec.remove_prefix(4);
  KeyValues values = TRY(values_of_compat(spec));
  values.set("id", id);
  if (mux) values.set("mux", "on");
  // With the monitor on the terminal there is another way out, so Ctrl-C belongs to the guest.
  if (mux && spec == "stdio") values.set("signal", "off");
  return chardev_from_values(std::move(values));
}

}  // namespace atl::control
