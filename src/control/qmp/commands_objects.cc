// The object model: what QEMU's clients look through with qom-list and qom-get.
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/machine_types.h"
#include "control/cmdline/board_parts.h"
#include "control/cmdline/help.h"
#include "control/cmdline/translate.h"
#include "control/qmp/command.h"
#include "control/qmp/object_tree.h"
#include "cpu/cpuid.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;
using Reply = Result<Json>;

Error no_object(std::string_view path) { return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", path)); }
Error no_property(const ObjectNode& node, std::string_view name) {
  return Error(ErrorKind::Invalid, fmt::format("Property '{}.{}' not found", node.type, name));
}

/// Finds an object and calls `body` with it; its error is that there is none.
template <class F>
Reply with_object(QmpContext& c, const Json& arguments, F body) {
  const auto& path = arguments["path"].get_ref<const std::string&>();
  const ObjectNode root = object_tree(c.vm);
  const ObjectNode* node = find_object(root, path);
  if (!node) return no_object(path);
  return body(*node);
}

Reply qom_list(QmpContext& c, const Json& arguments) {
  return with_object(c, arguments, [](const ObjectNode& node) -> Reply {
    Json list = Json::array({{{"name", "type"}, {"type", "string"}}});
    for (const auto& p : node.properties) list.push_back({{"name", p.name}, {"type", p.type}});
    for (const auto& child : node.children) list.push_back({{"name", child.name}, {"type", fmt::format("child<{}>", child.type)}});
    return list;
  });
}

Reply qom_get(QmpContext& c, const Json& arguments) {
  const auto& name = arguments["property"].get_ref<const std::string&>();
  return with_object(c, arguments, [&](const ObjectNode& node) -> Reply {
    if (name == "type") return Json(node.type);
    if (const auto* property = node.find_property(name)) return property->value;
    return no_property(node, name);
  });
}

/// The one property that can change while a VM runs.
constexpr std::string_view kStatisticsInterval = "guest-stats-polling-interval";

Reply qom_set(QmpContext& c, const Json& arguments) {
  const auto& name = arguments["property"].get_ref<const std::string&>();
  return with_object(c, arguments, [&](const ObjectNode& node) -> Reply {
    if (!node.find_property(name) && name != "type") return no_property(node, name);
    if (name != kStatisticsInterval)
      return Error(ErrorKind::Invalid, fmt::format("Property '{}.{}' is not writable", node.type, name));
    const Json& value = arguments["value"];
    if (!value.is_number_integer() || value.get<i64>() < 0 || value.get<i64>() > 0xffffffff)
      return Error(ErrorKind::Invalid, fmt::format("Parameter '{}' expects uint32_t", name));
    TRY(c.vm.machine().set_statistics_interval(value.get<u32>()));
    return Json::object();
  });
}

Json type_entry(std::string name, std::string_view parent) { return {{"name", std::move(name)}, {"parent", parent}}; }

/// The types that a VM can be made of; what stands above them has names only.
Json concrete_types() {
  Json list = Json::array();
  for (const auto& spec : machine::device_specs())
    list.push_back(type_entry(std::string(spec.type), spec.bus == "PCI" ? "pci-device" : "device"));
  for (const MachineType& board : machine_types()) list.push_back(type_entry(fmt::format("{}-machine", board.name), "machine"));
  for (const auto& model : cpu::cpu_model_names()) list.push_back(type_entry(model + "-x86_64-cpu", "x86_64-cpu"));
  std::string_view part;
  for (const auto& p : board_part_properties())
    if (p.part != std::exchange(part, p.part)) list.push_back(type_entry(std::string(p.part), "device"));
  for (std::string_view accelerator : {"kvm-accel", "tcg-accel"}) list.push_back(type_entry(std::string(accelerator), "accel"));
  for (auto object : user_creatable_objects()) list.push_back(type_entry(std::string(object), "object"));
  return list;
}

/// The abstract types with their parents, up to "object".
constexpr std::pair<std::string_view, std::string_view> kParents[] = {
    {"pci-device", "device"}, {"x86_64-cpu", "cpu"}, {"cpu", "device"}, {"device", "object"}, {"machine", "object"}, {"accel", "object"}, {"object", ""}};

Json abstract_types() {
  Json list = Json::array();
  for (auto [name, parent] : kParents) {
    Json entry = {{"name", name}, {"abstract", true}};
    if (!parent.empty()) entry["parent"] = parent;
    list.push_back(std::move(entry));
  }
  return list;
}

bool implements(const Json& type, std::string_view wanted) {
  if (type["name"] == wanted) return true;
  const std::string parent = text_argument(type, "parent");
  for (std::string_view at = parent; !at.empty();) {
    if (at == wanted) return true;
    auto above = std::ranges::find(kParents, at, &std::pair<std::string_view, std::string_view>::first);
    at = above == std::end(kParents) ? std::string_view() : above->second;
  }
  return false;
}

Reply qom_list_types(QmpContext&, const Json& arguments) {
  const std::string wanted = text_argument(arguments, "implements", "object");
  Json list = Json::array();
  for (const Json& type : concrete_types())
    if (implements(type, wanted)) list.push_back(type);
  if (arguments.value("abstract", Json(false)) == true)
    for (const Json& type : abstract_types())
      if (implements(type, wanted)) list.push_back(type);
  return list;
}

Json device_type_properties(const machine::DeviceSpec& spec) {
  Json list = Json::array({{{"name", "type"}, {"type", "string"}}, {{"name", "realized"}, {"type", "bool"}},
                           {{"name", "hotpluggable"}, {"type", "bool"}}});
  for (const auto& p : spec.properties)
    list.push_back({{"name", p.name}, {"type", property_type_name(p.type)}, {"description", p.description}});
  return list;
}

Reply qom_list_properties(QmpContext& c, const Json& arguments) {
  const auto& name = arguments["typename"].get_ref<const std::string&>();
  if (const auto* spec = machine::find_device_spec(name)) return device_type_properties(*spec);
  if (Json list = board_part_list(name); !list.empty()) return list;
  const ObjectNode root = object_tree(c.vm);
  for (const auto& path : {"/machine", "/machine/unattached/device[0]"}) {
    const ObjectNode* node = find_object(root, path);
    if (!node || (node->type != name && !(name.ends_with("-x86_64-cpu") && node->type.ends_with("-x86_64-cpu")))) continue;
    Json list = Json::array({{{"name", "type"}, {"type", "string"}}});
    for (const auto& p : node->properties) list.push_back({{"name", p.name}, {"type", p.type}});
    return list;
  }
  for (const Json& type : concrete_types())
    if (type["name"] == name) return Json::array({{{"name", "type"}, {"type", "string"}}});
  return Error(ErrorKind::NotFound, fmt::format("Class '{}' not found", name));
}

/// Of devices only, and not of what stands above them.
Reply device_list_properties(QmpContext& c, const Json& arguments) {
  const auto& name = arguments["typename"].get_ref<const std::string&>();
  for (auto [type, parent] : kParents)
    if (type == name) return Error(ErrorKind::Invalid, "Parameter 'typename' expects a non-abstract device type");
  const std::string type = board_device_name(name, c.vm.config().board);
  for (const Json& known : concrete_types()) {
    if (known["name"] != type) continue;
    if (!implements(known, "device")) return Error(ErrorKind::Invalid, "Parameter 'typename' expects a non-abstract device type");
    Json list = TRY(qom_list_properties(c, {{"typename", type}}));
    std::erase_if(list.get_ref<Json::array_t&>(), [](const Json& p) { return p["name"] == "type" || p["name"] == "realized" || p["name"] == "hotpluggable"; });
    return list;
  }
  return Error(ErrorKind::NotFound, fmt::format("Device '{}' not found", name));
}

constexpr QmpCommand kCommands[] = {
    {"device-list-properties", "typename:s", device_list_properties, "DeviceNotFound"},
    {"qom-list", "path:s", qom_list, "DeviceNotFound"},
    {"qom-get", "path:s property:s", qom_get, "DeviceNotFound"},
    {"qom-set", "path:s property:s value:v", qom_set, "DeviceNotFound"},
    {"qom-list-types", "implements?:s abstract?:b", qom_list_types},
    {"qom-list-properties", "typename:s", qom_list_properties, "DeviceNotFound"},
};

}  // namespace

std::span<const QmpCommand> object_commands() { return kCommands; }

}  // namespace atl::control
