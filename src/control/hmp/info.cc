// The "info" commands.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/hmp/command.h"
#include "control/version.h"
#include "machine/media.h"

namespace atl::control {
namespace {

using Arguments = const HmpArguments&;

Status info_status(HmpContext& c, Arguments) {
  auto state = c.vm.machine().state();
  c.output += fmt::format("VM status: {}", state == machine::RunState::Running ? "running" : "paused");
  if (state != machine::RunState::Running && state != machine::RunState::Paused)
    c.output += fmt::format(" ({})", machine::run_state_name(state));
  c.output += "\n";
  return {};
}

Status info_version(HmpContext& c, Arguments) {
  c.output += fmt::format("{}.{}.{} ({})\n", kQemuMajor, kQemuMinor, kQemuMicro, kPackage);
  return {};
}

Status info_name(HmpContext& c, Arguments) {
  if (!c.vm.config().name.empty()) c.output += c.vm.config().name + "\n";
  return {};
}

Status info_uuid(HmpContext& c, Arguments) {
  const auto& uuid = c.vm.config().uuid;
  c.output += (uuid.empty() ? "00000000-0000-0000-0000-000000000000" : uuid) + "\n";
  return {};
}

Status info_kvm(HmpContext& c, Arguments) {
  c.output += fmt::format("kvm support: {}\n", c.vm.machine().accelerator() == "kvm" ? "enabled" : "disabled");
  return {};
}

Status info_accelerator(HmpContext& c, Arguments) {
  c.output += fmt::format("accelerator: {}\n", c.vm.machine().accelerator());
  for (const auto& [name, value] : c.vm.machine().counters()) c.output += fmt::format("{:<28} {}\n", name, value);
  return {};
}

Status info_cpus(HmpContext& c, Arguments) {
  for (const auto& cpu : c.vm.machine().cpus())
    c.output += fmt::format("{} CPU #{}: thread_id={}\n", cpu.index == c.cpu ? '*' : ' ', cpu.index, cpu.thread_id);
  return {};
}

Status info_chardev(HmpContext& c, Arguments) {
  for (const Chardev* chardev : c.vm.chars().all())
    c.output += fmt::format("{}: filename={}\n", chardev->id(), chardev->describe());
  return {};
}

Status info_network(HmpContext& c, Arguments) {
  for (const auto& network : c.vm.machine().networks())
    c.output += fmt::format("{}\n \\ {}\n", network.nic, network.backend);
  return {};
}

Status info_balloon(HmpContext& c, Arguments) {
  u64 bytes = TRY(c.vm.machine().balloon_bytes());
  c.output += fmt::format("balloon: actual={}\n", bytes / kMiB);
  return {};
}

/// Texts that the machine makes.
Status describe(HmpContext& c, const char* what) {
  std::string text = TRY(c.vm.machine().describe(what, c.cpu));
  c.output += text;
  if (!c.output.empty() && c.output.back() != '\n') c.output += "\n";
  return {};
}

Status info_registers(HmpContext& c, Arguments arguments) {
  if (arguments.text.empty()) return describe(c, "registers");
  if (auto index = parse_u64(arguments.text)) {
    if (*index >= c.vm.machine().cpus().size()) return Error(ErrorKind::Invalid, fmt::format("CPU#{} not available", *index));
    c.output += TRY(c.vm.machine().describe("registers", static_cast<u32>(*index)));
    return {};
  }
  if (arguments.text != "-a") return Error(ErrorKind::Invalid, fmt::format("unsupported option '{}'", arguments.text));
  u32 selected = c.cpu;
  for (const auto& cpu : c.vm.machine().cpus()) {
    c.output += fmt::format("\nCPU#{}\n", cpu.index);
    c.cpu = cpu.index;
    Status described = describe(c, "registers");
    c.cpu = selected;
    TRY(std::move(described));
  }
  return {};
}

/// Not QEMU's: what a person would read on a screen in text mode.
Status info_screen(HmpContext& c, Arguments) {
  display::Screen* screen = c.vm.machine().screens().first();
  if (!screen) return Error(ErrorKind::NotFound, "there is no screen");
  c.output += screen->text();
  return {};
}

Status info_numa(HmpContext& c, Arguments) {
  c.output += TRY(run_qmp(c, "x-query-numa", nlohmann::json::object()))["human-readable-text"].get<std::string>();
  return {};
}

Status info_replay(HmpContext& c, Arguments) {
  c.output += "Record/replay is not active\n";
  return {};
}

/// What was typed into this monitor.
Status info_history(HmpContext& c, Arguments) {
  for (size_t i = 0; i < c.history.size(); ++i) c.output += fmt::format("{}: '{}'\n", i, c.history[i]);
  return {};
}

Status info_mice(HmpContext& c, Arguments) {
  for (const auto& mouse : c.vm.machine().input().mice())
    c.output += fmt::format("{} Mouse #{}: {}{}\n", mouse.current ? '*' : ' ', mouse.index, mouse.name, mouse.absolute ? " (absolute)" : "");
  return {};
}

Status info_vnc(HmpContext& c, Arguments) {
  RemoteScreen* screen = c.vm.remote_screen();
  if (!screen) return Error(ErrorKind::NotFound, "None");
  display::vnc::Server& server = screen->server();
  auto line = [&](std::string_view what, const display::vnc::Endpoint& at) {
    c.output += fmt::format("  {}: {}:{} ({}{})\n", what, at.host, at.service, at.family, at.websocket ? ", Websocket" : "");
  };
  c.output += fmt::format("{}:\n", screen->id());
  for (const auto& at : server.listeners()) line("Server", at);
  c.output += fmt::format("    Auth: {} (Sub: {})\n", server.auth(), server.sub_auth().empty() ? "none" : server.sub_auth());
  for (const auto& at : server.viewers()) line("Client", at);
  return {};
}

Status info_mem(HmpContext& c, Arguments) { return describe(c, "mem"); }
Status info_mtree(HmpContext& c, Arguments) { return describe(c, "mtree"); }
Status info_qtree(HmpContext& c, Arguments) { return describe(c, "qtree"); }
Status info_usb(HmpContext& c, Arguments) { return describe(c, "usb"); }
Status info_tlb(HmpContext& c, Arguments) { return describe(c, "tlb"); }
Status info_ram_blocks(HmpContext& c, Arguments) { return describe(c, "ramblock"); }
Status info_roms(HmpContext& c, Arguments) { return describe(c, "roms"); }
Status info_pic(HmpContext& c, Arguments) { return describe(c, "pic"); }
Status info_lapic(HmpContext& c, Arguments) { return describe(c, "lapic"); }
Status info_irq(HmpContext& c, Arguments) { return describe(c, "irq"); }

constexpr HmpCommand kInfo[] = {
    {"accelerator|jit", "", "show the accelerator and its counters", info_accelerator},
    {"balloon", "", "show balloon information", info_balloon},
    {"block", "[-n] [-v] [device]", "show the block devices", hmp_info_block},
    {"block-jobs", "", "show the block jobs", hmp_info_block_jobs},
    {"blockstats", "", "show what block devices have done", hmp_info_blockstats},
    {"capture", "", "show capture information", hmp_nothing},
    {"chardev", "", "show the character devices", info_chardev},
    {"cpus", "", "show infos for each CPU", info_cpus},
    {"dump", "", "display the latest dump status", hmp_info_dump},
    {"history", "", "show the command line history", info_history},
    {"hotpluggable-cpus", "", "show the CPUs and their places", hmp_info_hotpluggable_cpus},
    {"iothreads", "", "show iothreads", hmp_info_iothreads},
    {"irq", "", "show the interrupts statistics", info_irq},
    {"kvm", "", "show KVM information", info_kvm},
    {"lapic", "", "show local apic state", info_lapic},
    {"mem", "", "show the active virtual memory mappings", info_mem},
    {"memdev", "", "show memory backends", hmp_info_memory_backends},
    {"memory-devices", "", "show memory devices", hmp_nothing},
    {"memory_size_summary", "", "show the amount of memory", hmp_info_memory_size},
    {"mice", "", "show which guest mouse is receiving events", info_mice},
    {"mtree", "", "show memory tree", info_mtree},
    {"name", "", "show the current VM name", info_name},
    {"network", "", "show the network state", info_network},
    {"numa", "", "show NUMA information", info_numa},
    {"pci", "", "show PCI info", hmp_info_pci},
    {"pic", "", "show PIC state", info_pic},
    {"qdm", "", "show qdev device model list", hmp_info_device_types},
    {"qom-tree", "[path]", "show the objects", hmp_qom_tree},
    {"qtree", "", "show device tree", info_qtree},
    {"ramblock", "", "show the blocks of memory that the guest reaches", info_ram_blocks},
    {"registers", "[-a|vcpu]", "show the cpu registers (-a: of every CPU)", info_registers},
    {"replay", "", "show record/replay information", info_replay},
    {"roms", "", "show roms", info_roms},
    {"screen", "", "show the characters of a screen in text mode", info_screen},
    {"snapshots", "", "show the snapshots in disks", hmp_info_snapshots},
    {"stats", "target [names] [provider]", "show what the accelerator measures", hmp_info_statistics},
    {"status", "", "show the current VM status (running|paused)", info_status},
    {"tlb", "", "show virtual to physical memory mappings", info_tlb},
    {"tpm", "", "show the TPM", hmp_info_tpm},
    {"trace-events", "[name]", "show available trace-events and their state", hmp_nothing},
    {"usb", "", "show guest USB devices", info_usb},
    {"usbhost", "", "show host USB devices that guests have", hmp_nothing},
    {"usernet", "", "show the state of user networks", hmp_info_usernet},
    {"uuid", "", "show the current VM UUID", info_uuid},
    {"version", "", "show the version", info_version},
    {"virtio", "", "list all available virtio devices", hmp_info_virtio},
    {"vm-generation-id", "", "show the VM generation ID", hmp_info_generation},
    {"vnc", "", "show the vnc server status", info_vnc},
};

}  // namespace

std::span<const HmpCommand> hmp_info_commands() { return kInfo; }

}  // namespace atl::control
