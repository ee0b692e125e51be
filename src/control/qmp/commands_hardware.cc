// What is inside the machine: PCI, network cards, statistics of the accelerator, and monitor texts.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "control/qmp/command.h"
#include "control/qmp/statistics.h"
#include "devices/pci/info.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Reply = Result<Json>;
using devices::PciFunctionInfo;
using devices::ReceiveFilter;

// --- PCI ---

/// Places that have no address are -1.
Json region_json(const PciFunctionInfo::Region& r) {
  Json out = {{"bar", r.bar}, {"type", r.io ? "io" : "memory"}, {"address", r.address ? static_cast<i64>(*r.address) : i64{-1}}, {"size", r.size}};
  if (r.io) return out;
  out["prefetch"] = r.prefetchable;
  out["mem_type_64"] = r.wide;
  return out;
}

Json window_json(const PciFunctionInfo::Window& window) { return {{"base", window.first}, {"limit", window.last}}; }

Json functions_json(const std::vector<PciFunctionInfo>& functions);

Json bridge_json(const PciFunctionInfo::Bridge& bridge) {
  Json out = {{"bus", {{"number", bridge.primary}, {"secondary", bridge.secondary}, {"subordinate", bridge.subordinate},
                       {"io_range", window_json(bridge.io)}, {"memory_range", window_json(bridge.memory)},
                       {"prefetchable_range", window_json(bridge.prefetchable)}}}};
  if (bridge.secondary) out["devices"] = functions_json(bridge.behind);  // nobody has given it a number before
  return out;
}

Json function_json(const PciFunctionInfo& f) {
  Json out = {{"bus", f.bus}, {"slot", f.slot}, {"function", f.number}, {"qdev_id", f.id}, {"irq_pin", f.interrupt_pin},
              {"class_info", {{"class", f.class_code}}}, {"id", {{"device", f.device}, {"vendor", f.vendor}}}, {"regions", Json::array()}};
  if (auto name = devices::pci_class_name(f.class_code); !name.empty()) out["class_info"]["desc"] = name;
  if (f.interrupt_pin) out["irq"] = f.interrupt_line;
  if (!f.bridge) {
    out["id"]["subsystem"] = f.subsystem;
    out["id"]["subsystem-vendor"] = f.subsystem_vendor;
  }
  for (const auto& region : f.regions) out["regions"].push_back(region_json(region));
  if (f.bridge) out["pci_bridge"] = bridge_json(*f.bridge);
  return out;
}

Json functions_json(const std::vector<PciFunctionInfo>& functions) {
  Json list = Json::array();
  for (const auto& function : functions) list.push_back(function_json(function));
  return list;
}

Reply query_pci(QmpContext& c, const Json&) {
  const auto functions = c.vm.machine().pci_functions();
  if (functions.empty()) return Json::array();
  return Json::array({{{"bus", 0}, {"devices", functions_json(functions)}}});
}

// --- network cards ---

Json addresses_json(const std::vector<devices::MacAddress>& list) {
  Json out = Json::array();
  for (const auto& mac : list) out.push_back(devices::ethernet::mac_text(mac));
  return out;
}

Json filter_json(const machine::CardInfo& card) {
  static constexpr std::string_view kModes[] = {"normal", "none", "all"};
  auto mode = [](ReceiveFilter::Mode m) { return kModes[static_cast<size_t>(m)]; };
  const ReceiveFilter& f = card.filter;
  return {{"name", card.id}, {"promiscuous", f.promiscuous}, {"multicast", mode(f.multicast)}, {"unicast", mode(f.unicast)},
          {"vlan", mode(f.vlan)}, {"broadcast-allowed", f.broadcast}, {"multicast-overflow", f.multicast_overflow},
          {"unicast-overflow", f.unicast_overflow}, {"main-mac", devices::ethernet::mac_text(f.own)}, {"vlan-table", f.vlan_table},
          {"unicast-table", addresses_json(f.unicast_table)}, {"multicast-table", addresses_json(f.multicast_table)}};
}

bool is_card(QmpContext& c, const std::string& id) {
  const auto devices = c.vm.machine().devices();
  return std::ranges::any_of(devices, [&](const auto& info) {
    return info.config.id == id && std::ranges::any_of(info.config.properties, [](const auto& p) { return p.first == "netdev"; });
  });
}

Reply query_rx_filter(QmpContext& c, const Json& arguments) {
  const std::string wanted = text_argument(arguments, "name");
  Json list = Json::array();
  for (const auto& card : c.vm.machine().receive_filters())
    if (wanted.empty() || wanted == card.id) list.push_back(filter_json(card));
  if (!list.empty() || wanted.empty()) return list;
  if (is_card(c, wanted)) return Error(ErrorKind::Invalid, fmt::format("net client({}) doesn't support rx-filter querying", wanted));
  return Error(ErrorKind::Invalid, fmt::format("invalid net client name: {}", wanted));
}

Reply announce_self(QmpContext& c, const Json& arguments) {
  Announcements::Plan plan;
  plan.initial_ms = *number_argument(arguments, "initial");
  plan.max_ms = *number_argument(arguments, "max");
  plan.rounds = *number_argument(arguments, "rounds");
  plan.step_ms = *number_argument(arguments, "step");
  for (const Json& id : arguments.value("interfaces", Json::array())) {
    if (!id.is_string()) return Error(ErrorKind::Invalid, "Invalid parameter type for 'interfaces', expected: array of strings");
    plan.cards.push_back(id.get<std::string>());
  }
  TRY(c.vm.announcements().start(text_argument(arguments, "id"), std::move(plan)));
  return Json::object();
}

