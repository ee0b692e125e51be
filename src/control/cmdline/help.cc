#include "control/cmdline/help.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/machine_types.h"
#include "block/driver.h"
#include "control/version.h"
#include "cpu/cpuid.h"
#include "machine/device_table.h"

namespace atl::control {
namespace {

constexpr std::string_view kObjects[] = {
    "iothread", "memory-backend-file", "memory-backend-memfd", "memory-backend-ram", "rng-builtin", "rng-random",
    "secret", "throttle-group", "tls-creds-anon", "tls-creds-psk", "tls-creds-x509",
};

std::string device_line(const machine::DeviceSpec& spec) {
  std::string text = fmt::format("name \"{}\"", spec.type);
  if (!spec.bus.empty()) text += fmt::format(", bus {}", spec.bus);
  if (!spec.description.empty()) text += fmt::format(", desc \"{}\"", spec.description);
  return text + "\n";
}

std::string list_devices() {
  std::string text;
  std::vector<std::string_view> seen;
  for (const auto& first : machine::device_specs()) {
    if (std::find(seen.begin(), seen.end(), first.category) != seen.end()) continue;
    seen.push_back(first.category);
    text += fmt::format("{}{}:\n", text.empty() ? "" : "\n", first.category);
    for (const auto& spec : machine::device_specs())
      if (spec.category == first.category) text += device_line(spec);
  }
  return text;
}

}  // namespace

std::string version_line() {
  return fmt::format("QEMU emulator version {}.{}.{} compatible ({})\n", kQemuMajor, kQemuMinor, kQemuMicro, kPackage);
}

std::string_view property_type_name(machine::PropertyType type) {
  using machine::PropertyType;
  switch (type) {
    case PropertyType::Bool:
    case PropertyType::FixedBool: return "bool";
    case PropertyType::U16: return "uint16";
    case PropertyType::U32: return "uint32";
    case PropertyType::U64: return "uint64";
    case PropertyType::Size: return "size";
    case PropertyType::PciAddress: return "int32";
    case PropertyType::OnOffAuto: return "OnOffAuto";
    default: return "str";
  }
}

std::span<const std::string_view> user_creatable_objects() { return kObjects; }

std::string machine_help() {
  std::string text = "Supported machines are:\n";
  for (const MachineType& board : machine_types()) {
    if (!board.alias.empty()) text += fmt::format("{:<20} {} (alias of {})\n", board.alias, board.description, board.name);
    text += fmt::format("{:<20} {}{}\n", board.name, board.description, board.is_default ? " (default)" : "");
  }
  return text;
}

std::string cpu_help() {
  std::string text = "Available CPUs:\n";
  for (const auto& name : cpu::cpu_model_names()) text += fmt::format("x86 {}\n", name);
  text += "\nRecognized CPUID flags:\n";
  size_t column = 0;
  for (const auto& name : cpu::cpu_feature_names()) {
    if (column + name.size() > 74) {
      text += "\n";
      column = 0;
    }
    text += (column ? " " : "  ") + name;
    column += name.size() + 1;
  }
  return text + "\n";
}

std::string object_help() {
  return fmt::format("List of user creatable objects:\n  {}\n", fmt::join(kObjects, "\n  "));
}

std::string format_help() {
  std::vector<std::string_view> names;
  for (const block::Driver* driver : block::drivers()) names.push_back(driver->name);
  std::ranges::sort(names);
  return fmt::format("Supported formats: {}\n", fmt::join(names, " "));
}

Result<std::string> device_help(const std::string& type) {
  if (type == "help" || type == "?" || type.empty()) return list_devices();
  const auto* spec = machine::find_device_spec(type);
  if (!spec) return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", type));
  std::string text = fmt::format("{} options:\n", type);
  for (const auto& p : spec->properties) {
    std::string name = fmt::format("{}=<{}>", p.name, property_type_name(p.type));
    text += fmt::format("  {:<22} - {}", name, p.description);
    if (!p.fallback.empty()) text += fmt::format(" (default: {})", p.fallback);
    text += "\n";
  }
  return text;
}

}  // namespace atl::control
