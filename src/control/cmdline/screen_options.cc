// Graphic card and remote screen: -vga, -vnc, -display.
#include <algorithm>

#include <fmt/format.h>

#include "base/strings.h"
#include "base/tls.h"
#include "control/cmdline/handlers.h"
#include "display/vnc/keymap.h"

namespace atl::control {

Status option_display(Builder& b, const OptionUse& use) {
  if (use.value == "none") return {};
  if (use.value == "help") {
    b.line.text = "Available display backend types:\nnone\nvnc\n";
    return {};
  }
  if (use.value.starts_with("vnc=")) return option_vnc(b, {.name = use.name, .value = use.value.substr(4)});
  return invalid_option("windows are not available; 'none' and 'vnc=host:display' are accepted");
}

Status option_vga(Builder& b, const OptionUse& use) {
  if (use.value == "help") {
    b.line.text = "none                 no graphic card\nstd                  standard VGA (default)\n"
                  "virtio               Virtio VGA\n";
    return {};
  }
  if (use.value != "none" && use.value != "std" && use.value != "virtio")
    return invalid_option(fmt::format("there is no graphic card '{}'; 'none', 'std' and 'virtio' are accepted", use.value));
  using machine::VgaKind;
  b.vga = use.value == "std" ? VgaKind::Std : use.value == "virtio" ? VgaKind::Virtio : VgaKind::None;
  return {};
}

namespace {

using machine::VgaKind;

struct Adapter {
  std::string_view type;
  VgaKind kind;
};
constexpr Adapter kAdapters[] = {{"VGA", VgaKind::Std}, {"virtio-vga", VgaKind::Virtio}, {"bochs-display", VgaKind::Bochs}};

}  // namespace

/// -vga stands for a device in front of all others; a PC has a standard VGA if nothing else is said. Which one firmware starts with follows from the devices.
Status Builder::finish_screen() {
  const bool has_bus = is_pc(config().board);
  auto is_adapter = [](const DeviceRequest& d) { return std::ranges::find(kAdapters, d.device.type, &Adapter::type) != std::end(kAdapters); };
  const bool brought = no_defaults || std::ranges::any_of(devices, is_adapter);
  const VgaKind kind = vga.value_or(has_bus && !brought ? VgaKind::Std : VgaKind::None);
  if (kind != VgaKind::None && !has_bus) return invalid_option("-vga: this machine has no PCI bus for a graphic card");
  if (kind != VgaKind::None) {
    const std::string type = kind == VgaKind::Std ? "VGA" : "virtio-vga";
    TRY(append_device({"-vga", kind == VgaKind::Std ? "std" : "virtio"}, {.type = type, .id = "", .properties = {}}));
    config().vga = kind;
  }
  for (const DeviceRequest& d : devices)
    for (const Adapter& adapter : kAdapters)
      if (d.device.type == adapter.type && config().vga == VgaKind::None) config().vga = adapter.kind;
  return finish_vnc();
}

namespace {

using display::vnc::Listen;

constexpr u64 kFirstPort = 5900, kFirstWebsocketPort = 5700, kMaxPort = 65535;

std::string without_brackets(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return std::string(host);
}

/// "host:display" or "unix:path"; the port is a display's number and `first_port`.
Result<Listen> read_address(std::string_view address, u64 first_port) {
  Listen place;
  if (address.starts_with("unix:")) {
    place.unix_path = address.substr(5);
    if (place.unix_path.empty()) return invalid_option("a path is expected behind unix:");
    return place;
  }
  const size_t colon = address.rfind(':');
  auto display = colon == address.npos ? std::nullopt : parse_u64(address.substr(colon + 1));
  if (!display || *display > kMaxPort - first_port) return invalid_option(fmt::format("'{}' is not host:display", address));
  place.host = without_brackets(address.substr(0, colon));
  place.port = fmt::format("{}", first_port + *display);
  return place;
}

/// websocket=on (the display's place, other ports), a port, host:port, or unix:path.
Result<Listen> read_websocket(std::string_view value, const Listen& main) {
  Listen place = main;
  place.more_ports = 0;
  place.websocket = true;
  if (value == "on" || value == "yes") {
    if (!main.unix_path.empty()) return invalid_option("websocket=on needs a display number; give websocket=unix:path");
    place.port = fmt::format("{}", *parse_u64(main.port) - kFirstPort + kFirstWebsocketPort);
    return place;
  }
  if (value.starts_with("unix:")) {
    place = TRY(read_address(value, 0));
    place.websocket = true;
    return place;
  }
  const size_t colon = value.rfind(':');
  place.unix_path.clear();
  if (colon != value.npos) place.host = without_brackets(value.substr(0, colon));
  place.port = value.substr(colon == value.npos ? 0 : colon + 1);
  if (auto port = parse_u64(place.port); !port || *port > kMaxPort) return invalid_option(fmt::format("websocket={} is no port", value));
  return place;
}

/// reverse=on: a viewer listens at host:port, which is no display's number here, or at a Unix socket.
Status read_waiting_viewer(KeyValues& values, std::string_view address, VncConfig& vnc) {
  for (const char* key : {"to", "websocket"})
    if (values.has(key)) return invalid_option(fmt::format("'{}' and 'reverse=on' exclude each other", key));
  vnc.server.waiting_viewer = TRY(read_address(address, 0));
  return {};
}

Status read_places(KeyValues& values, std::string_view address, std::vector<Listen>& places) {
  Listen place = TRY(read_address(address, kFirstPort));
  const u64 to = TRY(values.take_u64("to", 0));
  const u64 display = place.unix_path.empty() ? *parse_u64(place.port) - kFirstPort : 0;
  if (to > display && to <= kMaxPort - kFirstPort) place.more_ports = static_cast<u32>(to - display);
  places.push_back(place);
  const std::string websocket = values.take("websocket").value_or("off");
  if (websocket != "off" && websocket != "no") places.push_back(TRY(read_websocket(websocket, place)));
  return {};
}

/// What QEMU has and this server has not, unless it is off.
Status refuse_the_missing(KeyValues& values) {
  for (const char* key : {"sasl", "acl"})
    if (TRY(values.take_bool(key, false))) return invalid_option(fmt::format("'{}' is not available", key));
  // Nothing is lossy by itself, so that both values are true.
  TRY(values.take_bool("non-adaptive", false));
  return {};
}

Status read_security(KeyValues& values, VncConfig& vnc) {
  // Until a monitor sets it, nobody gets in.
  if (TRY(values.take_bool("password", false))) vnc.server.settings.password = "";
  vnc.password_secret = values.take("password-secret").value_or("");
  vnc.tls_credentials = values.take("tls-creds").value_or("");
  if (!vnc.password_secret.empty()) vnc.server.settings.password = "";
  return {};
}

}  // namespace

Status option_vnc(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "vnc"));
  const std::string address = TRY(values.take_required("vnc"));
  if (address == "none") {
    b.program().vnc.reset();
    return {};
  }
  static constexpr std::string_view kPolicies[] = {"allow-exclusive", "force-shared", "ignore"};
  VncConfig vnc;
  if (TRY(values.take_bool("reverse", false))) TRY(read_waiting_viewer(values, address, vnc));
  else TRY(read_places(values, address, vnc.server.listen));
  TRY(read_security(values, vnc));
  TRY(refuse_the_missing(values));
  vnc.id = values.take("id").value_or(vnc.id);
  vnc.device = values.take("display").value_or("");
  vnc.server.share = static_cast<display::vnc::SharePolicy>(TRY(values.take_choice("share", kPolicies, 0)));
  vnc.server.max_viewers = static_cast<u32>(std::clamp<u64>(TRY(values.take_u64("connections", vnc.server.max_viewers)), 1, 1024));
  vnc.server.settings.lossy = TRY(values.take_bool("lossy", false));
  vnc.power_control = TRY(values.take_bool("power-control", false));
  b.vnc_audio = values.take("audiodev").value_or("");
  TRY(values.expect_empty());
  b.program().vnc = std::move(vnc);
  return {};
}

