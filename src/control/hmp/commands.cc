// The commands of the human monitor.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/cmdline/help.h"
#include "control/cmdline/translate.h"
#include "control/hmp/command.h"
#include "machine/media.h"

namespace atl::control {
namespace {

using Arguments = const HmpArguments&;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

void print_help_line(std::string& out, std::string_view prefix, const HmpCommand& command) {
  out += fmt::format("{}{} {} -- {}\n", prefix, command.names, command.parameters, command.help);
}

Status help(HmpContext& c, Arguments arguments) {
  std::string_view name = arguments.text;
  if (name == "info") {
    for (const auto& command : hmp_info_commands()) print_help_line(c.output, "info ", command);
    return {};
  }
  if (const auto* command = find_hmp_command(name)) {
    print_help_line(c.output, "", *command);
    return {};
  }
  if (!name.empty()) return invalid(fmt::format("unknown command: '{}'", name));
  for (const HmpCommand* command : all_hmp_commands()) print_help_line(c.output, "", *command);
  return {};
}

Status info(HmpContext& c, Arguments arguments) {
  std::string_view text = arguments.text;
  if (text.empty()) return help(c, {.format = "", .text = "info"});
  size_t space = std::min(text.find(' '), text.size());
  const auto* command = find_hmp_command(hmp_info_commands(), text.substr(0, space));
  if (!command) {
    c.output += fmt::format("unknown command: 'info {}'\n", text.substr(0, space));
    return {};
  }
  HmpArguments rest{.format = "", .text = trim(text.substr(space))};
  if (command->parameters.empty()) TRY(expect_no_arguments(rest));
  return command->run(c, rest);
}

Status quit(HmpContext& c, Arguments) {
  c.vm.quit("host-qmp-quit");
  return {};
}

Status select_cpu(HmpContext& c, Arguments arguments) {
  auto index = parse_u64(arguments.text);
  if (!index || *index >= c.vm.machine().cpus().size()) return invalid("invalid CPU index");
  c.cpu = static_cast<u32>(*index);
  return {};
}

Status stop(HmpContext& c, Arguments) { return c.vm.machine().pause(); }
Status resume(HmpContext& c, Arguments) { return c.vm.resume(); }
Status system_reset(HmpContext& c, Arguments) { return c.vm.machine().reset(); }
Status system_powerdown(HmpContext& c, Arguments) { return c.vm.machine().powerdown(); }
Status system_wakeup(HmpContext& c, Arguments) { return c.vm.machine().wake_up(); }
Status nmi(HmpContext& c, Arguments) { return c.vm.machine().inject_nmi(); }

/// A list of values, which may stand in quotes as a whole.
Result<KeyValues> list_of(Arguments arguments, std::string_view implied_key) {
  std::string_view text = arguments.text;
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return KeyValues::parse(text, implied_key);
}

Status device_add(HmpContext& c, Arguments arguments) {
  KeyValues values = TRY(list_of(arguments, "driver"));
  if (values.asks_help()) {
    c.output += TRY(device_help(values.get("driver")));
    return {};
  }
  return c.vm.add_device(std::move(values));
}

Status device_del(HmpContext& c, Arguments arguments) { return c.vm.machine().remove_device(std::string(arguments.text)); }

Status chardev_add(HmpContext& c, Arguments arguments) {
  KeyValues values = TRY(list_of(arguments, "backend"));
  TRY(c.vm.add_chardev(std::move(values)));
  return {};
}

Status netdev_add(HmpContext& c, Arguments arguments) {
  KeyValues values = TRY(list_of(arguments, "type"));
  return c.vm.add_network(std::move(values));
}

Status netdev_del(HmpContext& c, Arguments arguments) { return c.vm.remove_network(std::string(arguments.text)); }

/// set_link NAME on|off
Status set_link(HmpContext& c, Arguments arguments) {
  const size_t space = arguments.text.find_last_of(' ');
  if (space == std::string_view::npos) return invalid("set_link: a name and on or off are expected");
  const auto up = parse_bool(trim(arguments.text.substr(space + 1)));
  if (!up) return invalid("Expected 'on' or 'off'");
  return c.vm.machine().set_link(std::string(trim(arguments.text.substr(0, space))), *up);
}

Status object_add(HmpContext& c, Arguments arguments) {
  KeyValues values = TRY(list_of(arguments, "qom-type"));
  return c.vm.add_object(std::move(values));
}

Status object_del(HmpContext& c, Arguments arguments) { return c.vm.remove_object(std::string(arguments.text)); }

Status balloon(HmpContext& c, Arguments arguments) {
  auto megabytes = parse_u64(arguments.text);
  if (!megabytes || *megabytes == 0 || *megabytes > (u64{1} << 40)) return invalid("a number of megabytes is expected");
  return c.vm.machine().set_balloon(*megabytes * kMiB);
}

Status eject(HmpContext& c, Arguments arguments) {
  std::string_view name = arguments.text;
  const bool force = name.starts_with("-f ");
  if (force) name = trim(name.substr(3));
  return c.vm.machine().media().eject(std::string(name), force);
}

/// change DEVICE FILE [FORMAT], change vnc password PASSWORD
Status change(HmpContext& c, Arguments arguments) {
  std::vector<std::string> words;
  for (std::string_view word : split(arguments.text, ' '))
    if (!word.empty()) words.emplace_back(word);
  if (!words.empty() && words[0] == "vnc") return hmp_change_vnc(c, words);
  const bool force = words.size() > 1 && words[1] == "-f";
  if (force) words.erase(words.begin() + 1);
  if (words.size() < 2 || words.size() > 3) return invalid("change device filename [format]");
  KeyValues values;
  values.set("file", words[1]);
  values.set("media", "cdrom");
  if (words.size() == 3) values.set("format", words[2]);
  auto medium = TRY(drive_from_option(std::move(values), c.vm.fd_sets()));
  return c.vm.machine().media().change_medium(words[0], medium, force);
}

/// [netdev] rule
Status change_forward(HmpContext& c, const HmpArguments& arguments, bool add) {
  const size_t space = arguments.text.find(' ');
  const std::string id = space == std::string::npos ? "" : std::string(arguments.text.substr(0, space));
  const std::string rule(arguments.text.substr(space == std::string::npos ? 0 : space + 1));
  const auto forward = TRY(add ? forward_from_text(rule) : forwarded_port_from_text(rule));
  return c.vm.machine().change_forward(id, forward, add);
}

Status hostfwd_add(HmpContext& c, Arguments arguments) { return change_forward(c, arguments, true); }
Status hostfwd_remove(HmpContext& c, Arguments arguments) { return change_forward(c, arguments, false); }

constexpr HmpCommand kCommands[] = {
    {"announce_self", "[interfaces] [id]", "let network cards tell where they are", hmp_announce},
    {"balloon", "target", "request VM to change its memory allocation (in MB)", balloon},
    {"boot_set", "bootdevice", "define new values for the boot device list", hmp_boot_set},
    {"change", "device [-f] filename [format]", "change a removable medium", change},
    {"chardev-add", "backend,id=str[,prop=value][,...]", "open a character device", chardev_add},
    {"chardev-change", "id backend[,prop=value][,...]", "put another character device in the place of one", hmp_chardev_change},
    {"commit", "device|all", "commit what a disk's image holds into its backing file", hmp_commit},
    {"cont|c", "", "resume emulation", resume},
    {"cpu", "index", "set the default CPU", select_cpu},
    {"device_add", "driver[,prop=value][,...]", "add device, like -device on the command line", device_add},
    {"device_del", "device", "remove device", device_del},
    {"drive_add", "[-n] slot options", "add a drive that no device uses yet; -n: a node", hmp_drive_add},
    {"drive_del", "device", "remove a drive", hmp_drive_del},
    {"dump-guest-memory", "[-p] [-d] filename [begin length]", "save guest memory and registers as an ELF core file", hmp_dump_guest_memory},
    {"eject", "[-f] device", "eject a removable medium (use -f to force it)", eject},
    {"expire_password", "vnc now|never|+seconds|seconds", "set when the password ends", hmp_expire_password},
    {"gdbserver", "[device]", "start gdbserver on given device (default 'tcp::1234'), stop with 'none'", hmp_debugger},
    {"gpa2hva", "addr", "print the host virtual address of a guest physical address", hmp_physical_to_host},
    {"gva2gpa", "addr", "print the guest physical address of a guest virtual address", hmp_linear_to_physical},
    {"help|?", "[cmd]", "show the help", help},
    {"hostfwd_add", "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport", "redirect TCP or UDP connections from host to guest", hostfwd_add},
    {"hostfwd_remove", "[netdev_id] [tcp|udp]:[hostaddr]:hostport", "remove host-to-guest TCP or UDP redirection", hostfwd_remove},
    {"i", "/fmt addr [index]", "I/O port read", hmp_port_read},
    {"info", "[subcommand]", "show various information about the system state", info},
    {"log", "item1[,...]", "activate logging of the specified items", hmp_log},
    {"logfile", "filename", "output logs to 'filename'", hmp_log_file},
    {"mouse_button", "state", "change mouse button state (1=L, 2=M, 4=R)", hmp_mouse_button},
    {"mouse_move", "dx dy [dz]", "send mouse move events", hmp_mouse_move},
    {"mouse_set", "index", "set which mouse device receives events", hmp_mouse_set},
    {"nbd_server_start", "[-a] [-w] host:port", "start the NBD server; -a: export all disks, -w: for writing too", hmp_nbd_server_start},
    {"netdev_add", "[user|tap|socket|stream|dgram|hubport],id=str[,prop=value][,...]", "add host network device", netdev_add},
    {"netdev_del", "id", "remove host network device", netdev_del},
    {"nmi", "", "inject an NMI", nmi},
    {"o", "/fmt addr value", "I/O port write", hmp_port_write},
    {"object_add", "type,id=str[,prop=value][,...]", "create a random source", object_add},
    {"object_del", "id", "destroy an object", object_del},
    {"print|p", "/fmt expr", "print expression value (use $reg for CPU register access)", hmp_print},
    {"qemu-io", "[-d] [device] \"[command]\"", "run a qemu-io command on a block device", hmp_qemu_io},
    {"qom-get", "path property", "print a property of an object", hmp_qom_get},
    {"qom-list", "[path]", "list an object's properties and children", hmp_qom_list},
    {"qom-set", "path property value", "change a property of an object", hmp_qom_set},
    {"quit|q", "", "quit the emulator", quit},
    {"ringbuf_read", "device size", "print what a ring buffer holds", hmp_ringbuf_read},
    {"screendump", "filename [-f format]", "save the screen into a PPM or PNG file", hmp_screendump},
    {"sendkey", "keys [hold_ms]", "send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold time=100 ms)", hmp_sendkey},
    {"set_link", "name on|off", "change the link status of a network adapter", set_link},
    {"set_password", "vnc password", "set the password of new viewers", hmp_set_password},
    {"stop|s", "", "stop emulation", stop},
    {"sum", "addr size", "the checksum of a stretch of memory", hmp_sum},
    {"system_powerdown", "", "send system power down event", system_powerdown},
    {"system_reset", "", "reset the system", system_reset},
    {"system_wakeup", "", "wakeup guest from suspend", system_wakeup},
    {"trace-event", "name on|off", "changes status of a specific trace event", hmp_trace_event},
    {"x", "/fmt addr", "virtual memory dump starting at 'addr'", hmp_dump_linear},
    {"xp", "/fmt addr", "physical memory dump starting at 'addr'", hmp_dump_physical},
};

}  // namespace

std::span<const HmpCommand> hmp_commands() { return kCommands; }

}  // namespace atl::control
