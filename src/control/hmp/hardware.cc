// Monitor commands that look at ports, addresses and what is in the machine.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/hmp/command.h"
#include "devices/pci/info.h"
#include "machine/device_table.h"

namespace atl::control {
namespace {

using Arguments = const HmpArguments&;
using devices::PciFunctionInfo;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Status expect_end(std::string_view text) {
  if (!text.empty()) return invalid("extraneous characters at the end of line");
  return {};
}

char width_letter(unsigned width) { return width == 1 ? 'b' : width == 2 ? 'w' : 'l'; }

}  // namespace

// --- ports ---

/// i /fmt port [index]: with an index, that is written to the port first, and the next port is read.
Status hmp_port_read(HmpContext& c, Arguments arguments) {
  const unsigned width = TRY(access_width(arguments.format));
  std::string_view text = arguments.text;
  u64 port = TRY(take_number(c, text)) & 0xffff;
  if (!text.empty()) {
    const u64 index = TRY(take_number(c, text));
    TRY(expect_end(text));
    c.vm.machine().write_bus(true, port, index & 0xff, 1);
    port = (port + 1) & 0xffff;
  }
  const u64 value = c.vm.machine().read_bus(true, port, width);
  c.output += fmt::format("port{}[0x{:04x}] = 0x{:0{}x}\n", width_letter(width), port, value, 2 * width);
  return {};
}

Status hmp_port_write(HmpContext& c, Arguments arguments) {
  const unsigned width = TRY(access_width(arguments.format));
  std::string_view text = arguments.text;
  const u64 port = TRY(take_number(c, text)) & 0xffff;
  if (text.empty()) return invalid("a value is expected");
  const u64 value = TRY(take_number(c, text));
  TRY(expect_end(text));
  c.vm.machine().write_bus(true, port, value, width);
  return {};
}

// --- addresses ---

Status hmp_linear_to_physical(HmpContext& c, Arguments arguments) {
  std::string_view text = arguments.text;
  const u64 address = TRY(take_number(c, text));
  TRY(expect_end(text));
  const auto physical = TRY(c.vm.machine().translate(c.cpu, address));
  c.output += physical ? fmt::format("gpa: {:#x}\n", *physical) : "Unmapped\n";
  return {};
}

Status hmp_physical_to_host(HmpContext& c, Arguments arguments) {
  std::string_view text = arguments.text;
  const u64 address = TRY(take_number(c, text));
  TRY(expect_end(text));
  const auto memory = c.vm.machine().guest_memory();
  const memory::RamRange* range = memory->find(address);
  if (!range) return invalid(fmt::format("No memory is mapped at address {:#x}", address));
  const auto host = reinterpret_cast<std::uintptr_t>(range->host() + (address - range->base));
  c.output += fmt::format("Host virtual address for {:#x} ({}) is {:#x}\n", address, range->block->name(), host);
  return {};
}

// --- PCI ---

namespace {

void print_region(std::string& out, const PciFunctionInfo::Region& r) {
  const u64 first = r.address.value_or(~u64{0}), last = first + r.size - 1;
  if (r.io) out += fmt::format("      BAR{}: I/O at 0x{:04x} [0x{:04x}].\n", r.bar, first, last);
  else out += fmt::format("      BAR{}: {} bit{} memory at 0x{:08x} [0x{:08x}].\n", r.bar, r.wide ? 64 : 32, r.prefetchable ? " prefetchable" : "", first, last);
}

void print_bridge(std::string& out, const PciFunctionInfo::Bridge& b) {
  out += fmt::format("      BUS {}.\n      secondary bus {}.\n      subordinate bus {}.\n", b.primary, b.secondary, b.subordinate);
  out += fmt::format("      IO range [0x{:04x}, 0x{:04x}]\n", b.io.first, b.io.last);
  out += fmt::format("      memory range [0x{:08x}, 0x{:08x}]\n", b.memory.first, b.memory.last);
  out += fmt::format("      prefetchable memory range [0x{:08x}, 0x{:08x}]\n", b.prefetchable.first, b.prefetchable.last);
}

void print_function(std::string& out, const PciFunctionInfo& f) {
  const std::string_view name = devices::pci_class_name(f.class_code);
  out += fmt::format("  Bus {:2}, device {:3}, function {}:\n", f.bus, f.slot, f.number);
  out += fmt::format("    {}: PCI device {:04x}:{:04x}\n", name.empty() ? fmt::format("Class {:04}", f.class_code) : name, f.vendor, f.device);
  if (!f.bridge) out += fmt::format("      PCI subsystem {:04x}:{:04x}\n", f.subsystem_vendor, f.subsystem);
  if (f.interrupt_pin) out += fmt::format("      IRQ {}, pin {}\n", f.interrupt_line, static_cast<char>('A' + f.interrupt_pin - 1));
  if (f.bridge) print_bridge(out, *f.bridge);
  for (const auto& region : f.regions) print_region(out, region);
  out += fmt::format("      id \"{}\"\n", f.id);
  if (!f.bridge || f.bridge->secondary == 0) return;  // nobody has given it a number before
  for (const auto& behind : f.bridge->behind) print_function(out, behind);
}

}  // namespace

Status hmp_info_pci(HmpContext& c, Arguments) {
  const auto functions = c.vm.machine().pci_functions();
  if (functions.empty()) c.output += "No PCI buses in this machine\n";
  for (const auto& function : functions) print_function(c.output, function);
  return {};
}

// --- devices ---

Status hmp_info_device_types(HmpContext& c, Arguments) {
  for (const auto& spec : machine::device_specs()) c.output += fmt::format("name \"{}\", bus {}\n", spec.type, spec.bus);
  return {};
}

Status hmp_info_virtio(HmpContext& c, Arguments) {
  const auto list = TRY(run_qmp(c, "x-query-virtio", nlohmann::json::object()));
  for (const auto& device : list)
    c.output += fmt::format("{} [{}]\n", device["path"].get<std::string>(), device["name"].get<std::string>());
  return {};
}

/// Forwarded ports are told by the networks themselves.
Status hmp_info_usernet(HmpContext& c, Arguments) {
  for (const auto& network : c.vm.machine().networks())
    if (network.backend.find("user") != std::string::npos) c.output += fmt::format("{}\n", network.backend);
  return {};
}

}  // namespace atl::control