// --- statistics ---

Reply query_stats(QmpContext& c, const Json& arguments) { return statistics_json(c.vm.machine(), arguments); }
Reply query_stats_schemas(QmpContext& c, const Json& arguments) { return statistics_schemas_json(c.vm.machine(), text_argument(arguments, "provider")); }

// --- virtio ---

/// What QEMU calls the device behind a transport; "" if the type is no virtio device.
std::string_view virtio_name(std::string_view type) {
  if (!type.starts_with("virtio-")) return {};
  for (std::string_view input : {"tablet", "keyboard", "mouse"})
    if (type.substr(7).starts_with(input)) return "virtio-input";
  if (type.starts_with("virtio-vga")) return "virtio-gpu";
  return type.substr(0, std::min(type.find('-', 7), type.size()));
}

Reply query_virtio(QmpContext& c, const Json&) {
  Json list = Json::array();
  for (const auto& info : c.vm.machine().devices())
    if (auto name = virtio_name(info.config.type); !name.empty()) list.push_back({{"name", name}, {"path", info.path + "/virtio-backend"}});
  return list;
}

// --- small things ---

Reply rtc_reset_reinjection(QmpContext& c, const Json&) {
  c.vm.machine().drop_missed_ticks();
  return Json::object();
}

/// Slots for memory and processors that can be plugged: none here.
Reply query_acpi_ospm_status(QmpContext& c, const Json&) {
  if (c.vm.config().board == machine::BoardKind::None) return Error(ErrorKind::Unsupported, "command is not supported, missing ACPI device");
  return Json::array();
}

/// Nothing of a screen is shown but by VNC, which has a query of its own.
Reply query_display_options(QmpContext&, const Json&) { return Json{{"type", "none"}}; }

Reply text_of(QmpContext& c, const char* what) {
  return Json{{"human-readable-text", TRY(c.vm.machine().describe(what, 0))}};
}

Reply query_irq_text(QmpContext& c, const Json&) { return text_of(c, "irq"); }
Reply query_ram_blocks(QmpContext& c, const Json&) { return text_of(c, "ramblock"); }
Reply query_roms(QmpContext& c, const Json&) { return text_of(c, "roms"); }
Reply query_usb_text(QmpContext& c, const Json&) {
  Json text = TRY(text_of(c, "usb"));
  if (text["human-readable-text"].get_ref<const std::string&>().starts_with("USB support")) return Error(ErrorKind::Unsupported, "USB support not enabled");
  return text;
}

Reply query_numa_text(QmpContext& c, const Json&) {
  const auto& nodes = c.vm.config().numa;
  std::string text = fmt::format("{} nodes\n", nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i)
    text += fmt::format("node {0} cpus:{1}{2}\nnode {0} size: {3} MB\nnode {0} plugged: 0 MB\n", i, nodes[i].cpus.empty() ? "" : " ",
                        fmt::join(nodes[i].cpus, " "), nodes[i].bytes / kMiB);
  return Json{{"human-readable-text", std::move(text)}};
}

Reply query_translation_text(QmpContext& c, const Json&) {
  const bool idle = std::ranges::any_of(c.vm.config().accelerators, [](const auto& choice) { return choice.kind == machine::AcceleratorKind::Idle; });
  if (idle || c.vm.machine().accelerator() != "soft") return Error(ErrorKind::Unsupported, "JIT information is only available with accel=tcg");
  std::string text = fmt::format("accelerator: {}\n", c.vm.machine().accelerator());
  for (const auto& [name, value] : c.vm.machine().counters()) text += fmt::format("{:<28} {}\n", name, value);
  return Json{{"human-readable-text", std::move(text)}};
}

// --- tracing: there are no trace events ---

Reply no_trace_events(const Json& arguments, Json nothing) {
  const auto& name = arguments["name"].get_ref<const std::string&>();
  const bool pattern = name.find_first_of("*?") != std::string::npos;
  if (pattern || (arguments.contains("ignore-unavailable") && arguments["ignore-unavailable"] == true)) return nothing;
  return Error(ErrorKind::Invalid, fmt::format("unknown event \"{}\"", name));
}

Reply trace_event_get_state(QmpContext&, const Json& arguments) { return no_trace_events(arguments, Json::array()); }
Reply trace_event_set_state(QmpContext&, const Json& arguments) { return no_trace_events(arguments, Json::object()); }

constexpr QmpCommand kCommands[] = {
    {"query-pci", "", query_pci},
    {"query-rx-filter", "name?:s", query_rx_filter},
    {"announce-self", "initial:i max:i rounds:i step:i interfaces?:a id?:s", announce_self},
    {"query-stats", "target:s vcpus?:a providers?:a", query_stats},
    {"query-stats-schemas", "provider?:s", query_stats_schemas},
    {"rtc-reset-reinjection", "", rtc_reset_reinjection},
    {"query-acpi-ospm-status", "", query_acpi_ospm_status},
    {"query-display-options", "", query_display_options},
    {"x-query-irq", "", query_irq_text},
    {"x-query-jit", "", query_translation_text},
    {"x-query-numa", "", query_numa_text},
    {"x-query-ramblock", "", query_ram_blocks},
    {"x-query-roms", "", query_roms},
    {"x-query-usb", "", query_usb_text},
    {"x-query-virtio", "", query_virtio},
    {"trace-event-get-state", "name:s vcpu?:i", trace_event_get_state},
    {"trace-event-set-state", "name:s enable:b ignore-unavailable?:b vcpu?:i", trace_event_set_state},
};

}  // namespace

std::span<const QmpCommand> hardware_commands() { return kCommands; }

}  // namespace atl::control
