// Graphic card and remote screen: -vga, -vnc, -display.
#include <fmt/format.h>

#include "base/strings.h"
#include "control/cmdline/handlers.h"

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
    b.line.text = "none                 no graphic card (default without -vnc)\nstd                  standard VGA (default with -vnc)\n";
    return {};
  }
  if (use.value != "none" && use.value != "std")
    return invalid_option(fmt::format("there is no graphic card '{}'; 'none' and 'std' are accepted", use.value));
  b.vga = use.value == "std" ? machine::VgaKind::Std : machine::VgaKind::None;
  return {};
}

namespace {

constexpr u64 kFirstPort = 5900;

/// "host:display" or "unix:path".
Status read_address(std::string_view address, display::vnc::ServerOptions& vnc) {
  if (address.starts_with("unix:")) {
    vnc.unix_path = address.substr(5);
    return vnc.unix_path.empty() ? invalid_option("a path is expected behind unix:") : Status{};
  }
  const size_t colon = address.rfind(':');
  auto display = colon == address.npos ? std::nullopt : parse_u64(address.substr(colon + 1));
  if (!display || *display > 65535 - kFirstPort) return invalid_option(fmt::format("'{}' is not host:display", address));
  vnc.host = address.substr(0, colon);
  if (vnc.host.starts_with('[') && vnc.host.ends_with(']')) vnc.host = vnc.host.substr(1, vnc.host.size() - 2);
  vnc.port = fmt::format("{}", kFirstPort + *display);
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
  display::vnc::ServerOptions vnc;
  TRY(read_address(address, vnc));
  // Until a monitor sets it, nobody gets in.
  if (TRY(values.take_bool("password", false))) vnc.settings.password = "";
  TRY(values.expect_empty());
  b.program().vnc = std::move(vnc);
  return {};
}

}  // namespace atl::control
