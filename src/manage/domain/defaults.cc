// Defaults of everything but devices: name, UUID, memory, vCPUs, machine, features, clock, what happens at the end.
#include <algorithm>

#include <fmt/format.h>

#include "base/machine_types.h"
#include "manage/domain/definition.h"
#include "manage/domain/numa_cells.h"

namespace atl::manage {
namespace {

constexpr u64 kMaxVcpus = 255;

/// Memory in KiB, whatever unit it came in.
Status normalise_memory(Element& element) {
  const u64 bytes = TRY(xml::size_text(element, "KiB"));
  const u64 kib = bytes / kKiB + (bytes % kKiB != 0);
  element.set("unit", "KiB");
  element.set_text(std::to_string(kib));
  return {};
}

Status fill_memory(Element& domain) {
  Element* memory = domain.child("memory");
  if (!memory) return xml_error("missing memory element");
  TRY(normalise_memory(*memory));
  const u64 total = kib_at(domain, "memory");
  if (total == 0) return xml_error("Memory size must be specified via <memory> or in the <numa> configuration");
  Element& current = ensure(domain, "currentMemory");
  if (current.text().empty()) current.set_text(std::to_string(total));
  TRY(normalise_memory(current));
  if (kib_at(domain, "currentMemory") > total) current.set_text(std::to_string(total));
  return {};
}

Status fill_vcpus(Element& domain) {
  Element& vcpu = ensure(domain, "vcpu");
  const std::string text(trim(vcpu.text()));
  auto count = parse_u64(text.empty() ? "1" : text);
  if (!count || *count == 0) return xml_error(fmt::format("maximum vcpus count must be an integer, not '{}'", text));
  if (*count > kMaxVcpus) return config_unsupported(fmt::format("Maximum CPUs greater than specified machine type limit {}", kMaxVcpus));
  set_default(vcpu, "placement", "static");
  vcpu.set_text(std::to_string(*count));
  auto current = parse_u64(vcpu.attribute("current"));
  if (current && (*current == 0 || *current > *count))
    return xml_error(fmt::format("maxvcpus must not be less than current vcpus ({} < {})", *count, *current));
  if (current && *current == *count) vcpu.remove_attribute("current");
  return {};
}

Status fill_type(Element& domain) {
  set_default(domain, "type", "kvm");
  const std::string type = domain.attribute("type");
  if (type == "kvm" || type == "qemu") return {};
  return config_unsupported(fmt::format("could not find capabilities for domaintype={}", type));
}

Status fill_os(Element& domain) {
  Element* os = domain.child("os");
  Element* type = os ? os->child("type") : nullptr;
  if (!type) return xml_error("an os <type> must be specified");
  if (const std::string text(trim(type->text())); text != "hvm")
    return config_unsupported(fmt::format("could not find capabilities for ostype={}", text));
  set_default(*type, "arch", "x86_64");
  if (const std::string arch = type->attribute("arch"); arch != "x86_64" && arch != "i686")
    return config_unsupported(fmt::format("could not find capabilities for arch={}", arch));
  set_default(*type, "machine", "pc");
  type->set("machine", TRY(versioned_machine(type->attribute("machine"))));
  const auto devices = devices_of(domain).children();
  const bool ordered = std::any_of(devices.begin(), devices.end(), [](const Element* d) { return d->child("boot") != nullptr; });
  if (ordered && os->child("boot")) return config_unsupported("per-device boot elements cannot be used together with os/boot elements");
  if (!ordered && !os->child("boot")) os->add("boot").set("dev", "hd");
  return {};
}

/// libvirt's default model for a PC of this age, so that a later default does not change the VM.
void fill_cpu(Element& domain) {
  Element* cpu = domain.child("cpu");
  if (!cpu) {
    cpu = &domain.add("cpu").set("mode", "custom");
    cpu->set("match", "exact").set("check", "none").add("model", "qemu64").set("fallback", "forbid");
    return;
  }
  const bool has_model = cpu->child("model") != nullptr;
  set_default(*cpu, "mode", "custom");
  const std::string mode = cpu->attribute("mode");
  if (mode == "custom" && !has_model) cpu->add("model", "qemu64").set("fallback", "forbid");
  if (mode == "custom") set_default(*cpu, "match", "exact");
  set_default(*cpu, "check", mode == "custom" && has_model && domain.attribute("type") == "kvm" ? "partial" : "none");
  if (mode == "host-passthrough") set_default(*cpu, "migratable", "on");
  if (Element* model = cpu->child("model")) set_default(*model, "fallback", "allow");
  if (Element* topology = cpu->child("topology")) set_default(*topology, "dies", "1");
}

Status fill_lifecycle(Element& domain) {
  struct Action {
    std::string_view element, fallback;
    std::initializer_list<std::string_view> choices;
  };
  const Action kActions[] = {
      {"on_poweroff", "destroy", {"destroy", "restart", "preserve", "rename-restart"}},
      {"on_reboot", "restart", {"destroy", "restart", "preserve", "rename-restart"}},
      {"on_crash", "destroy", {"destroy", "restart", "preserve", "rename-restart", "coredump-destroy", "coredump-restart"}},
  };
  for (const auto& action : kActions) {
    Element& element = ensure(domain, action.element);
    const std::string text(trim(element.text()));
    if (text.empty()) element.set_text(action.fallback);
    else if (std::find(action.choices.begin(), action.choices.end(), text) == action.choices.end())
      return xml_error(fmt::format("unknown lifecycle action '{}' in <{}>", text, action.element));
  }
  return {};
}

Status fill_clock(Element& domain) {
  Element& clock = ensure(domain, "clock");
  set_default(clock, "offset", "utc");
  const std::string offset = clock.attribute("offset");
  if (offset == "utc" || offset == "localtime" || offset == "absolute") return {};
  if (offset == "variable") {
    set_default(clock, "adjustment", "0");
    set_default(clock, "basis", "utc");
    return {};
  }
  return config_unsupported(fmt::format("<clock offset='{}'> is not supported by atoll-vmm", offset));
}

}  // namespace

Result<std::string> versioned_machine(std::string_view name) {
  if (const MachineType* type = find_machine_type(name)) return type->name;
  return config_unsupported(fmt::format("Emulator does not support machine type '{}'", name));
}

Status fill_defaults(Element& domain) {
  TRY(fill_type(domain));
  const std::string name = TRY(xml::name_child(domain));
  const Uuid uuid = TRY(xml::uuid_child(domain));
  ensure(domain, "uuid").set_text(format_uuid(uuid));
  TRY(fill_numa(domain));
  TRY(fill_memory(domain));
  TRY(check_huge_pages(domain));
  TRY(fill_vcpus(domain));
  TRY(fill_os(domain));
  fill_cpu(domain);
  TRY(fill_clock(domain));
  return fill_lifecycle(domain);
}

}  // namespace atl::manage
