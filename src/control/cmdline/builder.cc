// The last step of reading a command line: the board, then everything that depends on which board it is.
#include "control/cmdline/builder.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/machine_types.h"
#include "base/strings.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/help.h"
#include "control/cmdline/translate.h"

namespace atl::control {

using machine::AcceleratorChoice;
using machine::BoardKind;

namespace {

/// Files of back ends that are descriptors of -add-fd: "/dev/fdset/3" becomes "/dev/fd/24".
Status resolve_fd_sets(ProgramOptions& options) {
  constexpr std::string_view kPrefix = "/dev/fdset/";
  for (ChardevConfig& chardev : options.chardevs) {
    for (std::string* path : {&chardev.path, &chardev.log_path}) {
      if (!path->starts_with(kPrefix)) continue;
      const auto number = parse_u64(std::string_view(*path).substr(kPrefix.size()));
      const auto at = number ? options.fd_sets.find(*number) : options.fd_sets.end();
      if (at == options.fd_sets.end()) return invalid_option(fmt::format("chardev {}: Could not open '{}': No such file or directory", chardev.id, *path));
      *path = fmt::format("/dev/fd/{}", at->second);
    }
  }
  return {};
}

}  // namespace

Status Builder::finish() {
  TRY(finish_numa());
  TRY(finish_machine());
  TRY(finish_boot());
  TRY(finish_screen());
  TRY(finish_defaults());
  TRY(finish_monitors());
  TRY(finish_serials());
  TRY(resolve_fd_sets(program()));
  TRY(finish_networks());
  return finish_devices();
}

namespace {

/// Switches of a board whose state is fixed here: what QEMU calls them, and the state.
struct FixedSwitch {
  std::string_view name;
  bool pc, microvm;
};
constexpr FixedSwitch kFixedSwitches[] = {
    {"usb", false, false}, {"vmport", false, false},
    {"graphics", false, false}, {"nvdimm", false, false}, {"sata", false, false}, {"pcie", false, false},
    {"igd-passthru", false, false}, {"suppress-vmdesc", false, false}, {"i8042", true, true},
    {"pit", true, false}, {"pic", true, false}, {"x-option-roms", false, false},
};

Status read_fixed_switches(KeyValues& values, BoardKind kind) {
  for (const auto& s : kFixedSwitches) {
    auto text = values.take(s.name);
    if (!text) continue;
    bool truth = machine::is_pc(kind) ? s.pc : s.microvm;
    auto asked = *text == "auto" ? truth : parse_bool(*text);
    if (asked != truth) return invalid_option(fmt::format("'{}={}' is not supported by this machine", s.name, *text));
  }
  return {};
}

BoardKind board_kind(MachineType::Board board) {
  switch (board) {
    case MachineType::Board::Pc: return BoardKind::Pc;
    case MachineType::Board::Q35: return BoardKind::Q35;
    case MachineType::Board::Microvm: return BoardKind::Microvm;
    default: return BoardKind::None;
  }
}

Status choose_board(KeyValues& values, machine::Config& config) {
  auto name = values.take("type");
  const MachineType* type = find_machine_type(name.value_or("pc"));
  if (!type) return invalid_option(fmt::format("unsupported machine type '{}'; -machine help lists the supported ones", *name));
  config.board = board_kind(type->board);
  config.board_name = type->name;
  return {};
}

Status use_memory_backend(KeyValues& values, Builder& b) {
  auto id = values.take("memory-backend");
  if (id) {
    auto at = b.memory_backends.find(*id);
    if (at == b.memory_backends.end()) return invalid_option(fmt::format("Memory backend '{}' not found", *id));
    if (b.ram_size_given && b.config().ram_bytes != at->second.size_bytes)
      return invalid_option("Machine memory size does not match the size of the memory backend");
    b.config().ram = at->second.ram;
    b.config().ram_bytes = at->second.size_bytes;
    b.memory_backends.erase(at);
  }
  for (const auto& [other, backend] : b.memory_backends)
    return invalid_option(fmt::format("{}: the machine does not use memory backend '{}' (memory-backend=)",
                                      backend.origin.text(), other));
  return {};
}

/// `auto` is the accelerator's matter.
Status read_smm(KeyValues& values, machine::Config& config) {
  const auto text = values.take("smm");
  if (!text || *text == "auto") return {};
  config.smm = parse_bool(*text);
  if (!config.smm) return invalid_option(fmt::format("'smm' takes on, off or auto, not '{}'", *text));
  if (*config.smm && config.board == BoardKind::Microvm) return invalid_option("'smm=on' is not supported by this machine");
  return {};
}

/// Where KVM has its interrupt controllers; without KVM there is nothing to choose.
Status read_irqchip(KeyValues& values, const Builder& b) {
  const std::string place = values.take("kernel-irqchip").value_or("on");
  if (place != "on" && place != "off" && place != "split") return invalid_option("'kernel-irqchip' takes on, off or split");
  const bool soft_only = !b.accelerators.empty() && std::ranges::all_of(b.accelerators, [](const auto& choice) {
    return choice.kind == machine::AcceleratorKind::Soft;
  });
  if (place != "on" && !soft_only) return invalid_option("'kernel-irqchip' supports 'on' only");
  return {};
}

Status read_machine_properties(KeyValues& values, Builder& b) {
  auto& config = b.config();
  TRY(choose_board(values, config));
  if (auto list = values.take("accel")) {
    if (b.accel_option_seen) return invalid_option("The -accel and \"-machine accel=\" options are incompatible");
    b.accelerators = TRY(accelerators_from_list(*list));
  }
  b.usb = TRY(values.take_bool("usb", b.usb));
  config.acpi = TRY(values.take_bool("acpi", config.acpi));
  if (!is_pc(config.board)) config.hpet = false;
  const bool hpet = TRY(values.take_bool("hpet", config.hpet));
  if (hpet && !is_pc(config.board)) return invalid_option("'hpet=on' is not supported by this machine");
  config.hpet = hpet;
  config.ram.merge = TRY(values.take_bool("mem-merge", config.ram.merge));
  config.ram.dump = TRY(values.take_bool("dump-guest-core", config.ram.dump));
  TRY(use_memory_backend(values, b));
  TRY(read_irqchip(values, b));
  TRY(read_smm(values, config));
  TRY(read_fixed_switches(values, config.board));
  auto& boot = config.boot;
  for (auto [key, field] : {std::pair{"kernel", &boot.kernel}, {"initrd", &boot.initrd}, {"append", &boot.append}, {"firmware", &boot.firmware}})
    *field = values.take(key).value_or(*field);
  for (auto [key, field] : {std::pair{"pflash0", &boot.flash[0]}, {"pflash1", &boot.flash[1]}})
    *field = values.take(key).value_or(*field);
  if (!values.empty())
    return invalid_option(fmt::format("Property '{}-machine.{}' not found", config.board_name, values.entries()[0].key));
  return {};
}

}  // namespace

Status Builder::finish_machine() {
  KeyValues values = machine_properties;
  Status read = read_machine_properties(values, *this);
  if (!read) return machine_origin.name.empty() ? std::move(read) : std::move(read).context(machine_origin.text());
  if (!config().numa.empty() && !machine::is_pc(config().board)) return invalid_option("-numa: NUMA is not supported by this machine-type");
  if (accelerators.empty()) accelerators = TRY(accelerators_from_list("kvm:soft"));
  config().accelerators = accelerators;
  return {};
}

Status Builder::finish_boot() {
  auto& boot = config().boot;
  if (boot.kernel.empty() && !boot.initrd.empty()) return invalid_option("-initrd only allowed with -kernel option");
  if (boot.kernel.empty() && !boot.append.empty()) return invalid_option("-append only allowed with -kernel option");
  if (boot.firmware.empty() || ::access(boot.firmware.c_str(), F_OK) == 0) return {};
  firmware_dirs.insert(firmware_dirs.end(), {"/usr/share/seabios", "/usr/share/qemu", "/usr/share/ovmf"});
  for (const auto& dir : firmware_dirs) {
    std::string path = dir + "/" + boot.firmware;
    if (::access(path.c_str(), F_OK) != 0) continue;
    boot.firmware = path;
    return {};
  }
  return invalid_option(fmt::format("could not load PC BIOS '{}'", boot.firmware));
}

// Without a display there is nothing to show a default port on: unless -nographic sends it to the terminal, it is not
// connected.
Status Builder::finish_defaults() {
  if (no_defaults || config().board == BoardKind::None) default_serial = default_monitor = default_net = false;
  if (nographic && program().daemonize && (default_serial || default_monitor))
    return invalid_option("-nographic cannot be used with -daemonize");
  if (nographic && default_serial && default_monitor) {
    serials.push_back({{"-nographic", ""}, "mon:stdio"});
  } else if (nographic) {
    if (default_serial) serials.push_back({{"-nographic", ""}, "stdio"});
    if (default_monitor) TRY(option_monitor(*this, {"-monitor", "stdio"}).context("-nographic"));
  } else if (default_serial) {
    serials.push_back({{"-serial", "null"}, "null"});
  }
  return {};
}

Status Builder::add_chardev(ChardevConfig chardev) {
  if (find_chardev(chardev.id)) return invalid_option(fmt::format("Duplicate ID '{}' for chardev", chardev.id));
  if (chardev.kind == ChardevKind::Stdio) {
    for (const auto& other : program().chardevs)
      if (other.kind == ChardevKind::Stdio) return invalid_option("cannot use stdio by multiple character devices");
    if (program().daemonize) return invalid_option("cannot use stdio with -daemonize");
  }
  program().chardevs.push_back(std::move(chardev));
  return {};
}

Status Builder::add_compat_chardev(std::string_view spec, const std::string& id) {
  auto chardev = TRY(chardev_from_compat(spec, id));
  bool shared_with_monitor = chardev.mux;
  TRY(add_chardev(std::move(chardev)));
  // "mon:" puts a human monitor on the same back end.
  if (shared_with_monitor) program().monitors.push_back({.chardev = id});
  return {};
}

ChardevConfig* Builder::find_chardev(std::string_view id) {
  auto& list = program().chardevs;
  auto at = std::find_if(list.begin(), list.end(), [&](const ChardevConfig& c) { return c.id == id; });
  return at == list.end() ? nullptr : &*at;
}

Result<machine::CharId> Builder::use_chardev(const std::string& id) {
  const ChardevConfig* chardev = find_chardev(id);
  if (!chardev) return invalid_option(fmt::format("chardev \"{}\" not found", id));
  unsigned earlier = chardev_users_[id]++;
  if (earlier && !chardev->mux) return invalid_option(fmt::format("Device '{}' is in use", id));
  std::string port = earlier ? fmt::format("{}#{}", id, earlier) : id;
  program().ports.emplace_back(port, id);
  return port;
}

/// The back end that a compatibility string describes; none for "none" and for the name of one that exists.
Status Builder::add_port_chardev(const PortRequest& request, const std::string& id) {
  if (request.spec == "none" || request.spec.starts_with("chardev:")) return {};
  return add_compat_chardev(request.spec, id).context(request.origin.text());
}

Status Builder::finish_monitors() {
  // Serial ports come first, because "mon:" adds monitors.
  for (size_t i = 0; i < serials.size(); ++i) TRY(add_port_chardev(serials[i], fmt::format("serial{}", i)));
  if (debugcon) TRY(add_port_chardev(*debugcon, "debugcon"));
  if (gdb) TRY(add_port_chardev(*gdb, "gdb"));
  if (qtest) TRY(add_port_chardev(*qtest, "qtest"));
  for (auto& monitor : program().monitors)
    monitor.chardev = TRY(use_chardev(monitor.chardev).context(monitor.qmp ? "-qmp" : "-monitor"));
  return {};
}

Result<machine::CharId> Builder::resolve_port(const PortRequest& request, const std::string& id) {
  if (request.spec == "none") return machine::CharId();
  std::string name = request.spec.starts_with("chardev:") ? request.spec.substr(8) : id;
  return use_chardev(name).context(request.origin.text());
}

Status Builder::finish_serials() {
  const size_t limit = is_pc(config().board) ? 4 : config().board == BoardKind::Microvm ? 1 : 0;
  if (serials.size() > limit)
    return invalid_option(fmt::format("{}: too many serial ports, at most {}", serials[limit].origin.text(), limit));
  for (size_t i = 0; i < serials.size(); ++i)
    config().serial.push_back(TRY(resolve_port(serials[i], fmt::format("serial{}", i))));
  if (debugcon) config().debugcon = TRY(resolve_port(*debugcon, "debugcon"));
  if (gdb) program().gdb = TRY(resolve_port(*gdb, "gdb"));
  if (qtest) program().qtest = TRY(resolve_port(*qtest, "qtest"));
  return {};
}

}  // namespace atl::control
