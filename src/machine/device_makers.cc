#include "machine/device_makers.h"

#include <array>

#include <fmt/core.h>

#include "base/strings.h"
#include "devices/nic/virtio_net.h"
#include "devices/virtio/console.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/spec.h"
#include "machine/property_reader.h"

namespace atl::machine {
namespace {

using namespace devices;

/// All that one maker works on.
struct Order {
  PropertyReader properties;
  const std::string& user;
  std::span<const DeviceConfig> ports;
  const MakerContext& context;
};

Result<u16> queue_size(const PropertyReader& p, std::string_view name) {
  const u64 size = p.number(name);
  if (size < 2 || size > 1024 || (size & (size - 1))) return p.refuse(name, "must be a power of 2 between 2 and 1024");
  return static_cast<u16>(size);
}

/// "auto" leaves what the drive says.
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
  VirtioBlkOptions options = TRY(blk_options(order, *drive.config));
  TRY(VirtioBlk::check(options).context(p.device().type));
  auto disk = std::make_unique<VirtioBlk>(std::move(options), *drive.root, made.thread->loop(), order.context.memory);
  made.thread->run_on([&] { drive.root->on_resized = [disk = disk.get()] { disk->size_changed(); }; });
  made.device = std::move(disk);
  return made;
}

/// QEMU's default addresses: 52:54:00:12:34:56 and up, in the order of devices.
MacAddress default_mac(const MakerContext& context, const std::string& user) {
  u8 index = 0;
  for (const auto& network : context.back_ends.networks()) {
    if (network.user == user) break;
    ++index;
  }
  return {0x52, 0x54, 0x00, 0x12, 0x34, static_cast<u8>(0x56 + index)};
}

Result<MacAddress> mac_address(const PropertyReader& p) {
  MacAddress mac{};
  size_t i = 0;
  for (std::string_view part : split(p.text("mac"), ':')) mac[i++] = static_cast<u8>(*parse_hex(part));
  if (mac[0] & 1) return p.refuse("mac", "a multicast address cannot be a NIC's own");
  return mac;
}

Result<MadeDevice> make_net(const Order& order) {
  const PropertyReader& p = order.properties;
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  net::Backend* backend = nullptr;
  if (!p.text("netdev").empty()) {
    backend = TRY(order.context.back_ends.claim_network(std::string(p.text("netdev")), order.user));
  }
  VirtioNetOptions options;
  options.mac = p.given("mac") ? TRY(mac_address(p)) : default_mac(order.context, order.user);
  options.mtu = static_cast<u16>(p.number("host_mtu"));
  options.queue_size = TRY(queue_size(p, "rx_queue_size"));
  if (options.queue_size != TRY(queue_size(p, "tx_queue_size"))) {
    return p.refuse("tx_queue_size", "must be the same as rx_queue_size");
  }
  options.mergeable = p.flag("mrg_rxbuf");
  Loop& loop = made.thread->loop();
  made.device = made.thread->run_on([&]() -> std::unique_ptr<VirtioDevice> {
    return std::make_unique<VirtioNet>(options, backend, loop, order.context.memory);
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

Result<VirtioConsolePort> console_port(const DeviceConfig& device, u32 next_free, const MakerContext& context) {
  const PropertyReader p(device);
  VirtioConsolePort port;
  port.number = static_cast<u32>(p.optional_number("nr").value_or(next_free));
  port.console = device.type == "virtconsole";
  port.name = p.text("name");
  const std::string chardev(p.text("chardev"));
  if (chardev.empty()) return port;
  auto found = context.chars.find(chardev);
  if (found == context.chars.end()) {
    return Error(ErrorKind::NotFound, fmt::format("Property '{}.chardev' can't find value '{}'", device.type, chardev));
  }
  port.backend = found->second;
  return port;
}

Result<MadeDevice> make_serial(const Order& order) {
  VirtioConsoleOptions options;
  options.max_ports = static_cast<u32>(order.properties.number("max_ports"));
  u32 next = 0;
  for (const DeviceConfig& device : order.ports) {
    // Port 0 is a console's; a serial port without a number begins at 1.
    if (next == 0 && device.type == "virtserialport") next = 1;
    options.ports.push_back(TRY(console_port(device, next, order.context)));
    next = options.ports.back().number + 1;
  }
  MadeDevice made;
  made.thread = &order.context.back_ends.default_thread();
  made.device = TRY(VirtioConsole::create(std::move(options), made.thread->loop(), order.context.memory));
  return made;
}

void hide_ring_features(const PropertyReader& p, VirtioDevice& device) {
  u64 hidden = 0;
  if (!p.flag("event_idx")) hidden |= virtio::kFeatureEventIdx;
  if (!p.flag("indirect_desc")) hidden |= virtio::kFeatureIndirect;
  if (!p.flag("packed")) hidden |= virtio::kFeaturePacked;
  device.hide_features(hidden);
}

Result<PlugRequest> plug_request(const PropertyReader& p) {
  PlugRequest request{.type = p.device().type, .id = p.device().id};
  if (request.type.starts_with("virtio-blk") || request.type.starts_with("virtio-net")) {
    if (auto index = p.optional_number("bootindex")) request.boot_index = static_cast<u32>(*index);
  }
  if (!request.type.ends_with("-pci")) return request;
  if (p.text("disable-legacy") == "off") return p.refuse("disable-legacy", "the legacy interface is not implemented");
  if (p.flag("disable-modern")) return p.refuse("disable-modern", "the modern interface is the only one");
  if (!p.text("bus").empty() && p.text("bus") != "pci.0") {
    return Error(ErrorKind::NotFound, fmt::format("Bus '{}' not found", p.text("bus")));
  }
  request.address = p.text("addr");
  if (auto vectors = p.optional_number("vectors")) request.vectors = static_cast<unsigned>(*vectors);
  return request;
}

struct Maker {
  std::string_view base;  // the type without its bus suffix
  Result<MadeDevice> (*make)(const Order&);
};
constexpr std::array<Maker, 5> kMakers = {{{"virtio-blk", make_blk},
                                           {"virtio-net", make_net},
                                           {"virtio-rng", make_rng},
                                           {"virtio-balloon", make_balloon},
                                           {"virtio-serial", make_serial}}};

Result<MadeDevice> make(const Order& order) {
  const PropertyReader& p = order.properties;
  PlugRequest plug = TRY(plug_request(p));
  for (const Maker& maker : kMakers) {
    if (!p.device().type.starts_with(maker.base)) continue;
    MadeDevice made = TRY(maker.make(order));
    made.plug = std::move(plug);
    hide_ring_features(p, *made.device);
    return made;
  }
  return Error(ErrorKind::NotFound, fmt::format("'{}' is not a valid device model name", p.device().type));
}

}  // namespace

Result<MadeDevice> make_virtio_device(const DeviceConfig& device, const std::string& user, std::span<const DeviceConfig> ports,
                                      const MakerContext& context) {
  auto made = make({PropertyReader(device), user, ports, context});
  if (!made) context.back_ends.release(user);
  return made;
}

bool is_console_port(std::string_view type) { return type == "virtconsole" || type == "virtserialport"; }

bool belongs_to(const DeviceConfig& port, const std::string& controller_id, bool first) {
  const std::string bus(PropertyReader(port).text("bus"));
  return bus.empty() ? first : !controller_id.empty() && bus == controller_id + ".0";
}

}  // namespace atl::machine
