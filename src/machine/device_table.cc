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
  {"iommu_platform", FixedBool, "off", "addresses go through an IOMMU"},                     \
  {"packed", Bool, "off", "packed virtqueues (VIRTIO_F_RING_PACKED)"}
// What every PCI device has.
#define PCI_PLACE                                                                            \
  {"addr", PciAddress, "", "slot and optional function, such as 04.0"},                      \
  {"bus", String, "", "id of the bus, such as pci.0"},                                       \
  {"multifunction", Bool, "off", "other functions of the slot may be used"}
#define PCI_PROPERTIES                                                                       \
  PCI_PLACE,                                                                                 \
  {"ats", FixedBool, "off", "address translation service"},                                  \
  {"disable-legacy", OnOffAuto, "auto", "no interface for old drivers"},              \
  {"disable-modern", Bool, "off", "only the interface for old drivers"},                   \
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
  {"scsi", FixedBool, "off", "SCSI commands through the disk"},                              \
  {"serial", String, "", "at most 20 characters"},                                           \
  {"share-rw", Bool, "off", "other writers may open the disk"},                              \
  {"werror", String, "auto", "report, ignore, stop, enospc, auto"},                          \
  {"write-cache", OnOffAuto, "auto", "whether the disk has a volatile cache"},               \
  {"write-zeroes", Bool, "on", "write-zeroes requests"}
// What disks on a controller's bus have.
#define DISK_PROPERTIES                                                                      \
  {"bootindex", U32, "", "place in firmware's boot order"},                                  \
  {"bus", String, "", "the bus: ide.0, or a controller's id, a dot and a number"},           \
  {"drive", Drive, "", "id of a drive or block node"},                                       \
  {"logical_block_size", Size, "512", "bytes"},                                              \
  {"physical_block_size", Size, "512", "bytes"},                                             \
  {"rerror", String, "auto", "report, ignore, stop, auto"},                                  \
  {"serial", String, "", "serial number"},                                                   \
  {"share-rw", Bool, "off", "other writers may open the disk"},                              \
  {"ver", String, "", "firmware version"},                                                   \
  {"werror", String, "auto", "report, ignore, stop, enospc, auto"},                          \
  {"write-cache", OnOffAuto, "auto", "whether the disk has a volatile cache"},               \
  {"wwn", U64, "0", "world wide name"}
#define NET_PROPERTIES                                                                       \
  {"bootindex", U32, "", "place in firmware's boot order"},                                  \
  {"host_mtu", U16, "0", "MTU told to the driver"},                                          \
  {"mac", Mac, "", "Ethernet address"},                                                      \
  {"mrg_rxbuf", Bool, "on", "mergeable receive buffers"},                                    \
  {"netdev", Netdev, "", "id of a network back end"},                                        \
  {"rx_queue_size", U16, "256", "entries"},                                                  \
  {"tx_queue_size", U16, "256", "entries"}
#define ROM_PROPERTIES                                                                       \
  {"rombar", U32, "1", "0: no boot code"},                                                   \
  {"romfile", String, "", "file of boot code; iPXE's by default"}
#define CARD_PROPERTIES                                                                      \
  PCI_PLACE,                                                                                 \
  {"bootindex", U32, "", "place in firmware's boot order"},                                  \
  {"mac", Mac, "", "Ethernet address"},                                                      \
  {"netdev", Netdev, "", "id of a network back end"}
#define RNG_PROPERTIES                                                                       \
  {"max-bytes", U64, "9223372036854775807", "bytes a period"},                               \
  {"period", U32, "65536", "milliseconds"},                                                  \
  {"rng", Rng, "", "id of an entropy source"}
#define BALLOON_PROPERTIES                                                                   \
  {"deflate-on-oom", Bool, "off", "the driver takes pages back when memory is short"},       \
  {"free-page-reporting", Bool, "off", "the driver reports free pages"},                     \
  {"guest-stats-polling-interval", U32, "0", "seconds between statistics; 0 is off"}
#define SCREEN_PROPERTIES                                                                    \
  {"edid", Bool, "on", "a description of the display"},                                      \
  {"xres", U32, "1280", "preferred width"},                                                  \
  {"yres", U32, "800", "preferred height"}
