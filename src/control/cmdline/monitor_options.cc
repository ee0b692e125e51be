// Character back ends and who uses them: serial ports, monitors, the terminal.
#include <array>

#include <fmt/format.h>

#include "base/strings.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/translate.h"

namespace atl::control {

Status option_chardev(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "backend"));
  if (values.asks_help()) {
    b.line.text = fmt::format("Available chardev backend types:\n  {}\n", fmt::join(chardev_backends(), "\n  "));
    return {};
  }
  return b.add_chardev(TRY(chardev_from_values(std::move(values))));
}

Status option_serial(Builder& b, const OptionUse& use) {
  b.default_serial = false;
  if (use.value.starts_with("mon:")) b.default_monitor = false;
  b.serials.push_back({use, use.value});
  return {};
}

Status option_parallel(Builder&, const OptionUse& use) {
  if (use.value == "none") return {};
  return invalid_option("there is no parallel port; 'none' is accepted");
}

Status option_debugcon(Builder& b, const OptionUse& use) {
  b.debugcon = PortRequest{use, use.value};
  return {};
}

std::string debugger_place(std::string_view spec) {
  std::string place(spec);
  if (spec.starts_with("tcp:")) place += ",server=on,wait=off,nodelay=on";
  if (spec.starts_with("unix:")) place += ",server=on,wait=off";
  return place;
}

Status option_gdb(Builder& b, const OptionUse& use) {
  b.gdb = PortRequest{use, debugger_place(use.value)};
  return {};
}

Status option_qtest(Builder& b, const OptionUse& use) {
  b.qtest = PortRequest{use, use.value};
  return {};
}

Status option_qtest_log(Builder& b, const OptionUse& use) {
  b.program().qtest_log = use.value == "none" ? "" : use.value;
  return {};
}

Status option_gdb_default(Builder& b, const OptionUse& use) {
  return option_gdb(b, {.name = use.name, .value = "tcp::1234"});
}

namespace {

Status add_monitor(Builder& b, const std::string& spec, MonitorConfig monitor) {
  b.default_monitor = false;
  if (spec == "none") return {};
  if (spec.starts_with("chardev:")) {
    monitor.chardev = spec.substr(8);
  } else {
    monitor.chardev = fmt::format("compat_monitor{}", b.compat_monitors++);
    TRY(b.add_compat_chardev(spec, monitor.chardev));
  }
  b.program().monitors.push_back(monitor);
  return {};
}

}  // namespace

Status option_monitor(Builder& b, const OptionUse& use) { return add_monitor(b, use.value, {}); }
Status option_qmp(Builder& b, const OptionUse& use) { return add_monitor(b, use.value, {.qmp = true}); }
Status option_qmp_pretty(Builder& b, const OptionUse& use) { return add_monitor(b, use.value, {.qmp = true, .pretty = true}); }

Status option_mon(Builder& b, const OptionUse& use) {
  constexpr std::array<std::string_view, 2> kModes = {"readline", "control"};
  KeyValues values = TRY(KeyValues::parse(use.value, "chardev"));
  MonitorConfig monitor;
  values.take("id");  // a name for the option itself, which nothing refers to
  monitor.chardev = TRY(values.take_required("chardev"));
  monitor.qmp = TRY(values.take_choice("mode", kModes, 0)) == 1;
  bool pretty_given = values.has("pretty");
  monitor.pretty = TRY(values.take_bool("pretty", false));
  if (pretty_given && !monitor.qmp) return invalid_option("'pretty' is not compatible with HMP monitors");
  TRY(values.expect_empty());
  b.default_monitor = false;
  b.program().monitors.push_back(monitor);
  return {};
}

Status option_nographic(Builder& b, const OptionUse&) {
  b.nographic = true;
  return {};
}

Status option_escape(Builder& b, const OptionUse& use) {
  auto code = parse_u64(use.value);
  if (!code || *code > 255) return invalid_option("a character code from 0 to 255 is expected");
  b.program().escape = static_cast<u8>(*code);
  return {};
}

Status option_no_defaults(Builder& b, const OptionUse&) {
  b.no_defaults = true;
  return {};
}

}  // namespace atl::control
