// Monitor commands about the program around the machine: boot order, debugger, logs, announcements.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/hmp/command.h"

namespace atl::control {
namespace {

using Arguments = const HmpArguments&;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

/// Letters of drives, each once: a and b floppies, c to p disks and networks.
Status check_order(std::string_view order) {
  u32 seen = 0;
  for (char letter : order) {
    if (letter < 'a' || letter > 'p') return invalid(fmt::format("Invalid boot device '{}'", letter));
    const u32 bit = 1u << (letter - 'a');
    if (seen & bit) return invalid(fmt::format("Boot device '{}' was given twice", letter));
    seen |= bit;
  }
  if (order.empty()) return invalid("the letters of boot devices are expected");
  return {};
}

}  // namespace

Status hmp_boot_set(HmpContext& c, Arguments arguments) {
  TRY(check_order(arguments.text));
  TRY(c.vm.machine().set_boot_order(std::string(arguments.text)));
  c.output += fmt::format("boot device list now set to {}\n", arguments.text);
  return {};
}

Status hmp_debugger(HmpContext& c, Arguments arguments) {
  const std::string place(arguments.text.empty() ? "tcp::1234" : arguments.text);
  TRY(c.vm.start_debugger(place));
  c.output += place == "none" ? "Disabled gdbserver\n" : fmt::format("Waiting for gdb connection on device '{}'\n", place);
  return {};
}

/// Nothing is logged by items, so there is only one answer.
Status hmp_log(HmpContext& c, Arguments arguments) {
  if (arguments.text != "none") c.output += "Log items (comma separated):\nnone            remove all logs\n";
  return {};
}

Status hmp_log_file(HmpContext&, Arguments arguments) {
  if (arguments.text.empty()) return invalid("a file name is expected");
  return Error(ErrorKind::Unsupported, "there are no log items that would be written there");
}

/// announce_self [interfaces [id]]
Status hmp_announce(HmpContext& c, Arguments arguments) {
  Announcements::Plan plan;
  const size_t blank = std::min(arguments.text.find(' '), arguments.text.size());
  for (auto card : split(arguments.text.substr(0, blank), ','))
    if (!card.empty()) plan.cards.emplace_back(card);
  return c.vm.announcements().start(std::string(trim(arguments.text.substr(blank))), std::move(plan));
}

/// chardev-change id backend[,key=value...]
Status hmp_chardev_change(HmpContext& c, Arguments arguments) {
  const size_t blank = arguments.text.find(' ');
  if (blank == std::string_view::npos) return invalid("an id and a back end are expected");
  KeyValues values = TRY(KeyValues::parse(trim(arguments.text.substr(blank)), "backend"));
  values.set("id", std::string(arguments.text.substr(0, blank)));
  TRY(c.vm.change_chardev(std::move(values)));
  return {};
}

/// trace-event name on|off
Status hmp_trace_event(HmpContext& c, Arguments arguments) {
  const size_t blank = arguments.text.find(' ');
  const auto on = blank == std::string_view::npos ? std::nullopt : parse_bool(trim(arguments.text.substr(blank)));
  if (!on) return invalid("a name and on or off are expected");
  TRY(run_qmp(c, "trace-event-set-state", {{"name", arguments.text.substr(0, blank)}, {"enable", *on}}));
  return {};
}

Status hmp_nothing(HmpContext&, Arguments) { return {}; }

}  // namespace atl::control
