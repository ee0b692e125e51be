#include "manage/host/capabilities.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include <fmt/format.h>

#include "base/machine_types.h"
#include "base/strings.h"
#include "cpu/kvm/accelerator.h"
#include "manage/host/firmware_files.h"
#include "manage/host/guest_support.h"
#include "manage/uuid.h"
#include "manage/tool/run_tool.h"
#include "manage/xml/write.h"

namespace atl::manage::host {

namespace {

using xml::Element;

constexpr std::string_view yes_or_no(bool yes) { return yes ? "yes" : "no"; }

std::string cpu_list(const std::vector<u32>& cpus) {
  std::string text;
  for (u32 cpu : cpus) text += fmt::format("{}{}", text.empty() ? "" : ",", cpu);
  return text;
}

void add_cell(Element& cells, const Node& node, const NodeCell& cell) {
  Element& element = cells.add("cell").set("id", cell.id);
  element.add("memory", cell.memory_kib).set("unit", "KiB");
  for (u64 kib : node.page_kib) {
    u64 count =
        kib == 4 ? cell.memory_kib / 4 : free_pages(static_cast<u32>(kib), static_cast<i32>(cell.id)).value_or(0);
    element.add("pages", count).set("unit", "KiB").set("size", kib);
  }
  Element& distances = element.add("distances");
  for (size_t i = 0; i < cell.distances.size() && i < node.cells.size(); ++i)
    distances.add("sibling").set("id", node.cells[i].id).set("value", cell.distances[i]);
  Element& cpus = element.add("cpus").set("num", cell.cpus.size());
  for (const NodeCpu& cpu : cell.cpus)
    cpus.add("cpu")
        .set("id", cpu.id)
        .set("socket_id", cpu.socket)
        .set("die_id", cpu.die)
        .set("core_id", cpu.core)
        .set("siblings", cpu_list(cpu.siblings));
}

void add_host_cpu(Element& host, const Node& node) {
  Element& cpu = host.add("cpu");
  cpu.add("arch", node.arch);
  add_cpu(cpu, describe_cpu(host_features(), host_vendor()), false);
  cpu.add("topology")
      .set("sockets", node.sockets)
      .set("dies", u64{1})
      .set("cores", node.cores)
      .set("threads", node.threads);
  for (u64 kib : node.page_kib) cpu.add("pages").set("unit", "KiB").set("size", kib);
}

void add_security(Element& host) {
  // No label of SELinux or AppArmor; files are kept apart by their owners.
  for (std::string_view model : {"none", "dac"}) {
    Element& security = host.add("secmodel");
    security.add("model", model);
    security.add("doi", "0");
  }
}

void add_host(Element& root, const Node& node, const Uuid& uuid) {
  Element& host = root.add("host");
  host.add("uuid", format_uuid(uuid));
  add_host_cpu(host, node);
  host.add("power_management");
  host.add("iommu").set("support", yes_or_no(node.has_iommu));
  Element& cells = host.add("topology").add("cells").set("num", node.cells.size());
  for (const NodeCell& cell : node.cells) add_cell(cells, node, cell);
  add_security(host);
}

void add_guest(Element& root, std::string_view arch_name, u64 wordsize, const std::string& emulator) {
  Element& guest = root.add("guest");
  guest.add("os_type", "hvm");
  Element& arch = guest.add("arch").set("name", arch_name);
  arch.add("wordsize", wordsize);
  arch.add("emulator", emulator);
  for (const MachineType& machine : machine_types()) {
    arch.add("machine", machine.name).set("maxCpus", kMaxVcpus);
    if (!machine.alias.empty()) arch.add("machine", machine.alias).set("canonical", machine.name).set("maxCpus", kMaxVcpus);
  }
  // "kvm" falls back to the software CPU where the host cannot.
  arch.add("domain").set("type", "qemu");
  arch.add("domain").set("type", "kvm");
  Element& features = guest.add("features");
  features.add("acpi").set("default", "on").set("toggle", "yes");
  features.add("apic").set("default", "on").set("toggle", "no");
  features.add("cpuselection");
  features.add("deviceboot");
  features.add("disksnapshot").set("default", "on").set("toggle", "no");
}

void add_enum(Element& parent, std::string_view name, std::string_view values) {
  Element& element = parent.add("enum").set("name", name);
  for (std::string_view value : split(values, ' '))
    if (!value.empty()) element.add("value", value);
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

/// Firmware in flash that a guest of this kind can have.
std::vector<FirmwareFile> flash_for(std::string_view arch, std::string_view machine, std::string_view type) {
  const bool no_smm = type == "kvm" && cpu::kvm_usable(false).has_value();
  std::vector<FirmwareFile> files = firmware_files(firmware_folders());
  std::erase_if(files, [&](const FirmwareFile& file) {
    return !file.flash || !file.is("uefi") || !file.fits(arch, machine) || (no_smm && file.has("requires-smm")) || !exists(file.code);
  });
  return files;
}

void add_os(Element& root, const std::vector<FirmwareFile>& flash) {
  Element& os = root.add("os").set("supported", "yes");
  add_enum(os, "firmware", flash.empty() ? "" : "efi");
  Element& loader = os.add("loader").set("supported", "yes");
  std::set<std::string> named;
  bool secure = false;
  for (const FirmwareFile& file : flash) {
    if (named.insert(file.code).second) loader.add("value", file.code);
    secure |= file.has("requires-smm") && file.has("secure-boot");
  }
  add_enum(loader, "type", "rom pflash");
  add_enum(loader, "readonly", "yes no");
  add_enum(loader, "secure", secure ? "yes no" : "no");
}

void add_cpu_modes(Element& root, const GuestCpu& cpu) {
  Element& modes = root.add("cpu");
  auto mode = [&](std::string_view name) -> Element& {
    return modes.add("mode").set("name", name).set("supported", "yes");
  };
  add_enum(mode("host-passthrough"), "hostPassthroughMigratable", "off");
  add_enum(mode("maximum"), "maximumMigratable", "off");
  Element& host_model = mode("host-model");
  add_cpu(host_model, describe_cpu(cpu.features, host_vendor()), true);
  Element& custom = mode("custom");
  for (const cpu::CpuModel* model : named_models()) {
    bool usable = compare_cpu(cpu.features, cpu::listed_features(*model)) != Comparison::Incompatible;
    custom.add("model", model->name).set("usable", yes_or_no(usable)).set("vendor", "unknown");
  }
}

void add_devices(Element& root) {
  Element& devices = root.add("devices");
  // The schema wants this order.
  for (std::string_view group :
       {"disk", "graphics", "video", "hostdev", "rng", "filesystem", "tpm", "redirdev", "channel"}) {
    Element& element = devices.add(group);
    const bool there = group != "tpm" || !find_tool("swtpm").empty();
    for (const Choice& choice : device_choices())
      if (choice.group == group && there) add_enum(element, choice.name, choice.values);
    element.set("supported", yes_or_no(!element.children().empty()));
  }
}

void add_features(Element& root) {
  Element& features = root.add("features");
  // The schema wants this order.
  for (std::string_view name : {"gic", "vmcoreinfo", "genid", "backingStoreInput", "backup", "sev", "sgx", "hyperv"})
    features.add(name).set("supported", yes_or_no(name == "backingStoreInput" || name == "backup"));
}

}  // namespace

std::string capabilities_text(const Node& node, const Uuid& uuid, const std::string& emulator) {
  Element root("capabilities");
  add_host(root, node, uuid);
  add_guest(root, "i686", 32, emulator);
  add_guest(root, "x86_64", 64, emulator);
  return xml::write(root);
}

Result<std::string> domain_capabilities_text(const GuestKind& kind, const std::string& emulator, const GuestCpu& cpu) {
  std::string arch = kind.arch.empty() ? "x86_64" : kind.arch;
  if (arch != "x86_64" && arch != "i686") return invalid_arg(fmt::format("unknown architecture: {}", arch));
  std::string type = kind.type.empty() ? "kvm" : kind.type;
  if (type != "kvm" && type != "qemu") return invalid_arg(fmt::format("unknown virttype: {}", type));
  const MachineType* machine = find_machine_type(kind.machine.empty() ? "pc" : kind.machine);
  if (!machine)
    return invalid_arg(fmt::format("the machine '{}' is not supported by emulator '{}'", kind.machine, emulator));
  Element root("domainCapabilities");
  if (!kind.emulator.empty() && ::access(kind.emulator.c_str(), X_OK) < 0)
    return Error(Code::SystemError, fmt::format("Cannot check QEMU binary {}: {}", kind.emulator, std::strerror(errno)));
  root.add("path", kind.emulator.empty() ? emulator : kind.emulator);
  root.add("domain", type);
  root.add("machine", machine->name);
  root.add("arch", arch);
  root.add("vcpu").set("max", kMaxVcpus);
  root.add("iothreads").set("supported", "yes");
  add_os(root, flash_for(arch, machine->name, type));
  add_cpu_modes(root, cpu);
  add_enum(root.add("memoryBacking").set("supported", "yes"), "sourceType", "memfd anonymous");
  add_devices(root);
  add_features(root);
  return xml::write(root);
}

}  // namespace atl::manage::host
