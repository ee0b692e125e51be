#include "control/qmp/object_tree.h"

#include <algorithm>
#include <ctime>
#include <limits>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/key_values.h"
#include "base/strings.h"
#include "control/cmdline/board_parts.h"
#include "control/cmdline/help.h"
#include "cpu/cpu_features.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using machine::PropertyType;

ObjectProperty text(std::string name, std::string value) { return {std::move(name), "string", std::move(value)}; }
ObjectProperty flag(std::string name, bool value) { return {std::move(name), "bool", value}; }
ObjectProperty number(std::string name, std::string type, u64 value) { return {std::move(name), std::move(type), value}; }

/// Slot and function in one number, as properties of PCI devices have them; -1: the board chose.
Json place_number(std::string_view value) {
  auto place = machine::parse_pci_place(value);
  return place ? Json(place->first * 8 + place->second) : Json(-1);
}

Json property_value(PropertyType type, std::string_view value) {
  switch (type) {
    case PropertyType::Bool:
    case PropertyType::FixedBool: return parse_bool(value).value_or(false);
    case PropertyType::U16:
    case PropertyType::U32:
    case PropertyType::U64: return parse_u64(value).value_or(0);
    case PropertyType::Size: return parse_size(value).value_or(0);
    case PropertyType::PciAddress: return place_number(value);
    default: return std::string(value);
  }
}

std::string_view given_or_default(const machine::DeviceConfig& device, const machine::PropertySpec& spec) {
  std::string_view value = spec.fallback;
  for (const auto& [name, given] : device.properties)
    if (name == spec.name) value = given;
  return value;
}

void add_balloon_properties(VmControl& vm, ObjectNode& node) {
  if (auto statistics = vm.machine().memory_statistics())
    node.properties.push_back({"guest-stats", "guest statistics", memory_statistics_json(*statistics)});
}

ObjectNode device_node(VmControl& vm, const machine::DeviceInfo& info) {
  ObjectNode node{.name = info.path.substr(info.path.rfind('/') + 1), .type = info.config.type};
  node.properties = {flag("realized", true)};
  const auto* spec = machine::find_device_spec(info.config.type);
  if (!spec) return node;
  node.properties.push_back(flag("hotpluggable", spec->hotpluggable));
  for (const auto& p : spec->properties)
    node.properties.push_back({std::string(p.name), std::string(property_type_name(p.type)), property_value(p.type, given_or_default(info.config, p))});
  if (spec->type.starts_with("virtio-balloon")) add_balloon_properties(vm, node);
  return node;
}

ObjectNode container(std::string name) { return {.name = std::move(name), .type = "container"}; }

void add_devices(VmControl& vm, ObjectNode& peripheral, ObjectNode& anonymous) {
  for (const auto& info : vm.machine().devices())
    (info.config.id.empty() ? anonymous : peripheral).children.push_back(device_node(vm, info));
}

ObjectNode cpu_node(VmControl& vm, u32 index) {
  const cpu::CpuidTable& table = vm.machine().cpuid();
  ObjectNode node{.name = fmt::format("device[{}]", index), .type = fmt::format("{}-x86_64-cpu", vm.config().cpu.model)};
  node.properties = {flag("realized", true), flag("hotplugged", false), flag("hotpluggable", false)};
  const cpu::FeatureSet features(table);
  for (const auto& feature : cpu::all_features()) node.properties.push_back(flag(std::string(feature.name), features.has(feature)));
  return node;
}

/// A device that the board brings. Its properties are not told, but for those that -global knows.
ObjectNode part_node(const std::string& type, size_t index) {
  ObjectNode node{.name = fmt::format("device[{}]", index), .type = type};
  node.properties = {flag("realized", true), flag("hotplugged", false), flag("hotpluggable", false)};
  for (const auto& p : board_part_properties())
    if (p.part == type && !p.settings.contains('|')) node.properties.push_back({std::string(p.name), std::string(p.type), std::string(p.settings)});
  return node;
}

