#include "manage/domain/hotplug.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "base/clock.h"
#include "manage/domain/addresses.h"
#include "manage/domain/aliases.h"
#include "manage/domain/disk_secrets.h"
#include "manage/domain/vm_parts.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;

/// Commands in order; what went well is taken back, newest first, when one fails.
class Steps {
 public:
  explicit Steps(QmpClient& monitor) : monitor_(monitor) {}
  Status run(std::string_view command, Json arguments, std::string undo_command = {}, Json undo = Json()) {
    auto done = monitor_.execute(command, std::move(arguments), kAnswer_ns);
    if (!done) return roll_back(std::move(done).error());
    if (!undo_command.empty()) undo_.emplace_back(std::move(undo_command), std::move(undo));
    return {};
  }
  Status pass(const std::string& name, int fd) {
    auto done = monitor_.execute("getfd", {{"fdname", name}}, kAnswer_ns, fd);
    if (!done) return roll_back(std::move(done).error());
    return {};
  }

 private:
  Error roll_back(Error error) {
    for (auto step = undo_.rbegin(); step != undo_.rend(); ++step) (void)monitor_.execute(step->first, step->second, kAnswer_ns);
    undo_.clear();
    return error;
  }

  QmpClient& monitor_;
  std::vector<std::pair<std::string, Json>> undo_;
};

/// A SCSI disk's controller is there, or comes first.
Status ensure_scsi(Domains& domains, Domain& domain, Element& disk) {
  if (at(disk, "target", "bus") != "scsi") return {};
  place_drive(disk);
  const std::string index = at(disk, "address", "controller");
  const Element tree = TRY(domain.current());
  for (const Element* controller : devices_of(tree).children("controller"))
    if (controller->attribute("type") == "scsi" && controller->attribute("index") == index) return {};
  Element controller("controller");
  controller.set("type", "scsi").set("index", index).set("model", "virtio-scsi");
  return attach_live(domains, domain, std::move(controller));
}

Status plug_disk(Domains& domains, RunningVm& vm, const Element& tree, Element& disk, Steps& steps) {
  const std::string kind = disk.attribute("device");
  if (kind == "cdrom" || kind == "floppy") return operation_unsupported(fmt::format("disk device='{}' cannot be hotplugged", kind));
  const std::string bus = at(disk, "target", "bus");
  if (bus == "ide" || bus == "sata" || bus == "fdc") return operation_unsupported(fmt::format("disk bus '{}' cannot be hotplugged.", bus));
  TRY(domains.prepare_disk(vm, disk));
  if (const std::string id = disk_secret_id(disk); !id.empty()) {
    const std::string value = encode_base64(TRY(domains.passphrase_of(disk)));
    TRY(steps.run("object-add", {{"qom-type", "secret"}, {"id", id}, {"data", value}, {"format", "base64"}}, "object-del", {{"id", id}}));
  }
  for (Json& node : TRY(disk_nodes(disk))) {
    const std::string name = node["node-name"];
    TRY(steps.run("blockdev-add", std::move(node), "blockdev-del", {{"node-name", name}}));
  }
  return steps.run("device_add", TRY(disk_device(tree, disk, 0)).json());
}

Status plug_card(Domains& domains, const Domain& domain, const Element& tree, Element& card, Steps& steps) {
  Handed handed;
  const std::string alias = alias_of(card);
  if (card.attribute("type") != "user") {
    PluggedTap tap = TRY(domains.plug(card, domain));
    ensure(card, "target").set("dev", tap.name);
    TRY(steps.pass("fd-" + alias, tap.fd.get()));
    handed.taps[alias] = "fd-" + alias;
  }
  const OptionList backend = TRY(net_backend(card, handed)), device = TRY(net_device(tree, card, 0));
  TRY(steps.run("netdev_add", backend.json(), "netdev_del", {{"id", "host" + alias}}));
  return steps.run("device_add", device.json());
}

Status plug_other(const Element& tree, const Element& device, Steps& steps) {
  const DeviceParts parts = TRY(other_device(tree, device, {}));
  if (parts.devices.empty()) return operation_unsupported(fmt::format("live attach of device '{}' is not supported", device.name()));
  for (const auto& object : parts.objects) {
    Json arguments = object.json();
    const std::string id = arguments["id"];
    TRY(steps.run("object-add", std::move(arguments), "object-del", {{"id", id}}));
  }
  for (const auto& options : parts.devices) TRY(steps.run("device_add", options.json()));
  return {};
}

}  // namespace

