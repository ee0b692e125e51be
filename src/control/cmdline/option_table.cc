// Every option that is known, in the order of -help, and the loop that reads a command line by it.
#include <algorithm>

#include <fmt/format.h>

#include "control/cmdline/handlers.h"
#include "control/cmdline/help.h"
#include "control/cmdline/parse.h"

namespace atl::control {
namespace {

struct Option {
  std::string_view name;      // without the dash
  std::string_view argument;  // its form; "" = none
  Handler handler;
  std::string_view help;
};

constexpr Option kOptions[] = {
    {"h", "", option_help, "the same as -help"},
    {"help", "", option_help, "this text"},
    {"version", "", option_version, "the version"},
    {"machine", "[type=]name[,prop=value...]", option_machine, "the board (-machine help), its accelerator and memory"},
    {"M", "[type=]name[,prop=value...]", option_machine, "the same as -machine"},
    {"accel", "[accel=]name[:name...][,prop=value...]", option_accel, "kvm, soft or tcg (another name for soft), tried in order; qtest: vCPUs that run nothing"},
    {"enable-kvm", "", option_enable_kvm, "the same as -accel kvm"},
    {"cpu", "model[,+feature][,-feature]", option_cpu, "the CPU model (-cpu help)"},
    {"smp", "[cpus=]n[,sockets=n][,cores=n][,threads=n]", option_smp, "the number of CPUs and their topology"},
    {"numa", "node,memdev=id[,cpus=first-last]...|cpu,...|dist,...", option_numa, "a part of memory with the CPUs that are near to it"},
    {"m", "[size=]megs", option_memory, "guest memory; suffixes M, G, T"},
    {"mem-path", "path", option_mem_path, "memory from a file, or a file in this directory"},
    {"mem-prealloc", "", option_mem_prealloc, "touch all guest memory at start"},
    {"overcommit", "[mem-lock=on|off]", option_overcommit, "lock all memory of the process"},
    {"object", "type,id=name[,prop=value...]", option_object, "random sources, I/O threads, memory backends (-object help)"},
    {"name", "name[,process=name][,debug-threads=on]", option_name, "the VM's name"},
    {"uuid", "uuid", option_uuid, "the VM's UUID"},
    {"kernel", "file", option_kernel, "the kernel: bzImage, ELF with a PVH note, or multiboot"},
    {"initrd", "file", option_initrd, "the initial RAM disk, or multiboot modules"},
    {"append", "text", option_append, "the kernel's command line"},
    {"bios", "file", option_bios, "the firmware"},
    {"smbios", "file=file|type=n[,field=value...]", option_smbios, "fields of the SMBIOS tables"},
    {"acpitable", "[sig=...][,rev=...]...,file|data=file[:file...]", option_acpitable, "a further ACPI table"},
    {"tpmdev", "emulator,id=name,chardev=name", option_tpmdev, "a TPM: swtpm behind a Unix socket"},
    {"pflash", "file", option_pflash, "a firmware flash chip; a second one holds its variables"},
    {"L", "path", option_firmware_dir, "where to look for firmware"},
    {"fw_cfg", "[name=]name,file=file|string=text", option_fw_cfg, "a file that firmware and guest find by name"},
    {"option-rom", "file", option_option_rom, "an option ROM that firmware runs"},
    {"boot", "[order=drives][,menu=on|off][,strict=on|off]", option_boot, "boot order"},
    {"drive", "[file=file][,if=ide|scsi|floppy|virtio|none][,media=disk|cdrom][,format=raw]...", option_drive, "a disk or a CD drive"},
    {"blockdev", "[driver=]driver,node-name=name[,option=value...]", option_blockdev, "a block node: raw, file, host_device"},
    {"snapshot", "", option_snapshot, "writes to disks go to temporary files"},
    {"fda", "file", option_floppy, "a floppy disk in drive A"},
    {"fdb", "file", option_floppy, "a floppy disk in drive B"},
    {"hda", "file", option_hard_disk, "the first IDE disk"},
    {"hdb", "file", option_hard_disk, "the second IDE disk"},
    {"hdc", "file", option_hard_disk, "the third IDE disk"},
    {"hdd", "file", option_hard_disk, "the fourth IDE disk"},
    {"cdrom", "file", option_cdrom, "a CD in the IDE drive"},
    {"device", "driver[,prop=value...]", option_device, "a device (-device help, -device driver,help)"},
    {"global", "driver.property=value", option_global, "a property for every device of a kind"},
    {"netdev", "user|tap|socket|stream|dgram|hubport,id=name[,option=value...]", option_netdev, "a network back end"},
    {"nic", "user|tap|none[,model=name][,mac=address]", option_nic, "a network card with its back end"},
    {"net", "nic|user|tap|socket|none[,vlan=n][,option=value...]", option_net, "a card or a back end, joined by vlan"},
    {"chardev", "backend,id=name[,mux=on|off][,option=value...]", option_chardev, "a character back end (-chardev help)"},
    {"serial", "dev", option_serial, "where a serial port goes: stdio, mon:stdio, unix:path, pty, file:path, chardev:id ..."},
    {"parallel", "none", option_parallel, "there is no parallel port"},
    {"debugcon", "dev", option_debugcon, "where the debug console at port 0xe9 goes"},
    {"monitor", "dev", option_monitor, "where the human monitor goes"},
    {"qmp", "dev", option_qmp, "a QMP monitor"},
    {"qmp-pretty", "dev", option_qmp_pretty, "a QMP monitor with indented output"},
    {"mon", "[chardev=]name[,mode=readline|control][,pretty=on|off]", option_mon, "a monitor on a character back end"},
    {"nographic", "", option_nographic, "serial port and monitor on the terminal"},
    {"display", "none|vnc=host:display", option_display, "where the screen is shown"},
    {"usb", "", option_usb, "the board's USB controller"},
    {"usbdevice", "tablet|mouse|keyboard", option_usbdevice, "a USB device, and the controller with it"},
    {"vga", "none|std|virtio", option_vga, "the graphic card"},
    {"vnc", "host:display|unix:path|none[,password=on|off][,option=value...]", option_vnc, "a remote screen"},
    {"audiodev", "none,id=name", option_audiodev, "a sound back end; there is no sound"},
    {"k", "layout", option_keyboard, "keyboard layout of viewers that tell symbols: en-us, de ..."},
    {"echr", "code", option_escape, "the terminal's escape character instead of Ctrl-a"},
    {"rtc", "[base=utc|localtime|date][,clock=host|vm][,driftfix=none|slew]", option_rtc, "the real-time clock"},
    {"gdb", "dev", option_gdb, "where a debugger connects: tcp::1234, unix:path, stdio ..."},
    {"s", "", option_gdb_default, "the same as -gdb tcp::1234"},
    {"qtest", "dev", option_qtest, "where a program that tests devices connects (usually with -accel qtest)"},
    {"qtest-log", "file", option_qtest_log, "what is said there; none: no log, as without the option"},
    {"S", "", option_start_paused, "do not start the CPUs: a monitor does"},
    {"no-reboot", "", option_no_reboot, "exit instead of rebooting"},
    {"no-shutdown", "", option_no_shutdown, "pause instead of exiting when the guest powers off"},
    {"action", "[reboot=...][,shutdown=...][,panic=...][,watchdog=...]", option_action, "what reboots, power-offs, crashes and watchdogs lead to"},
    {"watchdog-action", "reset|shutdown|poweroff|pause|debug|none|inject-nmi", option_watchdog_action, "what a watchdog leads to"},
    {"no-acpi", "", option_no_acpi, "no ACPI tables"},
    {"no-fd-bootchk", "", option_no_fd_bootchk, "firmware starts floppy disks without a boot signature too"},
    {"no-hpet", "", option_no_hpet, "no high precision event timer"},
    {"pidfile", "file", option_pidfile, "write the process id there"},
    {"runas", "user|uid:gid", option_run_as, "become another user before the guest runs"},
    {"chroot", "dir", option_chroot, "see nothing but a directory before the guest runs"},
    {"daemonize", "", option_daemonize, "go to the background once the VM is ready"},
    {"sandbox", "on[,obsolete=allow|deny][,spawn=allow|deny]...", option_sandbox, "a filter of system calls"},
    {"add-fd", "fd=n,set=n", option_add_fd, "an inherited descriptor, to be opened as /dev/fdset/n"},
    {"D", "file", option_log_file, "where logged items go"},
    {"d", "item[,...]", option_log_items, "items to be logged (-d help)"},
    {"trace", "[[enable=]pattern][,events=file][,file=file]", option_trace, "trace events (-trace help)"},
    {"set", "setting", option_nothing, "group.id.key=value: a further value of an option before"},
    {"compat", "[deprecated-input=accept][,deprecated-output=accept]", option_compat, "what becomes of deprecated interfaces"},
    {"audio", "[driver=]none", option_audio, "sound; there is none"},
    {"msg", "[timestamp=on|off][,guest-name=on|off]", option_msg, "put the time before messages"},
    {"readconfig", "file", option_read_config, "options from a file"},
    {"nodefaults", "", option_no_defaults, "no default serial port, monitor, network card and CD drive"},
    {"no-user-config", "", option_nothing, "there are no configuration files anyway"},
};

const Option* find_option(std::string_view name) {
  auto at = std::find_if(std::begin(kOptions), std::end(kOptions), [&](const Option& o) { return o.name == name; });
  return at == std::end(kOptions) ? nullptr : at;
}

/// Reads the option at `index` and moves on.
Status read_option(Builder& builder, std::span<const std::string> arguments, size_t& index) {
  std::string_view text = arguments[index++];
  if (!text.starts_with('-') || text.size() == 1)
    return option_hard_disk(builder, {.name = "-hda", .value = std::string(text)}).context(text);
  std::string_view name = text.substr(text.starts_with("--") ? 2 : 1);
  const Option* option = find_option(name);
  if (!option && why_absent(name)) return invalid_option(fmt::format("{}: not supported: {}", text, why_absent(name)));
  if (!option) return invalid_option(fmt::format("{}: invalid option", text));
  OptionUse use{.name = fmt::format("-{}", name)};
  if (!option->argument.empty()) {
    if (index == arguments.size()) return invalid_option(fmt::format("{}: requires an argument", text));
    use.value = arguments[index++];
  }
  return option->handler(builder, use).context(use.text());
}

}  // namespace

Handler listed_option(std::string_view name) {
  const Option* option = find_option(name);
  return option && option->argument.contains('=') ? option->handler : nullptr;
}

std::string option_table_help() {
  std::string text = fmt::format("{}usage: atoll-vmm [options] [disk_image]\n\n", version_line());
  for (const auto& option : kOptions) {
    std::string form = fmt::format("-{}{}{}", option.name, option.argument.empty() ? "" : " ", option.argument);
    text += fmt::format("{:<32}{}{}\n", form, form.size() < 32 ? "" : "\n" + std::string(32, ' '), option.help);
  }
  return text;
}

Result<CommandLine> parse_command_line(std::span<const std::string> arguments) {
  Builder builder;
  const std::vector<std::string> words = TRY(apply_set_options(arguments));
  for (size_t index = 0; index < words.size();) {
    TRY(read_option(builder, words, index));
    if (builder.line.text) return std::move(builder.line);
  }
  TRY(builder.finish());
  return std::move(builder.line);
}

}  // namespace atl::control
