// Options about the process: daemon, pid file, sandbox, descriptors, help.
#include <fcntl.h>
#include <pwd.h>

#include <array>

#include <fmt/format.h>

#include "base/log.h"
#include "base/strings.h"
#include "control/cmdline/json_values.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/help.h"

namespace atl::control {

Status option_pidfile(Builder& b, const OptionUse& use) {
  b.program().pidfile = use.value;
  return {};
}

/// A name of the system's, or numbers: "nobody", "1000:1000".
Status option_run_as(Builder& b, const OptionUse& use) {
  const size_t colon = use.value.find(':');
  if (colon != std::string::npos) {
    const auto user = parse_u64(use.value.substr(0, colon)), group = parse_u64(use.value.substr(colon + 1));
    if (!user || !group || *user > 0xfffffffe || *group > 0xfffffffe) return invalid_option("User \"" + use.value + "\" doesn't exist");
    b.program().run_as = {static_cast<u32>(*user), static_cast<u32>(*group)};
    return {};
  }
  const passwd* entry = ::getpwnam(use.value.c_str());
  if (!entry) return invalid_option(fmt::format("User \"{}\" doesn't exist", use.value));
  b.program().run_as = {entry->pw_uid, entry->pw_gid};
  return {};
}

Status option_chroot(Builder& b, const OptionUse& use) {
  b.program().chroot = use.value;
  return {};
}

Status option_daemonize(Builder& b, const OptionUse&) {
  b.program().daemonize = true;
  return {};
}

Status option_sandbox(Builder& b, const OptionUse& use) {
  static constexpr std::array<std::string_view, 3> kChoices = {"allow", "deny", "children"};
  const std::span<const std::string_view> allow_deny(kChoices.data(), 2);
  KeyValues values = TRY(KeyValues::parse(use.value, "enable"));
  SandboxConfig& sandbox = b.program().sandbox;
  sandbox.enabled = TRY(values.take_bool("enable", false));
  sandbox.allow_obsolete = TRY(values.take_choice("obsolete", allow_deny, 1)) == 0;
  sandbox.elevation = static_cast<SandboxConfig::Elevation>(TRY(values.take_choice("elevateprivileges", kChoices, 0)));
  sandbox.allow_spawn = TRY(values.take_choice("spawn", allow_deny, 0)) == 0;
  sandbox.allow_resource_control = TRY(values.take_choice("resourcecontrol", allow_deny, 0)) == 0;
  return values.expect_empty();
}

Status option_msg(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value));
  b.program().log_timestamps = TRY(values.take_bool("timestamp", b.program().log_timestamps));
  b.program().log_guest_name = TRY(values.take_bool("guest-name", b.program().log_guest_name));
  return values.expect_empty();
}

Status option_add_fd(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value));
  int fd = static_cast<int>(TRY(values.take_u64("fd", ~u64{0} >> 40, 1 << 24)));
  if (!values.has("set")) return invalid_option("set ID is required and must be non-negative");
  u64 set = TRY(values.take_u64("set", 0, 1 << 30));
  values.take("opaque");  // a remark for whoever lists the sets
  TRY(values.expect_empty());
  if (fd <= 2 || ::fcntl(fd, F_GETFD) < 0) return invalid_option("fd is not valid: an open descriptor above 2 is expected");
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  b.program().fd_sets.emplace(set, fd);
  return {};
}

/// Nothing of what the translator of QEMU logs is there; items are refused, so that nobody waits for them.
Status option_log_items(Builder& b, const OptionUse& use) {
  if (use.value == "help" || use.value == "?") {
    b.line.text = "Log items (comma separated):\nnone            remove all logs\n";
    return {};
  }
  if (use.value == "none") return {};
  return invalid_option(fmt::format("log item '{}' is not available; -d help lists those that are", use.value));
}

/// Only chosen items (-d) are written there.
Status option_log_file(Builder&, const OptionUse&) { return {}; }

Status option_trace(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "enable"));
  if (values.asks_help()) {
    b.line.text = "";  // there are none
    return {};
  }
  const std::string pattern = values.take("enable").value_or("");
  if (auto path = values.take("events")) TRY(read_file(*path, kMiB));
  values.take("file");
  if (!pattern.empty()) log_warning("trace event '{}' does not exist", pattern);
  return values.expect_empty();
}

Status option_compat(Builder&, const OptionUse& use) {
  KeyValues values = TRY(parse_option_value(use.value, ""));
  for (const char* key : {"deprecated-input", "deprecated-output", "unstable-input", "unstable-output"}) {
    const auto policy = values.take(key);
    if (policy && *policy != "accept") return invalid_option(fmt::format("'{}={}' is not supported: 'accept' is", key, *policy));
  }
  return values.expect_empty();
}

Status option_audio(Builder&, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "driver"));
  if (values.get("driver") == "none" && !values.has("model")) return {};
  return invalid_option("there is no sound; 'none' is accepted");
}

Status option_version(Builder& b, const OptionUse&) {
  b.line.text = version_line();
  return {};
}

Status option_help(Builder& b, const OptionUse&) {
  b.line.text = option_table_help();
  return {};
}

Status option_nothing(Builder&, const OptionUse&) { return {}; }

}  // namespace atl::control
