// What the machine starts from, what it is called, its clock, and what becomes of it at the end.
#include <algorithm>
#include <array>
#include <ctime>

#include <fmt/format.h>

#include "base/strings.h"
#include "control/cmdline/handlers.h"

namespace atl::control {

Status option_kernel(Builder& b, const OptionUse& use) {
  b.config().boot.kernel = use.value;
  return {};
}

Status option_initrd(Builder& b, const OptionUse& use) {
  b.config().boot.initrd = use.value;
  return {};
}

Status option_append(Builder& b, const OptionUse& use) {
  b.config().boot.append = use.value;
  return {};
}

Status option_bios(Builder& b, const OptionUse& use) {
  b.config().boot.firmware = use.value;
  return {};
}

Status option_firmware_dir(Builder& b, const OptionUse& use) {
  b.firmware_dirs.push_back(use.value);
  return {};
}

/// Names of 55 characters at most fit into the directory that guests read.
Status option_fw_cfg(Builder& b, const OptionUse& use) {
  constexpr size_t kMaxName = 55;
  KeyValues values = TRY(KeyValues::parse(use.value, "name"));
  machine::FirmwareFile file{.name = TRY(values.take_required("name")), .path = values.take("file").value_or(""), .text = {}};
  const auto text = values.take("string");
  if (file.path.empty() == !text.has_value()) return invalid_option("one of 'file' and 'string' is expected");
  if (file.name.empty() || file.name.size() > kMaxName) return invalid_option(fmt::format("name too long (max. {} char)", kMaxName));
  file.text = text.value_or("");
  for (const auto& other : b.config().boot.files)
    if (other.name == file.name) return invalid_option(fmt::format("duplicate fw_cfg file name: {}", file.name));
  b.config().boot.files.push_back(std::move(file));
  return values.expect_empty();
}

Status option_option_rom(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "romfile"));
  b.config().boot.option_roms.push_back(TRY(values.take_required("romfile")));
  return values.expect_empty();
}

namespace {

Status check_boot_order(std::string_view order) {
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] < 'a' || order[i] > 'p') return invalid_option(fmt::format("Invalid boot device '{}'", order[i]));
    if (order.find(order[i]) != i) return invalid_option(fmt::format("Boot device '{}' was given twice", order[i]));
  }
  return {};
}

Result<u32> read_reboot_timeout(const std::string& text) {
  const auto ms = parse_i64(text);
  if (!ms || *ms < -1 || *ms > 0xffff) return invalid_option(fmt::format("reboot-timeout is invalid, it should be in range [-1, 65535], not '{}'", text));
  return static_cast<u32>(*ms);
}

}  // namespace

Status option_boot(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "order"));
  auto& boot = b.config().boot;
  boot.order = values.take("order").value_or(boot.order);
  TRY(check_boot_order(boot.order));
  boot.once = values.take("once").value_or(boot.once);
  TRY(check_boot_order(boot.once));
  if (values.has("splash")) return invalid_option("'splash': a picture at start-up is not supported");
  // QEMU's names: the splash time is how long SeaBIOS waits for the menu's key.
  if (values.has("splash-time")) boot.menu_wait_ms = TRY(values.take_u64("splash-time", 0, 0xffff));
  if (values.has("reboot-timeout")) boot.fail_wait_ms = TRY(read_reboot_timeout(*values.take("reboot-timeout")));
  boot.strict = TRY(values.take_bool("strict", boot.strict));
  boot.menu = TRY(values.take_bool("menu", boot.menu));
  return values.expect_empty();
}

Status option_name(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "guest"));
  b.config().name = values.take("guest").value_or(b.config().name);
  b.program().process_name = values.take("process").value_or(b.program().process_name);
  // The threads have names in any case; "off" would only take them away.
  TRY(values.take_bool("debug-threads", true));
  return values.expect_empty();
}