/// There is no sound, which is what the driver "none" makes.
Status option_audiodev(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, "driver"));
  const std::string driver = TRY(values.take_required("driver")), id = TRY(values.take_required("id"));
  if (driver != "none") return invalid_option(fmt::format("audio driver '{}' is not available; 'none' is", driver));
  for (const auto& entry : values.entries())
    if (!entry.key.starts_with("in.") && !entry.key.starts_with("out.") && entry.key != "timer-period")
      return invalid_option(fmt::format("Parameter '{}' is unexpected", entry.key));
  if (!b.audio_back_ends.insert(id).second) return invalid_option(fmt::format("Duplicate ID '{}' for audiodev", id));
  return {};
}

Status option_keyboard(Builder& b, const OptionUse& use) {
  b.program().keyboard_layout = use.value;
  return {};
}

Status Builder::finish_vnc() {
  if (!program().vnc) return {};
  VncConfig& vnc = *program().vnc;
  auto& settings = vnc.server.settings;
  if (!vnc_audio.empty() && !audio_back_ends.contains(vnc_audio)) return invalid_option(fmt::format("-vnc: Audiodev '{}' not found", vnc_audio));
  settings.name = config().name.empty() ? "Atoll" : fmt::format("Atoll ({})", config().name);
  if (!program().keyboard_layout.empty()) settings.keymap = TRY(display::vnc::KeyMap::load(program().keyboard_layout));
  if (!vnc.password_secret.empty()) {
    auto secret = std::ranges::find(config().secrets, vnc.password_secret, &machine::SecretConfig::id);
    if (secret == config().secrets.end()) return invalid_option(fmt::format("-vnc: No secret with id '{}'", vnc.password_secret));
    settings.password = secret->value;
  }
  if (vnc.tls_credentials.empty()) return {};
  auto credentials = program().tls_credentials.find(vnc.tls_credentials);
  if (credentials == program().tls_credentials.end())
    return invalid_option(fmt::format("-vnc: No TLS credentials with id '{}'", vnc.tls_credentials));
  const TlsOptions& options = credentials->second->options();
  if (!options.server || options.kind == TlsOptions::Psk)
    return invalid_option(fmt::format("-vnc: TLS credentials '{}' are not an X.509 or anonymous server's", vnc.tls_credentials));
  settings.tls = credentials->second;
  settings.anonymous_tls = options.kind == TlsOptions::Anonymous;
  return {};
}

}  // namespace atl::control
