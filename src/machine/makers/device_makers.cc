#include "machine/makers/device_makers.h"

#include <array>

#include <fmt/core.h>

#include "base/math.h"
#include "base/strings.h"
#include "devices/nic/virtio_net.h"
#include "devices/storage/ahci.h"
#include "devices/storage/nvme.h"
#include "devices/virtio/console.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/spec.h"
#include "machine/makers/display_makers.h"
#include "machine/makers/nic_makers.h"
#include "machine/makers/usb_makers.h"
#include "machine/makers/vhost_makers.h"

namespace atl::machine {

void hide_ring_features(const PropertyReader& p, devices::VirtioDevice& device) {
  u64 hidden = 0;
  if (!p.flag("event_idx")) hidden |= devices::virtio::kFeatureEventIdx;
  if (!p.flag("indirect_desc")) hidden |= devices::virtio::kFeatureIndirect;
  if (!p.flag("packed")) hidden |= devices::virtio::kFeaturePacked;
  device.hide_features(hidden);
}

using namespace devices;

Result<u16> queue_size(const PropertyReader& p, std::string_view name) {
  const u64 size = p.number(name);
  if (size < 2 || size > 1024 || (size & (size - 1))) return p.refuse(name, "must be a power of 2 between 2 and 1024");
  return static_cast<u16>(size);
}

Result<block::ErrorPolicy> error_policy(const PropertyReader& p, std::string_view name, block::ErrorPolicy of_drive) {
  using enum block::ErrorPolicy;
  const std::string_view text = p.text(name);
  if (text == "auto") return of_drive;
  if (text == "report") return Report;
  if (text == "ignore") return Ignore;
  if (text == "stop") return Stop;
  if (text == "enospc" && name == "werror") return StopOnNoSpace;
  return p.refuse(name, fmt::format("'{}' is not an action", text));
}

namespace {

Result<VirtioBlkOptions> blk_options(const Order& order, const DriveConfig& drive) {
  const PropertyReader& p = order.properties;
  VirtioBlkOptions o;
  o.serial = p.given("serial") ? std::string(p.text("serial")) : drive.serial;
  o.queues = static_cast<u16>(p.optional_number("num-queues").value_or(std::min<u32>(order.context.config.topology.cpus, 64)));
  o.queue_size = TRY(queue_size(p, "queue-size"));
  o.logical_block_bytes = static_cast<u32>(p.size("logical_block_size"));
  o.physical_block_bytes = static_cast<u32>(p.size("physical_block_size"));
  if (!p.given("physical_block_size")) o.physical_block_bytes = std::max(o.physical_block_bytes, o.logical_block_bytes);
  o.min_io_bytes = static_cast<u32>(p.number("min_io_size"));
  o.opt_io_bytes = static_cast<u32>(p.number("opt_io_size"));
  o.discard = p.flag("discard");
  o.write_zeroes = p.flag("write-zeroes");
  o.config_wce = p.flag("config-wce");
  o.write_through = p.text("write-cache") == "auto" ? drive.write_through : !p.flag("write-cache");
  o.readonly = drive.mode.readonly && !drive.snapshot;
  o.read_error = TRY(error_policy(p, "rerror", drive.read_error));
  o.write_error = TRY(error_policy(p, "werror", drive.write_error));
  o.on_error = [report = order.context.on_block_error, id = drive.id, user = order.user](const BlockError& error) {
    if (report) report(id, user, error);
  };
  return o;
}

Result<MadeDevice> make_blk(const Order& order) {
  const PropertyReader& p = order.properties;
  const std::string drive_id(p.text("drive"));
  if (drive_id.empty()) return Error(ErrorKind::Invalid, "drive property not set");
  MadeDevice made;
  made.thread = TRY(order.context.back_ends.iothread(std::string(p.text("iothread"))));
  const auto drive = TRY(order.context.back_ends.blocks().claim(drive_id, order.user, *made.thread, p.flag("share-rw")));
  if (!drive.root) return Error(ErrorKind::Invalid, "Device needs media, but drive is empty");
  VirtioBlkOptions options = TRY(blk_options(order, *drive.config));
  TRY(VirtioBlk::check(options).context(p.device().type));
  auto disk = std::make_unique<VirtioBlk>(std::move(options), *drive.root, made.thread->loop(), order.context.memory);
  made.thread->run_on([&] { drive.root->on_resized = [disk = disk.get()] { disk->size_changed(); }; });
  made.device = std::move(disk);
  return made;
}

Result<MadeDevice> make_net(const Order& order) {
  const PropertyReader& p = order.properties;
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  net::Backend* backend = nullptr;
  if (const auto chardev = TRY(order.context.back_ends.claim_vhost_user(std::string(p.text("netdev")), order.user)))
    return make_vhost_user_net(order, *chardev);
  if (!p.text("netdev").empty()) {
    backend = TRY(order.context.back_ends.claim_network(std::string(p.text("netdev")), order.user));
  }
  VirtioNetOptions options;
  options.mac = TRY(card_address(p, order.user, order.context));
  options.mtu = static_cast<u16>(p.number("host_mtu"));
  options.queue_size = TRY(queue_size(p, "rx_queue_size"));
  if (options.queue_size != TRY(queue_size(p, "tx_queue_size"))) {
    return p.refuse("tx_queue_size", "must be the same as rx_queue_size");
  }
  options.mergeable = p.flag("mrg_rxbuf");
  Loop& loop = made.thread->loop();
  made.device = made.thread->run_on([&]() -> std::unique_ptr<VirtioDevice> {
    auto card = std::make_unique<VirtioNet>(options, backend, loop, order.context.memory);
    made.set_link = [net = card.get()](bool up) { net->set_link(up); };
    made.announce = [net = card.get()] { net->announce(); };
    made.receive_filter = [net = card.get()] { return net->receive_filter(); };
    return card;
  });
  return made;
}

Result<MadeDevice> make_rng(const Order& order) {
  const PropertyReader& p = order.properties;
  const std::string id(p.text("rng"));
  const std::string path = id.empty() ? std::string("/dev/urandom") : TRY(order.context.back_ends.rng_path(id));
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  VirtioRngOptions options;
  options.source = TRY(VirtioRng::open_source(path));
  if (p.given("max-bytes")) options.max_bytes = p.number("max-bytes");
  if (p.number("period") == 0) return p.refuse("period", "must be at least 1 ms");
  options.period_ns = p.number("period") * 1'000'000;
  made.device = std::make_unique<VirtioRng>(std::move(options), made.thread->loop(), order.context.memory);
  return made;
}

Result<MadeDevice> make_balloon(const Order& order) {
  const PropertyReader& p = order.properties;
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  VirtioBalloonOptions options;
  options.ram_bytes = order.context.config.ram_bytes;
  options.deflate_on_oom = p.flag("deflate-on-oom");
  options.free_page_reporting = p.flag("free-page-reporting");
  options.on_change = order.context.on_balloon_change;
  auto balloon = std::make_unique<VirtioBalloon>(std::move(options), made.thread->loop(), order.context.memory);
  if (const u64 seconds = p.number("guest-stats-polling-interval")) {
    balloon->set_statistics_interval(seconds * 1'000'000'000);
  }
  made.balloon = balloon.get();
  made.device = std::move(balloon);
  return made;
}

Result<MadeDevice> make_serial(const Order& order) {
  const u64 ports = order.properties.number("max_ports");
  if (ports == 0 || ports > VirtioConsole::kMaxPorts)
    return order.properties.refuse("max_ports", fmt::format("must be from 1 to {}", VirtioConsole::kMaxPorts));
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  auto console = std::make_unique<VirtioConsole>(static_cast<u32>(ports), made.thread->loop(), order.context.memory);
  made.console = console.get();
  made.device = std::move(console);
  made.vectors = static_cast<unsigned>(ports + 1);  // drivers let queues share them
  return made;
}

Result<MadeDevice> make_virtio_scsi(const Order& order) {
  const PropertyReader& p = order.properties;
  MadeDevice made;
  made.thread = TRY(order.context.back_ends.iothread(std::string(p.text("iothread"))));
  VirtioScsiOptions options;
  options.queues = static_cast<u16>(std::min<u64>(p.optional_number("num_queues").value_or(order.context.config.topology.cpus), 64));
  if (options.queues == 0) return p.refuse("num_queues", "must be at least 1");
  options.queue_size = TRY(queue_size(p, "virtqueue_size"));
  auto host = std::make_unique<VirtioScsi>(options, made.thread->loop(), order.context.memory);
  made.scsi = host.get();
  made.device = std::move(host);
  return made;
}

Result<MadeDevice> make_nvme(const Order& order) {
  const PropertyReader& p = order.properties;
  const std::string drive_id(p.text("drive"));
  if (drive_id.empty()) return Error(ErrorKind::Invalid, "drive property not set");
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  const auto drive = TRY(order.context.back_ends.blocks().claim(drive_id, order.user, *made.thread, p.flag("share-rw")));
  if (!drive.root) return Error(ErrorKind::Invalid, "Device needs media, but drive is empty");
  NvmeOptions o;
  o.serial = p.given("serial") ? std::string(p.text("serial")) : drive.config->serial;
  if (o.serial.empty()) return Error(ErrorKind::Invalid, "serial property not set");
  o.block_bytes = static_cast<u32>(p.size("logical_block_size"));
  if (!is_power_of_two(o.block_bytes) || o.block_bytes < 512 || o.block_bytes > 4096)
    return p.refuse("logical_block_size", "must be a power of 2 between 512 and 4096");
  o.io_queues = static_cast<u16>(p.number("max_ioqpairs"));
  if (o.io_queues == 0 || o.io_queues >= Nvme::kMaxQueues) return p.refuse("max_ioqpairs", "must be between 1 and 64");
  o.readonly = drive.config->mode.readonly && !drive.config->snapshot;
  o.io = TRY(disk_io_options(p, *drive.config, order.user, order.context));
  auto disk = TRY(Nvme::create(order.context.vm, std::move(o), made.thread->loop(), order.context.memory));
  disk->io().set_node(drive.root);
  made.pci = std::move(disk);
  return made;
}

Result<MadeDevice> make_ahci(const Order& order) {
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  auto host = TRY(Ahci::create(order.properties.device().type, order.context.vm, made.thread->loop(), order.context.memory));
  made.ata = host.get();
  made.pci = std::move(host);
  return made;
}

Result<PlugRequest> plug_request(const PropertyReader& p) {
  PlugRequest request{.type = p.device().type, .id = p.device().id};
  if (p.has("bootindex")) {
    if (auto index = p.optional_number("bootindex")) request.boot_index = static_cast<u32>(*index);
  }
  if (find_device_spec(request.type)->bus != "PCI") return request;
  request.bus = p.text("bus");
  request.address = p.text("addr");
  request.multifunction = p.flag("multifunction");
  if (is_network_card(request.type)) {
    request.rom = TRY(option_rom_of(p));
    request.firmware_name = "ethernet";
    request.firmware_tail = "/ethernet-phy@0";
  }
  if (!request.type.starts_with("virtio-") && !request.type.starts_with("vhost-user-")) return request;
  request.modern = !p.flag("disable-modern");
  if (p.text("disable-legacy") != "auto") request.legacy = !p.flag("disable-legacy");
  if (request.type.ends_with("-transitional")) request.legacy = !request.type.ends_with("-non-transitional");
  if (!request.modern && request.legacy == false) return p.refuse("disable-modern", "device cannot work as neither modern nor legacy device");
  if (auto vectors = p.optional_number("vectors")) request.vectors = static_cast<unsigned>(*vectors);
  return request;
}

/// A board's "virtio-blk-device" and "virtio-blk-pci" are one maker's.
bool is_made_by(std::string_view type, std::string_view base) {
  if (!type.starts_with(base)) return false;
  constexpr std::string_view kForms[] = {"", "-pci", "-pci-transitional", "-pci-non-transitional", "-device"};
  return std::ranges::find(kForms, type.substr(base.size())) != std::end(kForms);
}

struct Maker {
  std::string_view base;  // the type, for virtio without its bus suffix
  Result<MadeDevice> (*make)(const Order&);
};
Result<MadeDevice> make_card(const Order& order) { return make_emulated_card(order.properties, order.user, order.context); }

template <Result<MadeDevice> (*make)(const PropertyReader&, const MakerContext&)>
Result<MadeDevice> simply(const Order& order) {
  return make(order.properties, order.context);
}

Result<MadeDevice> make_usb(const Order& order) { return make_usb_controller(order.properties, order.context); }

constexpr Maker kMakers[] = {{"i6300esb", make_watchdog},
                             {"pvpanic-pci", make_pvpanic},
                             {"pci-bridge", make_pci_bridge},
                             {"pcie-pci-bridge", make_pci_bridge},
                             {"pcie-root-port", make_pci_bridge},
                             {"virtio-blk", make_blk},
                             {"virtio-scsi", make_virtio_scsi},
                             {"nvme", make_nvme},
                             {"ahci", make_ahci},
                             {"ich9-ahci", make_ahci},
                             {"virtio-net", make_net},
                             {"vhost-user-fs", make_vhost_user_fs},
                             {"virtio-vsock", make_vsock},
                             {"vhost-vsock", refuse_kernel_vsock},
                             {"virtio-rng", make_rng},
                             {"virtio-balloon", make_balloon},
                             {"virtio-serial", make_serial},
                             {"e1000", make_card},
                             {"e1000e", make_card},
                             {"rtl8139", make_card},
                             {"piix3-usb-uhci", make_usb},
                             {"piix4-usb-uhci", make_usb},
                             {"ich9-usb-uhci1", make_usb},
                             {"ich9-usb-uhci2", make_usb},
                             {"ich9-usb-uhci3", make_usb},
                             {"ich9-usb-uhci4", make_usb},
                             {"ich9-usb-uhci5", make_usb},
                             {"ich9-usb-uhci6", make_usb},
                             {"qemu-xhci", make_usb},
                             {"nec-usb-xhci", make_usb},
                             {"virtio-gpu", simply<make_virtio_gpu>},
                             {"virtio-vga", simply<make_virtio_vga>},
                             {"virtio-keyboard", simply<make_virtio_input>},
                             {"virtio-mouse", simply<make_virtio_input>},
                             {"virtio-tablet", simply<make_virtio_input>},
                             {"VGA", simply<make_vga>},
                             {"secondary-vga", simply<make_vga>},
                             {"bochs-display", simply<make_vga>},
                             {"ich9-usb-ehci1", make_usb},
                             {"ich9-usb-ehci2", make_usb},
                             {"usb-ehci", make_usb}};

Result<MadeDevice> make(const Order& order) {
  const PropertyReader& p = order.properties;
  PlugRequest plug = TRY(plug_request(p));
  for (const Maker& maker : kMakers) {
    if (!is_made_by(p.device().type, maker.base)) continue;
    MadeDevice made = TRY(maker.make(order));
    if (!plug.vectors) plug.vectors = made.vectors;
    made.plug = std::move(plug);
    made.plug.removable = find_device_spec(p.device().type)->hotpluggable;
    if (made.device) hide_ring_features(p, *made.device);
    if (!made.thread) made.thread = &order.context.back_ends.default_thread();
    return made;
  }
  return Error(ErrorKind::NotFound, fmt::format("'{}' is not a valid device model name", p.device().type));
}

}  // namespace

Result<MadeDevice> make_device(const DeviceConfig& device, const std::string& user, const MakerContext& context) {
  auto made = make({PropertyReader(device), user, context});
  if (!made) context.back_ends.release(user);
  return made;
}

Result<VirtioConsolePort> make_console_port(const DeviceConfig& device, const MakerContext& context) {
  const PropertyReader p(device);
  VirtioConsolePort port;
  if (auto number = p.optional_number("nr")) port.number = static_cast<u32>(*number);
  port.console = device.type == "virtconsole";
  port.name = p.text("name");
  const std::string chardev(p.text("chardev"));
  if (chardev.empty()) return port;
  auto found = context.chars.find(chardev);
  if (found == context.chars.end())
    return Error(ErrorKind::NotFound, fmt::format("Property '{}.chardev' can't find value '{}'", device.type, chardev));
  port.backend = found->second;
  return port;
}

}  // namespace atl::machine
