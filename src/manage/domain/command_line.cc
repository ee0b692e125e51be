#include "manage/domain/command_line.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "manage/domain/aliases.h"
#include "manage/domain/disk_secrets.h"
#include "manage/domain/iothreads.h"
#include "manage/domain/numa_cells.h"

namespace atl::manage {
namespace {

/// Collects arguments in order.
class Writer {
 public:
  explicit Writer(VmCommand& command) : command_(command) {}
  void flag(std::string_view option) { command_.arguments.emplace_back(option); }
  void add(std::string_view option, std::string_view value) {
    command_.arguments.emplace_back(option);
    command_.arguments.emplace_back(value);
  }
  void add(std::string_view option, const OptionList& value) { add(option, std::string_view(value.text())); }

 private:
  VmCommand& command_;
};

bool has_feature(const Element& domain, std::string_view name) {
  const Element* feature = domain.find("features");
  feature = feature ? feature->child(name) : nullptr;
  return feature && feature->attribute("state") != "off";
}

bool is_microvm(const Element& domain) { return at(domain, "os/type", "machine").starts_with("microvm"); }

/// With type kvm the software CPU takes over on a host without hardware virtualization.
void write_machine(const Element& domain, Writer& w) {
  OptionList machine("type", at(domain, "os/type", "machine"));
  machine.set("accel", domain.attribute("type") == "kvm" ? "kvm:tcg" : "tcg");
  if (!is_microvm(domain)) machine.set("usb", "off");
  if (const std::string dump = at(domain, "memory", "dumpCore"); !dump.empty()) machine.set("dump-guest-core", dump);
  else machine.set("dump-guest-core", "off");
  if (domain.find("memoryBacking/nosharepages")) machine.set("mem-merge", "off");
  const bool own = domain.find("memoryBacking/hugepages") || at(domain, "memoryBacking/source", "type") == "memfd";
  if (own && !has_numa(domain)) machine.set("memory-backend", "pc.ram");
  if (const std::string state = at(domain, "features/vmport", "state"); !state.empty()) machine.set("vmport", state);
  if (domain.find("features/smm")) machine.set("smm", has_feature(domain, "smm") ? "on" : "off");
  if (!has_feature(domain, "acpi") && !is_microvm(domain)) machine.set("acpi", "off");
  w.add("-machine", machine);
}

void write_cpu(const Element& domain, Writer& w) {
  const Element* cpu = domain.child("cpu");
  if (!cpu) return;
  const std::string mode = cpu->attribute("mode");
  OptionList value("model", mode == "maximum" ? "max" : mode == "custom" ? text_at(*cpu, "model") : "host");
  if (mode == "host-passthrough" && cpu->has_attribute("migratable")) value.set("migratable", cpu->attribute("migratable"));
  if (at(domain, "features/kvm/hidden", "state") == "on") value.set("kvm", "off");
  for (const Element* feature : cpu->children("feature")) {
    const std::string policy = feature->attribute("policy");
    if (policy == "optional") continue;
    value.set(feature->attribute("name"), policy == "disable" || policy == "forbid" ? "off" : "on");
  }
  w.add("-cpu", value);
}

void write_memory(const Element& domain, Writer& w) {
  const u64 kib = kib_at(domain, "memory");
  w.add("-m", fmt::format("{}k", kib));
  const bool huge = domain.find("memoryBacking/hugepages"), memfd = at(domain, "memoryBacking/source", "type") == "memfd";
  if ((huge || memfd) && !has_numa(domain)) {
    OptionList backend("qom-type", "memory-backend-memfd");
    backend.set("id", "pc.ram").set("size", kib * kKiB).set("share", at(domain, "memoryBacking/access", "mode") == "shared" ? "on" : "off");
    if (huge) backend.set("hugetlb", "on");
    w.add("-object", backend);
  }
  if (domain.find("memoryBacking/allocation") && at(domain, "memoryBacking/allocation", "mode") == "immediate") w.flag("-mem-prealloc");
  w.add("-overcommit", domain.find("memoryBacking/locked") ? "mem-lock=on" : "mem-lock=off");
}

void write_vcpus(const Element& domain, Writer& w) {
  const std::string most = text_at(domain, "vcpu"), now = at(domain, "vcpu", "current");
  OptionList smp("cpus", now.empty() ? most : now);
  // Those that are not there at the start cannot be plugged in later: the board has no places for them.
  if (!now.empty()) {
    w.add("-smp", smp.set("sockets", now).set("cores", "1").set("threads", "1"));
    return;
  }
  if (const Element* topology = domain.find("cpu/topology"))
    for (const char* level : {"sockets", "dies", "cores", "threads"}) smp.set_if(level, topology->attribute(level));
  else smp.set("sockets", most).set("cores", "1").set("threads", "1");
  w.add("-smp", smp);
}

/// Cells name vCPUs: they come behind these.
Status write_numa(const Element& domain, Writer& w) {
  for (const auto& [option, value] : TRY(numa_options(domain))) w.add(option, value);
  return {};
}

void write_clock(const Element& domain, Writer& w) {
  const std::string offset = at(domain, "clock", "offset");
  OptionList rtc("base", offset == "localtime" ? "localtime" : "utc");
  const Element* clock = domain.child("clock");
  if (!clock) return;
  for (const Element* timer : clock->children("timer")) {
    const std::string name = timer->attribute("name"), policy = timer->attribute("tickpolicy");
    if (name == "rtc" && policy == "catchup") rtc.set("driftfix", "slew");
    if (name == "pit" && policy == "delay") w.add("-global", "kvm-pit.lost_tick_policy=delay");
    if (name == "hpet" && timer->attribute("present") == "no") w.flag("-no-hpet");
  }
  w.add("-rtc", rtc);
}

void write_power(const Element& domain, Writer& w) {
  w.flag("-no-shutdown");
  if (text_at(domain, "on_reboot") == "destroy") w.flag("-no-reboot");
  if (at(domain, "os/type", "machine").starts_with("pc-i440fx"))
    for (auto [element, property] : {std::pair{"pm/suspend-to-mem", "disable_s3"}, {"pm/suspend-to-disk", "disable_s4"}})
      if (const std::string enabled = at(domain, element, "enabled"); !enabled.empty())
        w.add("-global", fmt::format("PIIX4_PM.{}={}", property, enabled == "yes" ? 0 : 1));
}

void write_firmware(const Element& domain, Writer& w) {
  const Element* os = domain.child("os");
  if (const Element* loader = os ? os->child("loader") : nullptr) {
    const std::string path(trim(loader->text()));
    if (loader->attribute("type") == "pflash") {
      if (loader->attribute("secure") == "yes") w.add("-global", "driver=cfi.pflash01,property=secure,value=on");
      w.add("-drive", OptionList("file", path).set("if", "pflash").set("format", "raw").set("unit", "0").set("readonly", "on"));
      if (const std::string nvram = text_at(*os, "nvram"); !nvram.empty())
        w.add("-drive", OptionList("file", nvram).set("if", "pflash").set("format", "raw").set("unit", "1"));
    } else if (!path.empty()) {
      w.add("-bios", path);
    }
  }
}

Status write_boot(const Element& domain, Writer& w) {
  write_firmware(domain, w);
  if (const std::string kernel = text_at(domain, "os/kernel"); !kernel.empty()) w.add("-kernel", kernel);
  if (const std::string initrd = text_at(domain, "os/initrd"); !initrd.empty()) w.add("-initrd", initrd);
  if (const std::string words = text_at(domain, "os/cmdline"); !words.empty()) w.add("-append", words);
  if (is_microvm(domain)) return {};
  std::string boot;
  if (at(domain, "os/bootmenu", "enable") == "yes") boot = "menu=on,";
  w.add("-boot", boot + "strict=on");
  return {};
}

void write_smbios(const Element& domain, Writer& w) {
  if (at(domain, "os/smbios", "mode") != "sysinfo") return;
  struct Table {
    std::string_view element, type;
  };
  constexpr Table kTables[] = {{"bios", "0"}, {"system", "1"}, {"baseBoard", "2"}, {"chassis", "3"}};
  const Element* info = domain.child("sysinfo");
  for (const auto& table : kTables) {
    const Element* element = info ? info->child(table.element) : nullptr;
    if (!element) continue;
    std::string text = fmt::format("type={}", table.type);
    for (const Element* entry : element->children("entry")) text += "," + OptionList(entry->attribute("name"), entry->text()).text();
    w.add("-smbios", text);
  }
}

void write_iothreads(const Element& domain, Writer& w) {
  for (u64 id : iothread_ids(domain)) w.add("-object", fmt::format("iothread,id=iothread{}", id));
}

// --- devices

Status write_disk(const Element& domain, const Element& disk, const Handed& handed, Writer& w) {
  if (const std::string id = disk_secret_id(disk); !id.empty())
    w.add("-object", OptionList("qom-type", "secret").set("id", id).set("file", fmt::format("{}/{}", handed.secrets, id)));
  for (const auto& node : TRY(disk_nodes(disk))) w.add("-blockdev", node.dump());
  w.add("-device", TRY(disk_device(domain, disk, boot_index(domain, disk))));
  return {};
}

Status write_card(const Element& domain, const Element& card, const Handed& handed, Writer& w) {
  w.add("-netdev", TRY(net_backend(card, handed)));
  w.add("-device", TRY(net_device(domain, card, boot_index(domain, card))));
  return {};
}

Status write_port(const Element& port, Writer& w) {
  auto device = TRY(char_device(port));
  if (!device) return {};
  w.add("-chardev", TRY(char_backend(port)));
  w.add("-device", *device);
  return {};
}

Result<std::string> vnc_address(const Element& graphics) {
  const Element* listen = graphics.child("listen");
  if (listen && listen->attribute("type") == "socket") return "unix:" + listen->attribute("socket");
  if (listen && listen->attribute("type") == "none") return config_unsupported("<listen type='none'> is not supported by atoll-vmm");
  const std::string given = listen ? listen->attribute("address") : std::string();
  const std::string host = given.empty() ? "127.0.0.1" : given;
  const u64 port = parse_u64(graphics.attribute("port")).value_or(5900);
  if (port < 5900) return config_unsupported(fmt::format("vnc port must be in range [5900,65535], not {}", port));
  return fmt::format("{}:{}", host.find(':') == std::string::npos ? host : "[" + host + "]", port - 5900);
}

Status write_graphics(const Element& graphics, Writer& w) {
  OptionList vnc("vnc", TRY(vnc_address(graphics)));
  if (graphics.has_attribute("passwd")) vnc.set("password", "on");
  w.add("-vnc", vnc);
  // The map of the keys is the client's affair; only another than the usual one has to be known here.
  if (const std::string map = graphics.attribute("keymap"); !map.empty() && map != "en-us") w.add("-k", map);
  return {};
}

Status write_other(const Element& domain, const Element& device, const Handed& handed, Writer& w) {
  const DeviceParts parts = TRY(other_device(domain, device, handed));
  for (const auto& object : parts.objects) w.add("-object", object);
  for (const auto& [option, value] : parts.more_options) w.add(option, value);
  for (const auto& options : parts.devices) w.add("-device", options);
  return {};
}

/// Controllers come before what is plugged into them.
constexpr std::string_view kDeviceOrder[] = {"disk",       "interface", "serial", "console",    "channel", "hub",     "input", "tpm",
                                             "graphics",   "video",      "watchdog",  "memballoon", "rng",    "panic",   "vsock"};

Status write_device(const Element& domain, const Element& device, const Handed& handed, Writer& w) {
  const std::string& name = device.name();
  if (name == "disk") return write_disk(domain, device, handed, w);
  if (name == "interface") return write_card(domain, device, handed, w);
  if (name == "serial" || name == "console" || name == "channel") return write_port(device, w);
  if (name == "graphics") return write_graphics(device, w);
  return write_other(domain, device, handed, w);
}

/// Ports of the board, then bridges behind them, then whatever sits on their buses.
int bus_rank(const Element* controller) {
  if (controller->attribute("type") != "pci") return 2;
  return controller->attribute("model") == "pcie-root-port" ? 0 : 1;
}

Status write_devices(const Element& domain, const Handed& handed, Writer& w) {
  const Element& devices = devices_of(domain);
  auto controllers = devices.children("controller");
  std::ranges::stable_sort(controllers, {}, bus_rank);
  for (const Element* controller : controllers) TRY(write_device(domain, *controller, handed, w));
  for (std::string_view name : kDeviceOrder)
    for (const Element* device : devices.children(name)) TRY(write_device(domain, *device, handed, w));
  return {};
}

/// <qemu:commandline>: taken as it stands.
void write_own_words(const Element& domain, VmCommand& command) {
  const Element* own = domain.child("qemu:commandline");
  if (!own) return;
  for (const Element* argument : own->children("qemu:arg")) command.arguments.push_back(argument->attribute("value"));
  for (const Element* variable : own->children("qemu:env"))
    command.environment.push_back(fmt::format("{}={}", variable->attribute("name"), variable->attribute("value")));
}

void write_monitor(const Handed& handed, Writer& w) {
  w.flag("-no-user-config");
  w.flag("-nodefaults");
  OptionList monitor("backend", "socket");
  monitor.set("id", "charmonitor").set_if("fd", handed.monitor);
  if (handed.monitor.empty()) monitor.set("path", "monitor.sock");
  w.add("-chardev", monitor.set("server", "on").set("wait", "off"));
  w.add("-mon", "chardev=charmonitor,id=monitor,mode=control");
}

std::string quoted(const std::string& word) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string text = "'";
  for (char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

}  // namespace

std::string VmCommand::text() const {
  std::string all;
  for (const auto& variable : environment) all += variable.substr(0, variable.find('=') + 1) + quoted(variable.substr(variable.find('=') + 1)) + " ";
  all += quoted(program);
  for (const auto& argument : arguments) all += " " + quoted(argument);
  return all;
}

u64 boot_index(const Element& domain, const Element& device) {
  if (const std::string order = at(device, "boot", "order"); !order.empty()) return parse_u64(order).value_or(0);
  const Element* os = domain.child("os");
  if (!os) return 0;
  const std::string kind = device.name() == "interface" ? "network" : device.attribute("device") == "cdrom" ? "cdrom" : device.attribute("device") == "floppy" ? "fd" : "hd";
  // The first of each kind takes the place that <boot dev=> gives to the kind.
  for (const Element* other : devices_of(domain).children(device.name())) {
    const bool same_kind = device.name() == "interface" || other->attribute("device") == device.attribute("device");
    if (!same_kind) continue;
    if (alias_of(*other) != alias_of(device)) return 0;
    break;
  }
  u64 place = 0;
  for (const Element* boot : os->children("boot")) {
    ++place;
    if (boot->attribute("dev") == kind) return place;
  }
  return 0;
}

Result<VmCommand> compose_command(const Element& domain, const Handed& handed) {
  VmCommand command{.program = text_at(domain, "devices/emulator"), .arguments = {}, .environment = {"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}};
  Writer w(command);
  w.add("-name", OptionList("guest", text_at(domain, "name")).set("debug-threads", "on"));
  w.flag("-S");
  write_machine(domain, w);
  write_cpu(domain, w);
  write_memory(domain, w);
  write_vcpus(domain, w);
  TRY(write_numa(domain, w));
  write_iothreads(domain, w);
  w.add("-uuid", text_at(domain, "uuid"));
  write_smbios(domain, w);
  write_monitor(handed, w);
  write_clock(domain, w);
  write_power(domain, w);
  TRY(write_boot(domain, w));
  TRY(write_devices(domain, handed, w));
  w.add("-display", "none");
  w.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  w.add("-msg", "timestamp=on");
  write_own_words(domain, command);
  return command;
}

}  // namespace atl::manage