#define VGA_PROPERTIES SCREEN_PROPERTIES, {"vgamem_mb", U32, "16", "MiB of screen memory"}
#define GPU_PROPERTIES                                                                       \
  {"max_hostmem", Size, "268435456", "bytes of all pictures together"},                      \
  {"max_outputs", U32, "1", "screens"}
#define FS_PROPERTIES                                                                        \
  {"chardev", Chardev, "", "a socket on which the back end is found, such as virtiofsd"},    \
  {"num-request-queues", U16, "1", "request queues"},                                        \
  {"queue-size", U16, "128", "entries"},                                                     \
  {"tag", String, "", "name that the guest mounts"}
#define SERIAL_PROPERTIES {"max_ports", U32, "31", "ports on the controller"}

constexpr PropertySpec kBlkPci[] = {BLK_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kBlkMmio[] = {BLK_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kIdeDisk[] = {DISK_PROPERTIES,
                                     {"model", String, "", "model that the guest sees"},
                                     {"unit", U32, "", "0 or 1 on an IDE bus"}};
constexpr PropertySpec kScsiDisk[] = {DISK_PROPERTIES,
                                      {"channel", U32, "0", "0"},
                                      {"device_id", String, "", "identification (VPD page 83); the serial number by default"},
                                      {"lun", U32, "", "logical unit"},
                                      {"product", String, "", "product that the guest sees"},
                                      {"scsi-id", U32, "", "target"},
                                      {"vendor", String, "ATOLL", "vendor that the guest sees"}};
#define SCSI_PROPERTIES                                                                      \
  {"iothread", IoThread, "", "id of an I/O thread"},                                         \
  {"num_queues", U32, "", "request queues; one a vCPU by default"},                          \
  {"virtqueue_size", U16, "256", "entries"}
constexpr PropertySpec kScsiPci[] = {SCSI_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kScsiMmio[] = {SCSI_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kFloppy[] = {{"bootindex", U32, "", "place in firmware's boot order"},
                                    {"drive", Drive, "", "id of a drive or block node"},
                                    {"rerror", String, "auto", "report, ignore, stop, auto"},
                                    {"share-rw", Bool, "off", "other writers may open the disk"},
                                    {"unit", U32, "", "0 or 1"},
                                    {"werror", String, "auto", "report, ignore, stop, enospc, auto"},
                                    {"write-cache", OnOffAuto, "auto", "whether writes may wait for a flush"}};
constexpr PropertySpec kNvme[] = {PCI_PLACE,
                                  {"bootindex", U32, "", "place in firmware's boot order"},
                                  {"drive", Drive, "", "id of a drive or block node"},
                                  {"logical_block_size", Size, "512", "bytes"},
                                  {"max_ioqpairs", U32, "64", "pairs of I/O queues"},
                                  {"rerror", String, "auto", "report, ignore, stop, auto"},
                                  {"serial", String, "", "serial number; must be given"},
                                  {"share-rw", Bool, "off", "other writers may open the disk"},
                                  {"werror", String, "auto", "report, ignore, stop, enospc, auto"},
                                  {"write-cache", OnOffAuto, "auto", "whether the disk has a volatile cache"}};
constexpr PropertySpec kPciCard[] = {PCI_PLACE};
constexpr PropertySpec kNetPci[] = {NET_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES, ROM_PROPERTIES};
constexpr PropertySpec kCard[] = {CARD_PROPERTIES, ROM_PROPERTIES};
constexpr PropertySpec kNetMmio[] = {NET_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kRngPci[] = {RNG_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kRngMmio[] = {RNG_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kBalloonPci[] = {BALLOON_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kBalloonMmio[] = {BALLOON_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kSerialPci[] = {SERIAL_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kSerialMmio[] = {SERIAL_PROPERTIES, VIRTIO_PROPERTIES};
constexpr PropertySpec kFsPci[] = {FS_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kVsockPci[] = {{"guest-cid", U32, "", "context number of the guest, from 3 on"},
                                      {"socket", String, "", "Unix socket of the host's programs"},
                                      VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kVhostVsock[] = {{"guest-cid", U32, "", "context number of the guest, from 3 on"}, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kPort[] = {{"bus", String, "", "a virtio-serial controller's bus: its id and .0"},
                                  {"chardev", Chardev, "", "id of a character back end"},
                                  {"name", String, "", "name that the guest finds the port by"},
                                  {"nr", U32, "", "number of the port"}};
constexpr PropertySpec kVga[] = {VGA_PROPERTIES, PCI_PLACE};
constexpr PropertySpec kBochs[] = {SCREEN_PROPERTIES, {"vgamem", Size, "16777216", "bytes of screen memory"}, PCI_PLACE};
constexpr PropertySpec kGpuPci[] = {SCREEN_PROPERTIES, GPU_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kVirtioVga[] = {VGA_PROPERTIES, GPU_PROPERTIES, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kInputPci[] = {{"serial", String, "", "serial number"}, VIRTIO_PROPERTIES, PCI_PROPERTIES};
constexpr PropertySpec kUhci[] = {PCI_PLACE, {"firstport", U32, "0", "of the bus of masterbus, from 0"},
                                  {"masterbus", String, "", "bus of the EHCI that this controller accompanies"}};
constexpr PropertySpec kEhci[] = {PCI_PLACE};
constexpr PropertySpec kXhci[] = {PCI_PLACE, {"p2", U32, "4", "USB 2 ports"}, {"p3", U32, "4", "USB 3 ports"},
                                  {"slots", U32, "64", "device slots"}};
#define USB_PLACE                                                                            \
  {"bus", String, "", "a controller's bus: its id and .0, or usb-bus.0"},                    \
  {"port", String, "", "port, with hubs on the way: 1 or 2.4"}
constexpr PropertySpec kHid[] = {USB_PLACE, {"serial", String, "", "of the device"},
                                 {"usb_version", U32, "2", "1: full speed only"}};
constexpr PropertySpec kUsbDisk[] = {USB_PLACE,
                                     {"bootindex", U32, "", "place in firmware's boot order"},
                                     {"drive", Drive, "", "id of a drive or block node"},
                                     {"logical_block_size", Size, "512", "bytes"},
                                     {"physical_block_size", Size, "512", "bytes"},
                                     {"removable", Bool, "off", "the guest can eject the medium"},
                                     {"rerror", String, "auto", "report, ignore, stop, auto"},
                                     {"serial", String, "", "of the device"},
                                     {"share-rw", Bool, "off", "other writers may open the disk"},
                                     {"werror", String, "auto", "report, ignore, stop, enospc, auto"},
                                     {"write-cache", OnOffAuto, "auto", "whether the disk has a volatile cache"}};
constexpr PropertySpec kHub[] = {USB_PLACE, {"ports", U32, "8", "1 to 8"}};
constexpr PropertySpec kRootPort[] = {PCI_PLACE,
                                      {"chassis", U16, "0", "number of the chassis that the slot is in"},
                                      {"hotplug", Bool, "on", "the slot can be plugged into while the guest runs"},
                                      {"port", U16, "0", "number of the port's link, below 256"},
                                      {"slot", U16, "0", "number of the slot, below 8192"}};
constexpr PropertySpec kPciBridge[] = {PCI_PLACE,
                                       {"chassis_nr", U16, "0", "number of the chassis behind the bridge"},
                                       {"shpc", OnOffAuto, "off", "hot-plug controller; always off here"}};
constexpr PropertySpec kExpressToPci[] = {PCI_PLACE};
constexpr PropertySpec kSerialPort[] = {{"chardev", Chardev, "", "id of a character back end"},
                                        {"index", U32, "", "number of the port: the next one"}};
constexpr PropertySpec kPvpanic[] = {{"events", U32, "3", "events that are reported: 1 panicked, 2 crash kernel loaded"},
                                     {"ioport", U32, "0x505", "port"}};
constexpr PropertySpec kPvpanicPci[] = {PCI_PLACE, {"events", U32, "3", "events that are reported: 1 panicked, 2 crash kernel loaded"}};
constexpr PropertySpec kTpm[] = {{"tpmdev", String, "", "id of a -tpmdev"}};
constexpr PropertySpec kGeneration[] = {{"guid", String, "auto", "the ID; auto: a new one"}};
constexpr PropertySpec kI6300esb[] = {PCI_PLACE};
constexpr PropertySpec kDebugExit[] = {{"iobase", U32, "0x501", "port"}, {"iosize", U32, "2", "ports"}};
constexpr PropertySpec kDebugCon[] = {{"chardev", Chardev, "", "id of a character back end"},
                                      {"iobase", U32, "0xe9", "port"},
                                      {"readback", U32, "0xe9", "what a read gives"}};

constexpr std::string_view kStorage = "Storage devices", kNetwork = "Network devices", kInput = "Input devices",
                           kDisplay = "Display devices", kControllers = "Controller/Bridge/Hub devices", kMisc = "Misc devices";
constexpr DeviceSpec kSpecs[] = {
    {"ahci", kStorage, "PCI", "SATA controller", false, kPciCard},
    {"floppy", kStorage, "floppy-bus", "Floppy disk drive", false, kFloppy},
    {"ich9-ahci", kStorage, "PCI", "SATA controller", false, kPciCard},
    {"ide-cd", kStorage, "IDE", "CD-ROM drive", false, kIdeDisk},
    {"ide-hd", kStorage, "IDE", "Hard disk", false, kIdeDisk},
    {"nvme", kStorage, "PCI", "NVMe disk", true, kNvme},
    {"scsi-cd", kStorage, "SCSI", "CD-ROM drive", true, kScsiDisk},
    {"scsi-hd", kStorage, "SCSI", "Hard disk", true, kScsiDisk},
    {"ich9-usb-ehci1", kControllers, "PCI", "USB 2 controller", false, kEhci},
    {"ich9-usb-ehci2", kControllers, "PCI", "USB 2 controller", false, kEhci},
    {"ich9-usb-uhci1", kControllers, "PCI", "USB 1.1 controller", false, kUhci},
    {"ich9-usb-uhci2", kControllers, "PCI", "USB 1.1 controller", false, kUhci},
    {"ich9-usb-uhci3", kControllers, "PCI", "USB 1.1 controller", false, kUhci},
    {"ich9-usb-uhci4", kControllers, "PCI", "USB 1.1 controller", false, kUhci},
    {"ich9-usb-uhci5", kControllers, "PCI", "USB 1.1 controller", false, kUhci},
    {"ich9-usb-uhci6", kControllers, "PCI", "USB 1.1 controller", false, kUhci},
    {"nec-usb-xhci", kControllers, "PCI", "USB 3 controller", true, kXhci},
    {"pci-bridge", kControllers, "PCI", "Standard PCI bridge", false, kPciBridge},
    {"pcie-pci-bridge", kControllers, "PCI", "Bridge from PCI Express to PCI", false, kExpressToPci},
    {"pcie-root-port", kControllers, "PCI", "PCI Express root port", false, kRootPort},
    {"piix3-usb-uhci", kControllers, "PCI", "USB 1.1 controller", false, kUhci},
    {"piix4-usb-uhci", kControllers, "PCI", "USB 1.1 controller", false, kUhci},
    {"qemu-xhci", kControllers, "PCI", "USB 3 controller", true, kXhci},
    {"usb-ehci", kControllers, "PCI", "USB 2 controller", false, kEhci},
    {"usb-hub", kControllers, "usb-bus", "USB hub", true, kHub},
    {"virtio-blk-device", kStorage, "virtio-bus", "Virtio disk over MMIO", false, kBlkMmio},
    {"virtio-blk-pci", kStorage, "PCI", "Virtio disk", true, kBlkPci},
    {"vhost-user-fs-pci", kStorage, "PCI", "Shared file system of a vhost-user back end", true, kFsPci},
    {"virtio-blk-pci-non-transitional", kStorage, "PCI", "Virtio disk for drivers of VIRTIO 1", true, kBlkPci},
    {"virtio-blk-pci-transitional", kStorage, "PCI", "Virtio disk for old drivers too", true, kBlkPci},
    {"virtio-scsi-device", kStorage, "virtio-bus", "Virtio SCSI controller over MMIO", false, kScsiMmio},
    {"virtio-scsi-pci", kStorage, "PCI", "Virtio SCSI controller", true, kScsiPci},
    {"virtio-scsi-pci-non-transitional", kStorage, "PCI", "Virtio SCSI controller for drivers of VIRTIO 1", true, kScsiPci},
    {"virtio-scsi-pci-transitional", kStorage, "PCI", "Virtio SCSI controller for old drivers too", true, kScsiPci},
    {"e1000", kNetwork, "PCI", "Intel Gigabit Ethernet (82540EM)", true, kCard},
    {"e1000e", kNetwork, "PCI", "Intel Gigabit Ethernet (82574L)", true, kCard},
    {"rtl8139", kNetwork, "PCI", "Realtek Fast Ethernet (RTL8139C+)", true, kCard},
    {"virtio-net-device", kNetwork, "virtio-bus", "Virtio NIC over MMIO", false, kNetMmio},
    {"virtio-net-pci", kNetwork, "PCI", "Virtio NIC", true, kNetPci},
    {"virtio-net-pci-non-transitional", kNetwork, "PCI", "Virtio NIC for drivers of VIRTIO 1", true, kNetPci},
    {"virtio-net-pci-transitional", kNetwork, "PCI", "Virtio NIC for old drivers too", true, kNetPci},
    {"usb-kbd", kInput, "usb-bus", "USB keyboard", true, kHid},
    {"usb-mouse", kInput, "usb-bus", "USB mouse", true, kHid},
    {"usb-tablet", kInput, "usb-bus", "USB tablet", true, kHid},
    {"usb-storage", kStorage, "usb-bus", "USB disk", true, kUsbDisk},
    {"virtconsole", kInput, "virtio-serial-bus", "Console port", true, kPort},
    {"virtio-serial-device", kInput, "virtio-bus", "Virtio console controller over MMIO", false, kSerialMmio},
    {"virtio-serial-pci", kInput, "PCI", "Virtio console controller", true, kSerialPci},
    {"virtio-serial-pci-non-transitional", kInput, "PCI", "Virtio console controller for drivers of VIRTIO 1", true, kSerialPci},
    {"virtio-serial-pci-transitional", kInput, "PCI", "Virtio console controller for old drivers too", true, kSerialPci},
    {"virtserialport", kInput, "virtio-serial-bus", "Serial port with a name", true, kPort},
    {"virtio-keyboard-pci", kInput, "PCI", "Virtio keyboard", true, kInputPci},
    {"virtio-mouse-pci", kInput, "PCI", "Virtio mouse", true, kInputPci},
    {"virtio-tablet-pci", kInput, "PCI", "Virtio tablet", true, kInputPci},
    {"VGA", kDisplay, "PCI", "Standard VGA", false, kVga},
    {"bochs-display", kDisplay, "PCI", "Display without VGA", false, kBochs},
    {"ramfb", kDisplay, "ISA", "Screen in the guest's memory, set up by firmware", false, {}},
    {"secondary-vga", kDisplay, "PCI", "Standard VGA beside another one", false, kVga},
    {"virtio-gpu-pci", kDisplay, "PCI", "Virtio GPU", false, kGpuPci},
    {"virtio-vga", kDisplay, "PCI", "Virtio GPU that is a VGA first", false, kVirtioVga},
    {"i6300esb", kMisc, "PCI", "Watchdog timer of the Intel 6300ESB", true, kI6300esb},
    {"pvpanic", kMisc, "ISA", "Reports the crash of a guest's kernel", false, kPvpanic},
    {"pvpanic-pci", kMisc, "PCI", "Reports the crash of a guest's kernel", true, kPvpanicPci},
    {"tpm-crb", kMisc, "ISA", "TPM 2.0 with a command response buffer", false, kTpm},
    {"tpm-tis", kMisc, "ISA", "TPM 2.0 with a FIFO", false, kTpm},
    {"vmgenid", kMisc, "ISA", "VM generation ID", false, kGeneration},
    {"isa-serial", kInput, "ISA", "Serial port", false, kSerialPort},
    {"isa-debug-exit", kMisc, "ISA", "Ends the program with a status", false, kDebugExit},
    {"isa-debugcon", kMisc, "ISA", "Debug console", false, kDebugCon},
    {"pc-testdev", kMisc, "ISA", "Registers for bare-metal test suites", false, {}},
    {"virtio-balloon-device", kMisc, "virtio-bus", "Memory balloon over MMIO", false, kBalloonMmio},
    {"virtio-balloon-pci", kMisc, "PCI", "Memory balloon", true, kBalloonPci},
    {"vhost-vsock-pci", kMisc, "PCI", "Sockets by the host's kernel; refused, see virtio-vsock-pci", false, kVhostVsock},
    {"virtio-vsock-pci", kMisc, "PCI", "Sockets between guest and host, through a Unix socket", true, kVsockPci},
    {"virtio-balloon-pci-non-transitional", kMisc, "PCI", "Memory balloon for drivers of VIRTIO 1", true, kBalloonPci},
    {"virtio-balloon-pci-transitional", kMisc, "PCI", "Memory balloon for old drivers too", true, kBalloonPci},
    {"virtio-rng-device", kMisc, "virtio-bus", "Entropy source over MMIO", false, kRngMmio},
    {"virtio-rng-pci", kMisc, "PCI", "Entropy source", true, kRngPci},
    {"virtio-rng-pci-non-transitional", kMisc, "PCI", "Entropy source for drivers of VIRTIO 1", true, kRngPci},
    {"virtio-rng-pci-transitional", kMisc, "PCI", "Entropy source for old drivers too", true, kRngPci},
};

bool well_formed_mac(std::string_view text) {
  const auto parts = split(text, ':');
  return parts.size() == 6 && std::ranges::all_of(parts, [](std::string_view p) { return p.size() == 2 && parse_hex(p); });
}

std::optional<u64> hex_number(std::string_view text) {
  return parse_hex(text.starts_with("0x") ? text.substr(2) : text);
}

bool well_formed(PropertyType type, std::string_view value) {
  auto below = [&](u64 limit) {
    const auto number = parse_u64(value);
    return number && *number <= limit;
  };
  switch (type) {
    case Bool:
    case FixedBool: return parse_bool(value).has_value();
    case OnOffAuto: return value == "auto" || parse_bool(value).has_value();
    case U16: return below(0xffff);
    case U32: return below(0xffffffff);
    case U64: return below(~u64{0});
    case Size: return parse_size(value).has_value();
    case Mac: return well_formed_mac(value);
    case PciAddress: return parse_pci_place(value).has_value();
    default: return true;
  }
}

}  // namespace

std::optional<std::pair<u8, u8>> parse_pci_place(std::string_view text) {
  const size_t dot = text.find('.');
  const auto slot = hex_number(text.substr(0, dot));
  const auto function = dot == std::string_view::npos ? std::optional<u64>(0) : hex_number(text.substr(dot + 1));
  if (!slot || *slot > 31 || !function || *function > 7) return std::nullopt;
  return std::pair(static_cast<u8>(*slot), static_cast<u8>(*function));
}

std::span<const DeviceSpec> device_specs() { return kSpecs; }

const DeviceSpec* find_device_spec(std::string_view type) {
  auto found = std::ranges::find(kSpecs, type, &DeviceSpec::type);
  return found == std::end(kSpecs) ? nullptr : found;
}

bool has_property(std::string_view device_type, std::string_view name, PropertyType type) {
  const DeviceSpec* spec = find_device_spec(device_type);
  return spec && std::ranges::any_of(spec->properties, [&](const PropertySpec& p) { return p.name == name && p.type == type; });
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
    if (property->type == FixedBool && parse_bool(value) != parse_bool(property->fallback))
      return Error(ErrorKind::Unsupported, fmt::format("Property '{}.{}' is always {} here", spec->type, name, property->fallback));
  }
  return {};
}

}  // namespace atl::machine