void delete_nodes(QmpClient& monitor, const Element& disk) {
  for (const auto& index : chain_indexes(disk))
    for (const auto& node : {format_node(index), storage_node(index)}) (void)monitor.execute("blockdev-del", {{"node-name", node}}, kAnswer_ns);
  if (const std::string id = disk_secret_id(disk); !id.empty()) (void)monitor.execute("object-del", {{"id", id}}, kAnswer_ns);
}

void delete_back_end(QmpClient& monitor, const Element& device) {
  const std::string alias = alias_of(device);
  if (device.name() == "disk") delete_nodes(monitor, device);
  if (device.name() == "interface") (void)monitor.execute("netdev_del", {{"id", "host" + alias}}, kAnswer_ns);
  if (device.name() == "rng") (void)monitor.execute("object-del", {{"id", "obj" + alias}}, kAnswer_ns);
}

const Element* find_device(const Element& domain, const Element& wanted) {
  for (const Element* device : devices_of(domain).children(wanted.name())) {
    if (wanted.name() == "disk" && at(*device, "target", "dev") == at(wanted, "target", "dev")) return device;
    if (wanted.name() == "interface" && at(*device, "mac", "address") == at(wanted, "mac", "address")) return device;
    if (wanted.name() == "controller" && device->attribute("type") == wanted.attribute("type") &&
        device->attribute("index") == wanted.attribute("index"))
      return device;
    if (wanted.name() == "graphics" && device->attribute("type") == wanted.attribute("type")) return device;
    const bool same_target = at(*device, "target", "name") == at(wanted, "target", "name") && at(*device, "target", "port") == at(wanted, "target", "port");
    if (wanted.name() == "channel" && same_target) return device;
    if ((wanted.name() == "rng" || wanted.name() == "memballoon" || wanted.name() == "watchdog") &&
        device->attribute("model") == wanted.attribute("model"))
      return device;
  }
  return nullptr;
}

Error missing_device(const Element& wanted) {
  if (wanted.name() == "disk") return {Code::DeviceMissing, fmt::format("no target device {}", at(wanted, "target", "dev"))};
  if (wanted.name() == "interface") return {Code::DeviceMissing, fmt::format("no device matching MAC address {} found", at(wanted, "mac", "address"))};
  return {Code::DeviceMissing, fmt::format("no matching {} device was found", wanted.name())};
}

Status check_no_clash(const Element& domain, const Element& device) {
  if (device.name() != "disk" && device.name() != "interface") return {};
  if (!find_device(domain, device)) return {};
  if (device.name() == "disk" && domain.has_attribute("id"))
    return xml_error(fmt::format("target '{0}' duplicated for disk sources '{1}' and '{1}'", at(device, "target", "dev"), at(device, "source", "file")));
  if (device.name() == "disk") return operation_invalid(fmt::format("target {} already exists", at(device, "target", "dev")));
  return operation_invalid(fmt::format("mac address {} is already in use", at(device, "mac", "address")));
}

void insert_device(Element& domain, const Element& device) {
  auto& content = devices_of(domain).content();
  const std::string bus = at(device, "target", "bus"), name = at(device, "target", "dev");
  auto place = content.end();
  for (auto other = content.end(); device.name() == "disk" && other != content.begin();) {
    --other;
    if (other->name() != "disk" || at(*other, "target", "bus") != bus) continue;
    const std::string theirs = at(*other, "target", "dev");
    const bool before = theirs.size() != name.size() ? theirs.size() < name.size() : theirs < name;  // vdz comes before vdaa
    place = before ? std::next(other) : other;
    if (before) break;
  }
  content.insert(place, device);
}

namespace {

/// The drive whose medium a client changes by attaching a disk of its name, as one did before there were updates.
bool is_medium_of_drive(const Element& tree, const Element& device) {
  const std::string kind = device.attribute("device");
  return device.name() == "disk" && (kind == "cdrom" || kind == "floppy") && find_device(tree, device);
}

}  // namespace

