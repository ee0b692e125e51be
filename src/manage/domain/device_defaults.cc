// Defaults inside one device element.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "manage/domain/definition.h"
#include "manage/domain/disk_secrets.h"
#include "manage/domain/iothreads.h"
#include "manage/domain/tpm.h"

namespace atl::manage {
namespace {

bool one_of(std::string_view text, std::initializer_list<std::string_view> choices) {
  return std::find(choices.begin(), choices.end(), text) != choices.end();
}

Status check_choice(const Element& element, std::string_view attribute, std::string_view value, std::initializer_list<std::string_view> choices) {
  if (one_of(value, choices)) return {};
  return xml_error(fmt::format("Invalid value for attribute '{}' in element '{}': '{}'.", attribute, element.name(), value));
}

// --- disks

/// "vda" and so on: the bus that the name suggests, as libvirt guesses.
std::string_view bus_of_name(std::string_view target) {
  struct Prefix {
    std::string_view prefix, bus;
  };
  constexpr Prefix kPrefixes[] = {{"vd", "virtio"}, {"sd", "scsi"}, {"hd", "ide"}, {"fd", "fdc"}, {"ub", "usb"}};
  for (const auto& p : kPrefixes)
    if (target.starts_with(p.prefix)) return p.bus;
  return "ide";
}

/// A prefix that libvirt knows, letters, and perhaps a partition's number: without it, nobody could tell where the disk is plugged in.
Status check_disk_name(const Element& disk) {
  constexpr std::string_view kPrefixes[] = {"fd", "hd", "vd", "sd", "xvd", "ubd"};
  const std::string name = at(disk, "target", "dev");
  for (std::string_view prefix : kPrefixes) {
    if (!name.starts_with(prefix)) continue;
    const size_t letters = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz", prefix.size());
    const bool digits = letters == std::string::npos || name.find_first_not_of("0123456789", letters) == std::string::npos;
    if (digits && letters != prefix.size() && name.size() > prefix.size()) return {};
  }
  if (disk.child("address")) return {};
  return xml_error(fmt::format("Unknown disk name '{}' and no address specified", name));
}

/// All parts of the place of a drive, in libvirt's order.
void fill_drive_address(Element& disk) {
  Element* address = disk.child("address");
  if (!address || address->attribute("type") != "drive") return;
  const Element given = *address;
  *address = Element("address");
  address->set("type", "drive");
  for (const char* part : {"controller", "bus", "target", "unit"})
    address->set(part, given.has_attribute(part) ? given.attribute(part) : std::string("0"));
}

Status fill_disk_driver(Element& disk) {
  Element& driver = ensure(disk, "driver");
  set_default(driver, "name", "qemu");
  if (driver.attribute("cache") == "default") driver.remove_attribute("cache");
  if (driver.attribute("name") != "qemu") return config_unsupported(fmt::format("unsupported driver name '{}' for disk", driver.attribute("name")));
  // Never guessed from the content, which the guest can write.
  const bool medium = disk.child("source") || disk.attribute("device") == "disk";
  if (medium) set_default(driver, "type", "raw");
  return {};
}

Status check_disk_source(const Element& disk) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kSources = {
      {{"file", "file"}, {"block", "dev"}, {"volume", "pool"}, {"network", "protocol"}}};
  const std::string type = disk.attribute("type");
  for (const auto& [kind, attribute] : kSources) {
    if (kind != type) continue;
    const Element* source = disk.child("source");
    const bool removable = disk.attribute("device") == "cdrom" || disk.attribute("device") == "floppy";
    if (removable && (!source || !source->has_attribute(attribute))) return {};
    if (source && source->has_attribute(attribute)) return {};
    return xml_error(fmt::format("missing source of disk '{}'", at(disk, "target", "dev")));
  }
  return config_unsupported(fmt::format("<disk type='{}'> is not supported by atoll-vmm", type));
}

Status fill_disk(Element& disk) {
  set_default(disk, "type", "file");
  set_default(disk, "device", "disk");
  Element* target = disk.child("target");
  if (!target || !target->has_attribute("dev")) return xml_error("Missing 'dev' attribute of <target> of <disk>");
  set_default(*target, "bus", bus_of_name(target->attribute("dev")));
  TRY(check_choice(*target, "bus", target->attribute("bus"), {"ide", "sata", "scsi", "virtio", "usb", "fdc"}));
  TRY(check_choice(disk, "device", disk.attribute("device"), {"disk", "cdrom", "floppy"}));
  TRY(check_disk_name(disk));
  if ((disk.attribute("device") == "floppy") != (target->attribute("bus") == "fdc"))
    return config_unsupported(fmt::format("Invalid bus type '{}' for {} disk", target->attribute("bus"), disk.attribute("device")));
  fill_drive_address(disk);
  TRY(check_disk_source(disk));
  TRY(fill_disk_driver(disk));
  TRY(complete_encryption(disk));
  // In the schema a source without any attribute has no meaning.
  if (Element* source = disk.child("source"); source && source->attributes().empty() && source->children().empty()) disk.remove("source");
  if (disk.attribute("device") == "cdrom") ensure(disk, "readonly");
  return {};
}

// --- network cards

Status fill_interface(Element& card) {
  if (!card.has_attribute("type")) return xml_error("missing interface type");
  const std::string type = card.attribute("type");
  Element& mac = ensure(card, "mac");
  if (!mac.has_attribute("address")) mac.set("address", xml::mac_text(xml::random_mac()));
  auto address = xml::parse_mac(mac.attribute("address"));
  if (!address) return xml_error(fmt::format("unable to parse mac address '{}'", mac.attribute("address")));
  if ((*address)[0] & 1) return xml_error(fmt::format("expected unicast mac address, found multicast '{}'", mac.attribute("address")));
  mac.set("address", xml::mac_text(*address));
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kSources = {
      {{"network", "network"}, {"bridge", "bridge"}, {"direct", "dev"}}};
  for (const auto& [kind, attribute] : kSources)
    if (kind == type && at(card, "source", attribute).empty())
      return xml_error(fmt::format("No <source> '{}' attribute specified with <interface type='{}'/>", attribute, type));
  Element& model = ensure(card, "model");
  set_default(model, "type", "rtl8139");
  if (type == "direct" && card.child("source")) set_default(*card.child("source"), "mode", "vepa");
  return {};
}

// --- character devices

Status fill_char(Element& port) {
  if (!port.has_attribute("type")) port.set("type", "pty");
  const std::string type = port.attribute("type");
  TRY(check_choice(port, "type", type, {"pty", "unix", "file", "tcp", "null", "dev", "pipe", "stdio"}));
  if (one_of(type, {"file", "dev", "pipe"}) && at(port, "source", "path").empty())
    return xml_error(fmt::format("Missing source path attribute for char device of type '{}'", type));
  if (type == "unix") set_default(ensure(port, "source"), "mode", "bind");
  if (type == "tcp") {
    Element& source = ensure(port, "source");
    set_default(source, "mode", "connect");
    if (source.attribute("host").empty() || source.attribute("service").empty())
      return xml_error("Missing source host or service attribute for char device");
    set_default(ensure(port, "protocol"), "type", "raw");
    if (at(port, "protocol", "type") != "raw")
      return config_unsupported(fmt::format("<protocol type='{}'> is not supported by atoll-vmm", at(port, "protocol", "type")));
  }
  return {};
}

Status fill_serial(Element& port) {
  TRY(fill_char(port));
  Element& target = ensure(port, "target");
  set_default(target, "type", "isa-serial");
  if (target.attribute("type") != "isa-serial")
    return config_unsupported(fmt::format("<serial> with target type '{}' is not supported by atoll-vmm", target.attribute("type")));
  Element& model = ensure(target, "model");
  set_default(model, "name", "isa-serial");
  return {};
}

Status fill_console(Element& port) {
  TRY(fill_char(port));
  set_default(ensure(port, "target"), "type", "serial");
  return check_choice(port, "target type", at(port, "target", "type"), {"serial", "virtio"});
}

Status fill_channel(Element& port) {
  if (!port.has_attribute("type")) port.set("type", "unix");
  TRY(fill_char(port));
  set_default(ensure(port, "target"), "type", "virtio");
  // A socket of our own has its place only while the domain runs.
  if (port.attribute("type") == "unix" && at(port, "source", "path").empty()) port.remove("source");
  return {};
}

// --- screen

Status fill_graphics(Element& graphics) {
  if (graphics.attribute("type") != "vnc") return xml_error("missing graphics device type");
  const std::string port = graphics.attribute("port");
  const Element* listen = graphics.child("listen");
  if (listen && listen->attribute("type") == "socket") {
    graphics.remove_attribute("port");
    graphics.remove_attribute("autoport");
    return {};
  }
  if (listen && listen->attribute("type") == "network")
    return config_unsupported("<listen type='network'> is not supported by atoll-vmm");
  if (port.empty() || port == "-1" || graphics.attribute("autoport") == "yes") {
    graphics.set("port", "-1");
    graphics.set("autoport", "yes");
  } else {
    auto number = parse_u64(port);
    if (!number || *number < 5900 || *number > 65535) return xml_error(fmt::format("cannot parse vnc port {}", port));
    set_default(graphics, "autoport", "no");
  }
  if (listen && listen->attribute("type") == "none") return {};
  std::string address = graphics.attribute("listen");
  if (listen && address.empty()) address = listen->attribute("address");
  if (!listen) graphics.add("listen").set("type", "address");
  if (!address.empty()) graphics.set("listen", address);
  if (!address.empty()) graphics.child("listen")->set("address", address);
  return {};
}

Status fill_video(Element& video) {
  Element& model = ensure(video, "model");
  set_default(model, "type", "vga");
  const std::string type = model.attribute("type");
  TRY(check_choice(video, "model", type, {"vga", "cirrus", "virtio", "bochs", "none"}));
  if (type == "none") return {};
  if (type != "virtio") set_default(model, "vram", "16384");
  set_default(model, "heads", "1");
  set_default(model, "primary", "yes");
  return {};
}

Status fill_input(Element& input) {
  TRY(check_choice(input, "type", input.attribute("type"), {"mouse", "keyboard", "tablet"}));
  set_default(input, "bus", input.attribute("type") == "tablet" ? "usb" : "ps2");
  return check_choice(input, "bus", input.attribute("bus"), {"ps2", "usb", "virtio"});
}

// --- the rest

bool is_q35(const Element& domain) { return at(domain, "os/type", "machine").starts_with("pc-q35"); }

Status fill_controller(Element& controller, const Element& domain) {
  if (!controller.has_attribute("type")) return xml_error("missing controller type");
  const std::string type = controller.attribute("type");
  TRY(check_choice(controller, "type", type, {"ide", "fdc", "scsi", "sata", "virtio-serial", "usb", "pci", "ccid"}));
  if (type == "ccid") return config_unsupported("<controller type='ccid'> is not supported by atoll-vmm");
  // A companion goes with the controller before it.
  if (!controller.has_attribute("index") && controller.child("master")) controller.set("index", "0");
  if (!controller.has_attribute("index")) {
    u64 next = 0;
    for (const Element* other : devices_of(domain).children("controller"))
      if (other->attribute("type") == type && other->has_attribute("index"))
        next = std::max(next, parse_u64(other->attribute("index")).value_or(0) + 1);
    controller.set("index", next);
  }
  if (type == "usb") set_default(controller, "model", is_q35(domain) ? "qemu-xhci" : "piix3-uhci");
  if (type == "scsi") {
    set_default(controller, "model", "virtio-scsi");
    if (controller.attribute("model") == "auto") controller.set("model", "virtio-scsi");
  }
  return {};
}

Status fill_rng(Element& rng) {
  set_default(rng, "model", "virtio");
  Element* backend = rng.child("backend");
  if (!backend) return xml_error("missing RNG device backend");
  set_default(*backend, "model", "random");
  if (backend->attribute("model") == "random" && trim(backend->text()).empty()) backend->set_text("/dev/urandom");
  return {};
}

Status fill_watchdog(Element& watchdog) {
  set_default(watchdog, "model", "i6300esb");
  set_default(watchdog, "action", "reset");
  if (const std::string model = watchdog.attribute("model"); model != "i6300esb")
    return config_unsupported(one_of(model, {"ib700", "diag288"}) ? fmt::format("watchdog model '{}' is not supported by atoll-vmm", model)
                                                                  : fmt::format("unknown watchdog model '{}'", model));
  return check_choice(watchdog, "action", watchdog.attribute("action"), {"reset", "shutdown", "poweroff", "pause", "none", "dump", "inject-nmi"});
}

Status fill_tpm(Element& tpm) {
  set_default(tpm, "model", "tpm-tis");
  Element* backend = tpm.child("backend");
  if (!backend) return xml_error("missing TPM device backend type");
  if (backend->attribute("type") == "emulator") set_default(*backend, "version", "2.0");
  return check_tpm(tpm);
}

Status fill_panic(Element& panic) {
  set_default(panic, "model", "isa");
  return check_choice(panic, "model", panic.attribute("model"), {"isa", "pvpanic"});
}

Status fill_vsock(Element& vsock) {
  set_default(vsock, "model", "virtio");
  if (!vsock.child("cid")) vsock.add("cid").set("auto", "yes");
  return {};
}

Status fill_memballoon(Element& balloon) {
  set_default(balloon, "model", "virtio");
  return {};
}

Status fill_hub(Element& hub) { return check_choice(hub, "type", hub.attribute("type"), {"usb"}); }

/// Sound goes nowhere: a VNC screen's audio that is off is all there is.
Status fill_audio(Element& audio) {
  set_default(audio, "id", "1");
  if (audio.attribute("type") == "none") return {};
  return config_unsupported(fmt::format("<audio type='{}'> is not supported by atoll-vmm", audio.attribute("type")));
}

struct Filler {
  std::string_view name;
  Status (*fill)(Element&);
};
constexpr Filler kFillers[] = {
    {"interface", fill_interface}, {"serial", fill_serial}, {"console", fill_console},
    {"channel", fill_channel}, {"graphics", fill_graphics},   {"video", fill_video},   {"input", fill_input},
    {"rng", fill_rng},         {"watchdog", fill_watchdog},   {"tpm", fill_tpm},       {"panic", fill_panic},
    {"vsock", fill_vsock},     {"memballoon", fill_memballoon},
    {"hub", fill_hub},         {"audio", fill_audio},
};

}  // namespace

