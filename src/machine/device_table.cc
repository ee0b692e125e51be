// The table of device types: one row a type, one row a property.
#include "machine/device_table.h"

#include <algorithm>

#include <fmt/core.h>

#include "base/key_values.h"
#include "base/strings.h"

namespace atl::machine {
namespace {

using enum PropertyType;

// What every virtio device has.
#define VIRTIO_PROPERTIES                                                                    \
  {"event_idx", Bool, "on", "suppress notifications by index (VIRTIO_F_EVENT_IDX)"},         \
  {"indirect_desc", Bool, "on", "indirect descriptors (VIRTIO_F_INDIRECT_DESC)"},            \
  {"packed", Bool, "off", "packed virtqueues (VIRTIO_F_RING_PACKED)"}
#define PCI_PROPERTIES                                                                       \
  {"addr", PciAddress, "", "slot and optional function, such as 04.0"},                      \
  {"bus", String, "", "pci.0"},                                                              \
  {"disable-legacy", OnOffAuto, "on", "the legacy interface; always off here"},              \
  {"disable-modern", Bool, "off", "the modern interface; always on here"},                   \
  {"vectors", U32, "", "MSI-X vectors; 0 leaves only INTx"}
#define BLK_PROPERTIES                                                                       \
  {"bootindex", U32, "", "place in firmware's boot order"},                                  \
  {"config-wce", Bool, "on", "the driver may switch the write cache"},                       \
  {"discard", Bool, "on", "discard requests"},                                               \
  {"drive", Drive, "", "id of a drive or block node"},                                       \
  {"iothread", IoThread, "", "id of an I/O thread"},                                         \
  {"logical_block_size", Size, "512", "bytes"},                                              \
  {"min_io_size", U32, "0", "bytes"},                                                        \
  {"num-queues", U16, "", "request queues; one a vCPU by default"},                          \
  {"opt_io_size", U32, "0", "bytes"},                                                        \
  {"physical_block_size", Size, "512", "bytes"},                                             \
  {"queue-size", U16, "256", "entries"},                                                     \
  {"rerror", String, "auto", "report, ignore, stop, auto"},                                  \
  {"serial", String, "", "at most 20 characters"},                                           \
  {"share-rw", Bool, "off", "other writers may open the disk"},                              \
  {"werror", String, "auto", "report, ignore, stop, enospc, auto"},                          \
  {"write-cache", OnOffAuto, "auto", "whether the disk has a volatile cache"},               \
  {"write-zeroes", Bool, "on", "write-zeroes requests"}
#define NET_PROPERTIES                                                                       \
  {"bootindex", U32, "", "place in firmware's boot order"},                                  \
  {"host_mtu", U16, "0", "MTU told to the driver"},                                          \
  {"mac", Mac, "", "Ethernet address"},                                                      \
  {"mrg_rxbuf", Bool, "on", "mergeable receive buffers"},                                    \
  {"netdev", Netdev, "", "id of a network back end"},                                        \
  {"rx_queue_size", U16, "256", "entries"},                                                  \
  {"tx_queue_size", U16, "256", "entries"}
#define RNG_PROPERTIES                                                                       \
  {"max-bytes", U64, "9223372036854775807", "bytes a period"},                               \
  {"period", U32, "65536", "milliseconds"},                                                  \
  {"rng", Rng, "", "id of an entropy source"}
#define BALLOON_PROPERTIES                                                                   \
  {"deflate-on-oom", Bool, "off", "the driver takes pages back when memory is short"},       \
  {"free-page-reporting", Bool, "off", "the driver reports free pages"},                     \
  {"guest-stats-polling-interval", U32, "0", "seconds between statistics; 0 is off"}
#define SERIAL_PROPERTIES {"max_ports", U32, "31", "ports on the controller"}

constexpr PropertySpec kBlkPci[] = {BLK_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kBlkMmio[] = {BLK_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kNetPci[] = {NET_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kNetMmio[] = {NET_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kRngPci[] = {RNG_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kRngMmio[] = {RNG_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kBalloonPci[] = {BALLOON_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kBalloonMmio[] = {BALLOON_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kSerialPci[] = {SERIAL_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kSerialMmio[] = {SERIAL_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kPort[] = {{"bus", String, "", "a virtio-serial controller's bus: its id and .0"},
                                  {"chardev", Chardev, "", "id of a character back end"},
                                  {"name", String, "", "name that the guest finds the port by"},
                                  {"nr", U32, "", "number of the port"}};
constexpr PropertySpec kDebugExit[] = {{"iobase", U32, "0x501", "port"}, {"iosize", U32, "2", "ports"}};
constexpr PropertySpec kDebugCon[] = {{"chardev", Chardev, "", "id of a character back end"},
                                      {"iobase", U32, "0xe9", "port"},
                                      {"readback", U32, "0xe9", "what a read gives"}};

constexpr std::string_view kStorage = "Storage devices", kNetwork = "Network devices", kInput = "Input devices",
                           kMisc = "Misc devices";
constexpr DeviceSpec kSpecs[] = {
    {"virtio-blk-device", kStorage, "virtio-bus", "Virtio disk over MMIO", false, kBlkMmio},
    {"virtio-blk-pci", kStorage, "PCI", "Virtio disk", true, kBlkPci},
    {"virtio-net-device", kNetwork, "virtio-bus", "Virtio NIC over MMIO", false, kNetMmio},
    {"virtio-net-pci", kNetwork, "PCI", "Virtio NIC", true, kNetPci},
    {"virtconsole", kInput, "virtio-serial-bus", "Console port", false, kPort},
    {"virtio-serial-device", kInput, "virtio-bus", "Virtio console controller over MMIO", false, kSerialMmio},
    {"virtio-serial-pci", kInput, "PCI", "Virtio console controller", true, kSerialPci},
    {"virtserialport", kInput, "virtio-serial-bus", "Serial port with a name", false, kPort},
    {"isa-debug-exit", kMisc, "ISA", "Ends the program with a status", false, kDebugExit},
    {"isa-debugcon", kMisc, "ISA", "Debug console", false, kDebugCon},
    {"pc-testdev", kMisc, "ISA", "Registers for bare-metal test suites", false, {}},
    {"virtio-balloon-device", kMisc, "virtio-bus", "Memory balloon over MMIO", false, kBalloonMmio},
    {"virtio-balloon-pci", kMisc, "PCI", "Memory balloon", true, kBalloonPci},
    {"virtio-rng-device", kMisc, "virtio-bus", "Entropy source over MMIO", false, kRngMmio},
    {"virtio-rng-pci", kMisc, "PCI", "Entropy source", true, kRngPci},
};

bool well_formed_mac(std::string_view text) {
  const auto parts = split(text, ':');
  return parts.size() == 6 && std::ranges::all_of(parts, [](std::string_view p) { return p.size() == 2 && parse_hex(p); });
}

bool well_formed_address(std::string_view text) {
  const size_t dot = text.find('.');
  std::string_view slot = text.substr(0, dot);
  if (slot.starts_with("0x")) slot.remove_prefix(2);
  const auto function = dot == std::string_view::npos ? std::optional<u64>(0) : parse_hex(text.substr(dot + 1));
  const auto number = parse_hex(slot);
  return number && *number < 32 && function && *function < 8;
}

bool well_formed(PropertyType type, std::string_view value) {
  auto below = [&](u64 limit) {
    const auto number = parse_u64(value);
    return number && *number <= limit;
  };
  switch (type) {
    case Bool: return parse_bool(value).has_value();
    case OnOffAuto: return value == "auto" || parse_bool(value).has_value();
    case U16: return below(0xffff);
    case U32: return below(0xffffffff);
    case U64: return below(~u64{0});
    case Size: return parse_size(value).has_value();
    case Mac: return well_formed_mac(value);
    case PciAddress: return well_formed_address(value);
    default: return true;
  }
}

}  // namespace

std::span<const DeviceSpec> device_specs() { return kSpecs; }

const DeviceSpec* find_device_spec(std::string_view type) {
  auto found = std::ranges::find(kSpecs, type, &DeviceSpec::type);
  return found == std::end(kSpecs) ? nullptr : found;
}

Status check_device(const DeviceConfig& device) {
  const DeviceSpec* spec = find_device_spec(device.type);
  if (!spec) return Error(ErrorKind::NotFound, fmt::format("'{}' is not a valid device model name", device.type));
  for (const auto& [name, value] : device.properties) {
    auto property = std::ranges::find(spec->properties, name, &PropertySpec::name);
    if (property == spec->properties.end()) {
      return Error(ErrorKind::NotFound, fmt::format("Property '{}.{}' not found", spec->type, name));
    }
    if (!well_formed(property->type, value)) {
      return Error(ErrorKind::Invalid, fmt::format("Property '{}.{}' doesn't take value '{}'", spec->type, name, value));
    }
  }
  return {};
}

}  // namespace atl::machine