Status option_uuid(Builder& b, const OptionUse& use) {
  constexpr std::string_view kForm = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  auto fits = [](char form, char c) {
    return form == '-' ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  if (use.value.size() != kForm.size() || !std::equal(kForm.begin(), kForm.end(), use.value.begin(), fits))
    return invalid_option("failed to parse UUID string: wrong format");
  b.config().uuid = use.value;
  for (char& c : b.config().uuid) c = c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c;
  return {};
}

namespace {

/// "2006-06-17T16:01:21" or "2006-06-17", UTC.
Result<i64> parse_date(const std::string& text) {
  for (const char* form : {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"}) {
    tm fields{};
    const char* end = ::strptime(text.c_str(), form, &fields);
    if (end && *end == 0) return static_cast<i64>(::timegm(&fields));
  }
  return invalid_option(fmt::format("invalid datetime format '{}': '2006-06-17T16:01:21' or '2006-06-17' is expected", text));
}

}  // namespace

Status option_rtc(Builder& b, const OptionUse& use) {
  using Base = machine::RtcConfig::Base;
  KeyValues values = TRY(KeyValues::parse(use.value));
  auto& rtc = b.config().rtc;
  std::string base = values.take("base").value_or("utc");
  rtc.base = base == "utc" ? Base::Utc : base == "localtime" ? Base::LocalTime : Base::Fixed;
  if (rtc.base == Base::Fixed) rtc.fixed_seconds = TRY(parse_date(base));
  std::string clock = values.take("clock").value_or("host");
  if (clock != "host" && clock != "vm") return invalid_option(fmt::format("invalid option value '{}' for 'clock'", clock));
  rtc.follow_host = clock == "host";
  std::string drift_fix = values.take("driftfix").value_or("none");
  if (drift_fix != "none" && drift_fix != "slew") return invalid_option(fmt::format("invalid option value '{}' for 'driftfix'", drift_fix));
  rtc.drift_fix = drift_fix == "slew";
  return values.expect_empty();
}

Status option_no_reboot(Builder& b, const OptionUse&) {
  b.config().no_reboot = true;
  return {};
}

Status option_no_shutdown(Builder& b, const OptionUse&) {
  b.config().no_shutdown = true;
  return {};
}

Result<machine::PanicAction> panic_action(std::string_view name) {
  constexpr std::string_view kNames[] = {"pause", "shutdown", "exit-failure", "none"};
  const auto at = std::ranges::find(kNames, name);
  if (at == std::end(kNames)) return invalid_option(fmt::format("Parameter 'panic' does not accept value '{}'", name));
  return static_cast<machine::PanicAction>(at - std::begin(kNames));
}

Result<machine::WatchdogAction> watchdog_action(std::string_view name) {
  constexpr std::string_view kNames[] = {"reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"};
  const auto at = std::ranges::find(kNames, name);
  if (at == std::end(kNames)) return invalid_option(fmt::format("Parameter 'watchdog' does not accept value '{}'", name));
  return static_cast<machine::WatchdogAction>(at - std::begin(kNames));
}

Status option_action(Builder& b, const OptionUse& use) {
  constexpr std::array<std::string_view, 2> kReboot = {"reset", "shutdown"}, kShutdown = {"poweroff", "pause"};
  KeyValues values = TRY(KeyValues::parse(use.value));
  auto choose = [&](const char* key, const auto& choices, bool& target) -> Status {
    if (!values.has(key)) return {};
    std::string value = *values.take(key);
    if (value != choices[0] && value != choices[1])
      return invalid_option(fmt::format("Parameter '{}' does not accept value '{}'", key, value));
    target = value == choices[1];
    return {};
  };
  TRY(choose("reboot", kReboot, b.config().no_reboot));
  TRY(choose("shutdown", kShutdown, b.config().no_shutdown));
  if (values.has("panic")) b.config().panic_action = TRY(panic_action(*values.take("panic")));
  if (values.has("watchdog")) b.config().watchdog_action = TRY(watchdog_action(*values.take("watchdog")));
  return values.expect_empty();
}

Status option_watchdog_action(Builder& b, const OptionUse& use) {
  b.config().watchdog_action = TRY(watchdog_action(use.value));
  return {};
}

Status option_start_paused(Builder& b, const OptionUse&) {
  b.config().start_paused = true;
  return {};
}

}  // namespace atl::control
