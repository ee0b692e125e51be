// The objects of a VM as QEMU's object model presents them to clients: a tree of paths with typed properties, made anew for
// each question. Shown: the machine, its vCPUs, the devices that were asked for and by type those of the board, back-end objects, character
// back ends. Missing: buses and memory regions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "control/vm_control.h"
#include "machine/device_table.h"

namespace atl::control {

struct ObjectProperty {
  std::string name, type;
  nlohmann::json value;
};

struct ObjectNode {
  std::string name, type;
  std::vector<ObjectProperty> properties;
  std::vector<ObjectNode> children;

  const ObjectProperty* find_property(std::string_view property) const;
};

/// Control thread.
ObjectNode object_tree(VmControl& vm);
/// Properties of a part of a board, by its type's name; empty if there is no such part.
nlohmann::json board_part_list(std::string_view part);

/// By an absolute path, or by the end of one ("net0", "peripheral/net0") that fits one object only; nullptr otherwise.
const ObjectNode* find_object(const ObjectNode& root, std::string_view path);

/// The names of memory statistics, "stat-free-memory" and the like, by the virtio specification's tags.
nlohmann::json memory_statistics_json(const machine::MemoryStatistics& statistics);

}  // namespace atl::control
