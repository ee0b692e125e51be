// Everything but disks, network cards and character devices.
#include <fmt/format.h>

#include "manage/domain/addresses.h"
#include "manage/domain/aliases.h"
#include "manage/domain/vm_parts.h"

namespace atl::manage {
namespace {

bool is_machine(const Element& domain, std::string_view prefix) { return at(domain, "os/type", "machine").starts_with(prefix); }

/// Buses are called by their controllers' names; a bridge's own bus has no number of its own.
std::string pci_bus(const Element& domain, u32 bus) {
  if (bus == 0) return is_machine(domain, "pc-q35") ? "pcie.0" : "pci.0";
  return fmt::format("pci.{}", bus);
}

OptionList placed(const Element& domain, const Element& device, std::string_view driver) {
  OptionList options("driver", driver);
  options.set("id", alias_of(device));
  set_bus_address(options, domain, device);
  return options;
}

// libvirt's names of USB controllers and QEMU's.
struct UsbModel {
  std::string_view model, driver;
};
constexpr UsbModel kUsbModels[] = {{"piix3-uhci", "piix3-usb-uhci"}, {"piix4-uhci", "piix4-usb-uhci"}, {"ehci", "usb-ehci"},
                                   {"qemu-xhci", "qemu-xhci"},       {"nec-xhci", "nec-usb-xhci"},     {"pci-ohci", "pci-ohci"},
                                   {"ich9-ehci1", "ich9-usb-ehci1"}, {"ich9-uhci1", "ich9-usb-uhci1"}, {"ich9-uhci2", "ich9-usb-uhci2"},
                                   {"ich9-uhci3", "ich9-usb-uhci3"}};

Result<DeviceParts> usb_controller(const Element& domain, const Element& controller) {
  const std::string model = controller.attribute("model");
  if (model == "none") return DeviceParts{};
  for (const auto& usb : kUsbModels) {
    if (usb.model != model) continue;
    if (const Element* master = controller.child("master")) {
      // Its name is that of the controller which it accompanies.
      OptionList companion("driver", usb.driver);
      companion.set("masterbus", alias_of(controller) + ".0").set("firstport", master->attribute("startport"));
      set_bus_address(companion, domain, controller);
      return DeviceParts{.devices = {companion}};
    }
    OptionList device = placed(domain, controller, usb.driver);
    device.set_if("p2", controller.attribute("ports"));
    return DeviceParts{.devices = {device}};
  }
  return config_unsupported(fmt::format("USB controller model '{}' is not supported by atoll-vmm", model));
}

Result<DeviceParts> scsi_controller(const Element& domain, const Element& controller) {
  const std::string model = controller.attribute("model");
  if (model != "virtio-scsi") {
    constexpr std::pair<std::string_view, std::string_view> kModels[] = {{"lsilogic", "lsi"}, {"lsisas1068", "mptsas1068"}, {"lsisas1078", "megasas"}};
    for (const auto& [name, driver] : kModels)
      if (name == model) return DeviceParts{.devices = {placed(domain, controller, driver)}};
    return config_unsupported(fmt::format("SCSI controller model '{}' is not supported by atoll-vmm", model));
  }
  OptionList device = placed(domain, controller, virtio_name(domain, "virtio-scsi"));
  device.set_if("num_queues", at(controller, "driver", "queues"));
  if (const std::string iothread = at(controller, "driver", "iothread"); !iothread.empty()) device.set("iothread", "iothread" + iothread);
  return DeviceParts{.devices = {device}};
}

Result<DeviceParts> controller_parts(const Element& domain, const Element& controller, const Handed&) {
  const std::string type = controller.attribute("type"), index = controller.attribute("index");
  const bool first = index == "0";
  if (type == "usb") return usb_controller(domain, controller);
  if (type == "scsi") return scsi_controller(domain, controller);
  if (type == "virtio-serial") return DeviceParts{.devices = {placed(domain, controller, virtio_name(domain, "virtio-serial"))}};
  if (type == "sata" && !(first && is_machine(domain, "pc-q35"))) return DeviceParts{.devices = {placed(domain, controller, "ich9-ahci")}};
  if (type == "ide" && !(first && is_machine(domain, "pc-i440fx")))
    return config_unsupported("IDE controllers are unsupported for this QEMU binary or machine type");
  if (type != "pci" || first) return DeviceParts{};  // the board's own
  const std::string model = controller.attribute("model");
  if (model == "pcie-to-pci-bridge") return DeviceParts{.devices = {placed(domain, controller, "pcie-pci-bridge")}};
  if (model == "pci-bridge") return DeviceParts{.devices = {placed(domain, controller, "pci-bridge").set("chassis_nr", index)}};
  if (model == "pcie-root-port") {
    OptionList device = placed(domain, controller, "pcie-root-port");
    const std::string chassis = at(controller, "target", "chassis"), port = at(controller, "target", "port");
    return DeviceParts{.devices = {device.set("chassis", chassis.empty() ? index : chassis).set_if("port", port)}};
  }
  return config_unsupported(fmt::format("PCI controller model '{}' is not supported by atoll-vmm", model));
}

Result<DeviceParts> video_parts(const Element& domain, const Element& video, const Handed&) {
  const std::string type = at(video, "model", "type");
  if (type == "none") return DeviceParts{};
  const auto address = TRY(pci_address(video));
  const u32 usual_slot = is_machine(domain, "pc-q35") ? 1 : 2;
  const bool primary = at(video, "model", "primary") == "yes";
  // The board puts its own card there.
  if (type == "vga" && primary && address && *address == PciAddress{.slot = usual_slot}) return DeviceParts{.more_options = {{"-vga", "std"}}};
  if (type == "cirrus" && primary) return DeviceParts{.devices = {placed(domain, video, "cirrus-vga")}};
  if (type == "vga") return DeviceParts{.devices = {placed(domain, video, primary ? "VGA" : "secondary-vga")}};
  if (type == "bochs") return DeviceParts{.devices = {placed(domain, video, "bochs-display")}};
  OptionList device = placed(domain, video, primary ? "virtio-vga" : "virtio-gpu-pci");
  return DeviceParts{.devices = {device.set_if("max_outputs", at(video, "model", "heads"))}};
}

Result<DeviceParts> input_parts(const Element& domain, const Element& input, const Handed&) {
  const std::string type = input.attribute("type"), bus = input.attribute("bus");
  if (bus == "ps2") return DeviceParts{};  // the keyboard controller has them
  if (bus == "virtio") {
    const std::string family = fmt::format("virtio-{}", type);
    return DeviceParts{.devices = {placed(domain, input, virtio_name(domain, family))}};
  }
  OptionList device("driver", type == "keyboard" ? "usb-kbd" : fmt::format("usb-{}", type));
  return DeviceParts{.devices = {device.set("id", alias_of(input)).set("bus", "usb.0").set("port", at(input, "address", "port"))}};
}

Result<DeviceParts> balloon_parts(const Element& domain, const Element& balloon, const Handed&) {
  if (balloon.attribute("model") == "none") return DeviceParts{};
  OptionList device = placed(domain, balloon, virtio_name(domain, "virtio-balloon"));
  if (balloon.attribute("autodeflate") == "on") device.set("deflate-on-oom", "on");
  if (balloon.attribute("freePageReporting") == "on") device.set("free-page-reporting", "on");
  device.set_if("guest-stats-polling-interval", at(balloon, "stats", "period"));
  return DeviceParts{.devices = {device}};
}

Result<DeviceParts> rng_parts(const Element& domain, const Element& rng, const Handed&) {
  const std::string alias = alias_of(rng);
  const bool builtin = at(rng, "backend", "model") == "builtin";
  OptionList object("qom-type", builtin ? "rng-builtin" : "rng-random");
  object.set("id", "obj" + alias);
  if (!builtin) object.set("filename", text_at(rng, "backend"));
  OptionList device("driver", virtio_name(domain, "virtio-rng"));
  device.set("rng", "obj" + alias).set("id", alias);
  if (const std::string bytes = at(rng, "rate", "bytes"); !bytes.empty()) {
    const std::string period = at(rng, "rate", "period");
    device.set("max-bytes", bytes).set("period", period.empty() ? "1000" : period);
  }
  set_bus_address(device, domain, rng);
  return DeviceParts{.objects = {object}, .devices = {device}};
}

Result<DeviceParts> watchdog_parts(const Element& domain, const Element& watchdog, const Handed&) {
  const std::string model = watchdog.attribute("model"), action = watchdog.attribute("action");
  DeviceParts parts;
  if (model == "i6300esb") parts.devices.push_back(placed(domain, watchdog, "i6300esb"));
  parts.more_options.emplace_back("-action", "watchdog=" + (action == "dump" ? std::string("pause") : action));
  return parts;
}

Result<DeviceParts> tpm_parts(const Element&, const Element& tpm, const Handed& handed) {
  const std::string alias = alias_of(tpm), id = "tpm-" + alias;
  OptionList channel("backend", "socket");
  channel.set("id", "chrtpm").set("path", handed.tpm.empty() ? "tpm.sock" : handed.tpm);
  DeviceParts parts;
  parts.more_options.emplace_back("-chardev", channel.text());
  parts.more_options.emplace_back("-tpmdev", fmt::format("emulator,id={},chardev=chrtpm", id));
  parts.devices.push_back(OptionList("driver", tpm.attribute("model")).set("tpmdev", id).set("id", alias));
  return parts;
}

Result<DeviceParts> panic_parts(const Element&, const Element& panic, const Handed&) {
  return DeviceParts{.devices = {OptionList("driver", "pvpanic").set("id", alias_of(panic))}};
}

Result<DeviceParts> vsock_parts(const Element& domain, const Element& vsock, const Handed& handed) {
  OptionList device("driver", is_machine(domain, "microvm") ? "vhost-vsock-device" : "vhost-vsock-pci");
  device.set("id", alias_of(vsock)).set("guest-cid", at(vsock, "cid", "address")).set_if("vhostfd", handed.vhost_vsock);
  set_bus_address(device, domain, vsock);
  return DeviceParts{.devices = {device}};
}

Result<DeviceParts> hub_parts(const Element&, const Element& hub, const Handed&) {
  return DeviceParts{.devices = {OptionList("driver", "usb-hub").set("id", alias_of(hub)).set("bus", "usb.0").set("port", at(hub, "address", "port"))}};
}

struct Composer {
  std::string_view name;
  Result<DeviceParts> (*compose)(const Element& domain, const Element& device, const Handed& handed);
};
constexpr Composer kComposers[] = {
    {"controller", controller_parts}, {"video", video_parts},       {"input", input_parts}, {"memballoon", balloon_parts}, {"rng", rng_parts},
    {"watchdog", watchdog_parts},     {"tpm", tpm_parts},           {"panic", panic_parts}, {"vsock", vsock_parts},
    {"hub", hub_parts}};

}  // namespace

void set_bus_address(OptionList& options, const Element& domain, const Element& device) {
  auto address = pci_address(device);
  if (!address || !*address) return;
  const PciAddress& place = **address;
  options.set("bus", pci_bus(domain, place.bus));
  const bool multifunction = at(device, "address", "multifunction") == "on";
  if (multifunction) options.set("multifunction", "on");
  options.set("addr", place.function ? fmt::format("0x{:x}.0x{:x}", place.slot, place.function) : fmt::format("0x{:x}", place.slot));
}

std::string virtio_name(const Element& domain, std::string_view family) {
  return fmt::format("{}-{}", family, is_machine(domain, "microvm") ? "device" : "pci");
}

Result<DeviceParts> other_device(const Element& domain, const Element& device, const Handed& handed) {
  for (const auto& composer : kComposers)
    if (composer.name == device.name()) return composer.compose(domain, device, handed);
  return DeviceParts{};
}

}  // namespace atl::manage