namespace {

/// What of a disk depends on the rest of its domain.
Status check_disk_place(const Element& disk, const Element& domain) {
  const std::string bus = at(disk, "target", "bus"), machine = at(domain, "os/type", "machine");
  if (bus == "fdc" && !machine.starts_with("pc-i440fx")) return config_unsupported(fmt::format("floppy drives of machine '{}' are not supported by atoll-vmm", machine));
  if (disk.attribute("device") == "disk" && disk.child("readonly") && (bus == "ide" || bus == "sata"))
    return config_unsupported(fmt::format("readonly {} disks are not supported", bus));
  if (bus != "virtio" && disk.child("driver") && disk.child("driver")->has_attribute("queues"))
    return config_unsupported("queues attribute in disk driver element is only supported by virtio-blk");
  const auto thread = number_at(disk, "driver", "iothread");
  if (!thread) return {};
  if (bus != "virtio") return config_unsupported(fmt::format("IOThreads not available for bus {} target {}", bus, at(disk, "target", "dev")));
  const auto threads = iothread_ids(domain);
  if (std::ranges::find(threads, *thread) != threads.end()) return {};
  return config_unsupported(fmt::format("Disk iothread '{}' not defined in iothreadid", *thread));
}

}  // namespace

Status fill_device_defaults(Element& device, const Element& domain) {
  if (device.name() == "disk") {
    TRY(fill_disk(device));
    return check_disk_place(device, domain);
  }
  if (device.name() == "controller") return fill_controller(device, domain);
  for (const auto& filler : kFillers)
    if (filler.name == device.name()) return filler.fill(device);
  if (device.name() == "emulator") return {};
  return config_unsupported(fmt::format("device <{}> is not supported by atoll-vmm", device.name()));
}

}  // namespace atl::manage