Status attach_live(Domains& domains, Domain& domain, Element device) {
  auto vm = domain.running();
  auto monitor = TRY(domain.monitor());
  Element tree = TRY(domain.current());
  if (is_medium_of_drive(tree, device)) return update_live(domains, domain, std::move(device));
  if (device.name() == "disk") {
    TRY(check_no_clash(tree, device));
    TRY(ensure_scsi(domains, domain, device));
    tree = TRY(domain.current());
  }
  TRY(check_no_clash(tree, device));
  TRY(assign_address(tree, device));
  assign_alias(tree, device);
  Steps steps(*monitor);
  Status plugged = device.name() == "disk"        ? plug_disk(domains, *vm, tree, device, steps)
                   : device.name() == "interface" ? plug_card(domains, domain, tree, device, steps)
                                                  : plug_other(tree, device, steps);
  if (!plugged) {
    if (device.name() == "disk") domains.release_disk(*vm, device);
    if (device.name() == "interface") domains.unplug(device);
    return plugged;
  }
  domain.change_live([&](Element& now) {
    insert_device(now, device);
    put_in_order(now);
  });
  domains.save_status(domain);
  domains.events().domain(DomainEvent::DeviceAdded, domain.ref(), alias_of(device));
  return {};
}

Status detach_live(Domains&, Domain& domain, Element device) {
  auto monitor = TRY(domain.monitor());
  const Element tree = TRY(domain.current());
  const Element* found = find_device(tree, device);
  if (!found) return missing_device(device);
  const std::string kind = found->name() == "disk" ? found->attribute("device") : "";
  if (kind == "cdrom" || kind == "floppy") return operation_unsupported(fmt::format("disk device type '{}' cannot be detached", kind));
  const std::string alias = alias_of(*found);
  TRY(monitor->execute("device_del", {{"id", alias}}, kAnswer_ns));
  // The guest decides. One that is quick is waited for, so that the caller finds the device gone.
  constexpr u64 kPatience_ns = 5'000'000'000;
  const u64 deadline = monotonic_ns() + kPatience_ns;
  while (monotonic_ns() < deadline) {
    auto now = domain.live();
    const auto devices = now ? devices_of(*now).children() : std::vector<const Element*>();
    if (std::ranges::none_of(devices, [&](const Element* other) { return alias_of(*other) == alias; })) return {};
    ::usleep(10'000);
  }
  return {};
}

namespace {

/// A CD or floppy drive gets another medium, or none.
Status change_medium(Domains& domains, Domain& domain, QmpClient& monitor, const Element& disk, Element& next) {
  if (disk.attribute("device") == "disk") return operation_unsupported("disk device='disk' cannot be changed while the domain runs");
  auto vm = domain.running();
  const std::string id = alias_of(disk), old_node = disk_node(disk);
  TRY(monitor.execute("blockdev-open-tray", {{"id", id}, {"force", true}}, kAnswer_ns));
  if (!old_node.empty()) {
    TRY(monitor.execute("blockdev-remove-medium", {{"id", id}}, kAnswer_ns));
    delete_nodes(monitor, disk);
    domains.release_disk(*vm, disk);
  }
  if (next.child("source")) {
    TRY(domains.prepare_disk(*vm, next));
    for (Json& node : TRY(disk_nodes(next))) TRY(monitor.execute("blockdev-add", std::move(node), kAnswer_ns));
    TRY(monitor.execute("blockdev-insert-medium", {{"id", id}, {"node-name", disk_node(next)}}, kAnswer_ns));
  }
  TRY(monitor.execute("blockdev-close-tray", {{"id", id}}, kAnswer_ns));
  return {};
}

Status change_link(QmpClient& monitor, const Element& card, const Element& next) {
  const bool up = at(next, "link", "state") != "down";
  TRY(monitor.execute("set_link", {{"name", alias_of(card)}, {"up", up}}, kAnswer_ns));
  return {};
}

Status change_screen(QmpClient& monitor, const Element& next) {
  if (!next.has_attribute("passwd")) return {};
  TRY(monitor.execute("set_password", {{"protocol", "vnc"}, {"password", next.attribute("passwd")}}, kAnswer_ns));
  return {};
}

}  // namespace

Status update_live(Domains& domains, Domain& domain, Element device) {
  auto monitor = TRY(domain.monitor());
  Element tree = TRY(domain.current());
  Element* found = const_cast<Element*>(find_device(tree, device));
  if (!found) return missing_device(device);
  for (const char* kept : {"alias", "address"})
    if (!device.child(kept) && found->child(kept)) device.add(*found->child(kept));
  if (device.name() == "disk") TRY(change_medium(domains, domain, *monitor, *found, device));
  else if (device.name() == "interface") TRY(change_link(*monitor, *found, device));
  else if (device.name() == "graphics") TRY(change_screen(*monitor, device));
  else return operation_unsupported(fmt::format("live update of device '{}' is not supported", device.name()));
  if (device.name() == "graphics") device.set("port", found->attribute("port"));
  *found = std::move(device);
  put_in_order(tree);
  domain.set_live(std::move(tree));
  domains.save_status(domain);
  return {};
}

}  // namespace atl::manage