/// The clock as the guest's firmware would read it (struct tm's counting).
Json guest_time(const machine::RtcConfig& rtc) {
  std::time_t now = static_cast<std::time_t>(realtime_ns() / 1'000'000'000);
  std::tm parts{};
  if (rtc.base == machine::RtcConfig::Base::LocalTime) localtime_r(&now, &parts);
  else gmtime_r(&now, &parts);
  return {{"tm_year", parts.tm_year}, {"tm_mon", parts.tm_mon}, {"tm_mday", parts.tm_mday},
          {"tm_hour", parts.tm_hour}, {"tm_min", parts.tm_min}, {"tm_sec", parts.tm_sec}};
}

ObjectNode machine_node(VmControl& vm) {
  const machine::Config& config = vm.config();
  ObjectNode node{.name = "machine", .type = fmt::format("{}-machine", config.board_name)};
  node.properties = {text("kernel", config.boot.kernel), text("initrd", config.boot.initrd), text("append", config.boot.append),
                     text("firmware", config.boot.firmware), {"acpi", "OnOffAuto", config.acpi ? "on" : "off"},
                     flag("graphics", config.vga != machine::VgaKind::None), {"rtc-time", "struct tm", guest_time(config.rtc)}};
  ObjectNode peripheral = container("peripheral"), anonymous = container("peripheral-anon"), unattached = container("unattached");
  add_devices(vm, peripheral, anonymous);
  for (const auto& cpu : vm.machine().cpus()) unattached.children.push_back(cpu_node(vm, cpu.index));
  for (const std::string& type : vm.machine().board_parts()) unattached.children.push_back(part_node(type, unattached.children.size()));
  node.children = {std::move(peripheral), std::move(anonymous), std::move(unattached)};
  return node;
}

ObjectNode memory_node(const std::string& type, const std::string& id, u64 size_bytes, const memory::RamOptions& ram) {
  return {.name = id, .type = type, .properties = {number("size", "int", size_bytes), flag("share", ram.shared), flag("prealloc", ram.prealloc),
                                                   flag("merge", ram.merge), flag("dump", ram.dump)}};
}

ObjectNode objects_node(VmControl& vm) {
  const machine::Config& config = vm.config();
  ObjectNode node = container("objects");
  for (const auto& thread : vm.machine().iothreads()) node.children.push_back({.name = thread.id, .type = "iothread"});
  for (const auto& spare : vm.spare_memory()) node.children.push_back(memory_node(spare.type, spare.id, spare.block->size(), spare.options));
  for (const auto& rng : config.rngs)
    node.children.push_back({.name = rng.id, .type = "rng-random", .properties = {text("filename", rng.path), flag("opened", true)}});
  for (const auto& group : config.throttle_groups) node.children.push_back({.name = group.id, .type = "throttle-group"});
  for (const auto& secret : config.secrets) node.children.push_back({.name = secret.id, .type = "secret"});
  node.children.push_back(memory_node("memory-backend-ram", "pc.ram", config.ram_bytes, config.ram));
  return node;
}

ObjectNode chardevs_node(CharSet& chars) {
  ObjectNode node = container("chardevs");
  for (const Chardev* chardev : chars.all())
    node.children.push_back({.name = chardev->id(), .type = "chardev", .properties = {text("filename", chardev->describe())}});
  return node;
}

const ObjectNode* descend(const ObjectNode& from, std::string_view path) {
  const ObjectNode* node = &from;
  for (auto part : split(path, '/')) {
    if (part.empty()) continue;
    auto next = std::ranges::find(node->children, part, &ObjectNode::name);
    if (next == node->children.end()) return nullptr;
    node = &*next;
  }
  return node;
}

void find_all(const ObjectNode& from, std::string_view path, std::vector<const ObjectNode*>& found) {
  if (const auto* node = descend(from, path)) found.push_back(node);
  for (const auto& child : from.children) find_all(child, path, found);
}

}  // namespace

const ObjectProperty* ObjectNode::find_property(std::string_view property) const {
  auto at = std::ranges::find(properties, property, &ObjectProperty::name);
  return at == properties.end() ? nullptr : &*at;
}

ObjectNode object_tree(VmControl& vm) {
  ObjectNode root = container("");
  root.children = {machine_node(vm), objects_node(vm), chardevs_node(vm.chars())};
  return root;
}

Json board_part_list(std::string_view part) {
  Json list = Json::array();
  for (const auto& p : board_part_properties())
    if (p.part == part) list.push_back({{"name", p.name}, {"type", p.type}});
  return list;
}

const ObjectNode* find_object(const ObjectNode& root, std::string_view path) {
  if (path.starts_with('/')) return descend(root, path);
  std::vector<const ObjectNode*> found;
  if (!path.empty()) find_all(root, path, found);
  return found.size() == 1 ? found.front() : nullptr;
}

Json memory_statistics_json(const machine::MemoryStatistics& statistics) {
  static constexpr std::string_view kNames[] = {"stat-swap-in", "stat-swap-out", "stat-major-faults", "stat-minor-faults",
                                                "stat-free-memory", "stat-total-memory", "stat-available-memory",
                                                "stat-disk-caches", "stat-htlb-pgalloc", "stat-htlb-pgfail"};
  Json values = Json::object();
  for (u16 tag = 0; tag < std::size(kNames); ++tag) {
    auto at = statistics.values.find(tag);
    values[kNames[tag]] = at == statistics.values.end() ? std::numeric_limits<u64>::max() : at->second;
  }
  return {{"stats", std::move(values)}, {"last-update", statistics.update_s}};
}

}  // namespace atl::control
