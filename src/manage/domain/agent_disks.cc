#include "manage/domain/agent_disks.h"

#include <nlohmann/json.hpp>

#include "manage/domain/addresses.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

i64 number(const Json& object, const char* key) {
  auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_number_integer() ? found->get<i64>() : -1;
}

bool is_at(const Element& device, const Json& pci) {
  auto place = pci_address(device);
  if (!place || !*place) return false;
  return (*place)->domain == number(pci, "domain") && (*place)->bus == number(pci, "bus") && (*place)->slot == number(pci, "slot") &&
         (*place)->function == number(pci, "function");
}

const Element* controller_of(const Element& domain, const Element& disk) {
  for (const Element* controller : devices_of(domain).children("controller"))
    if (controller->attribute("type") == at(disk, "target", "bus") && controller->attribute("index") == at(disk, "address", "controller"))
      return controller;
  return nullptr;
}

}  // namespace

std::string disk_of_guest(const Element& domain, const Json& address) {
  const Json pci = address.is_object() ? address.value("pci-controller", Json::object()) : Json::object();
  for (const Element* disk : devices_of(domain).children("disk")) {
    const std::string target = at(*disk, "target", "dev");
    if (at(*disk, "address", "type") == "pci" && is_at(*disk, pci)) return target;
    if (at(*disk, "address", "type") != "drive") continue;
    const Element* controller = controller_of(domain, *disk);
    if (!controller || !is_at(*controller, pci)) continue;
    if (number_at(*disk, "address", "bus").value_or(0) == static_cast<u64>(number(address, "bus")) &&
        number_at(*disk, "address", "unit").value_or(0) == static_cast<u64>(number(address, "unit")))
      return target;
  }
  return {};
}

}  // namespace atl::manage
