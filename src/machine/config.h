// The typed description of one VM: what `control` makes of command lines and QMP, and what Machine is built from.
// Names here are ours; QEMU's spellings stay in control/cmdline.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/types.h"
#include "block/node.h"
#include "block/open_mode.h"
#include "block/throttle.h"
#include "cpu/cpuid.h"
#include "cpu/soft_options.h"
#include "memory/guest_memory.h"
#include "net/backend.h"

namespace atl::machine {

enum class BoardKind : u8 { Pc, Microvm, Q35, None };
/// Whether a board is a PC: with PCI, ISA and what comes with them.
constexpr bool is_pc(BoardKind board) { return board == BoardKind::Pc || board == BoardKind::Q35; }

/// The screen that firmware starts with.
enum class VgaKind : u8 { None, Std, Virtio, Bochs };
/// Idle: the software CPU, but its vCPUs run nothing.
enum class AcceleratorKind : u8 { Kvm, Soft, Idle };

struct AcceleratorChoice {
  AcceleratorKind kind = AcceleratorKind::Soft;
  bool any_kvm_backend = false;  // kvm named alone: use /dev/kvm even where it has no hardware behind it
  cpu::SoftOptions translate;  // Soft
};

/// One user-visible property of a device, value still as text ("on", "4096", "drive0").
using Properties = std::vector<std::pair<std::string, std::string>>;

/// A `-device`: type, id and properties. Which types and properties exist is machine/device_table.h's knowledge.
struct DeviceConfig {
  std::string type;  // "virtio-blk-pci"
  std::string id;    // "" = none given
  Properties properties;
};

using block::ErrorPolicy;

/// A disk that a device can name: a graph of block nodes.
struct DriveConfig {
  std::string id;                               // drive id or top node name
  std::shared_ptr<const nlohmann::json> tree;   // as blockdev-add takes it; nullptr: a drive without a medium
  block::OpenMode mode;
  bool from_drive_option = false;  // -drive: appears in query-block under its id
  bool snapshot = false;           // writes go to a temporary file that vanishes with the machine
  bool copy_on_read = false;
  block::ThrottleLimits throttle;
  std::string throttle_group;      // "": a group of its own, if there are limits
  ErrorPolicy read_error = ErrorPolicy::Report;
  ErrorPolicy write_error = ErrorPolicy::StopOnNoSpace;
  bool write_through = false;  // a write is on stable storage before it completes; the guest sees no write cache
  std::string serial;
};

/// A value that only names appear of, such as a password.
struct SecretConfig {
  std::string id, value;
};

struct ThrottleGroupConfig {
  std::string id;
  block::ThrottleLimits limits;
};

/// A switch in another process, which reaches the guest's memory.
struct VhostUserNetOptions {
  std::string chardev;
};

struct NetConfig {
  std::string id;
  std::variant<net::UserOptions, net::TapOptions, net::SocketOptions, net::HubPortOptions, VhostUserNetOptions> options;
};

struct RngConfig {
  std::string id;
  std::string path = "/dev/urandom";
};

struct IoThreadConfig {
  std::string id;
};

struct RtcConfig {
  enum class Base : u8 { Utc, LocalTime, Fixed } base = Base::Utc;
  i64 fixed_seconds = 0;  // since the epoch, for Fixed
  bool follow_host = true;  // false: clock=vm, stands still while paused
  bool drift_fix = false;
};

/// One part of the guest's memory with the processors that are near to it. Nodes follow each other in memory.
struct NumaNode {
  u64 bytes = 0;
  std::string memory;             // the object that backs it
  std::vector<u32> cpus;          // by index
  std::vector<u8> distances;      // to each node; empty: 10 to itself, 20 to others
};

/// One `-smbios` that names fields of a structure type, or a file that holds whole structures.
struct SmbiosConfig {
  u8 type = 0;
  Properties fields;   // QEMU's names: "vendor", "serial" ...
  std::string file;    // "" = fields
};

/// A table of `-acpitable`: fields of its header that replace those of the files, or make a header for raw data.
struct AcpiTableConfig {
  Properties header;                // "sig", "rev", "oem_id" ...
  std::vector<std::string> files;   // read one after the other
  bool has_header = false;          // the files begin with the table's header
};

enum class PanicAction : u8 { Pause, Shutdown, ExitFailure, None };
enum class WatchdogAction : u8 { Reset, Shutdown, PowerOff, Pause, Debug, None, InjectNmi };

/// A file that firmware and guests find by name (-fw_cfg): the content of `path`, or `text`.
struct FirmwareFile {
  std::string name, path, text;
};

struct BootConfig {
  std::string kernel, initrd, append;   // paths; "" = none. Multiboot modules: initrd "a arg,b arg"
  std::string firmware;                 // -bios; "" = none (direct kernel boot) or the board's default
  std::array<std::string, 2> flash;     // drives of the flash chips; "" = none. The second one needs the first
  bool flash_secure = false;            // only system management mode may write the flash chips
  std::string order = "cad";            // as -boot order=
  bool floppy_check = true;             // firmware starts only floppy disks that have a boot signature
  std::string once;                     // instead of `order` until the first reset; "" = the same
  std::optional<u32> menu_wait_ms;      // how long the menu's prompt is shown
  std::optional<u32> fail_wait_ms;      // restart so long after no device could be started; -1: never
  std::vector<FirmwareFile> files;
  std::vector<std::string> option_roms;  // files that firmware runs at start
  bool strict = false;
  bool menu = false;                    // firmware offers its boot menu
};

/// Where a serial port, console or monitor goes: the id of a CharBackend that `control` created. "" = not connected.
using CharId = std::string;

struct Config {
  BoardKind board = BoardKind::Pc;
  std::string board_name = "pc";                // as asked for: "pc-i440fx-7.2" and the like
  std::vector<AcceleratorChoice> accelerators;  // tried in order
  cpu::CpuRequest cpu;
  cpu::Topology topology;
  u64 ram_bytes = 128 * kMiB;
  memory::RamOptions ram;
  std::vector<NumaNode> numa;                   // empty: the guest is told of none
  BootConfig boot;
  std::string name, uuid;                       // uuid "" = all zero
  RtcConfig rtc;
  std::vector<CharId> serial;                   // COM1 ...; at most 4
  VgaKind vga = VgaKind::None;                  // follows from the devices
  CharId debugcon;                              // isa-debugcon at 0xe9: "" = none
  std::vector<SecretConfig> secrets;
  std::vector<ThrottleGroupConfig> throttle_groups;
  std::vector<DriveConfig> drives;              // in order: a node may stand on those before it
  std::vector<NetConfig> networks;
  std::vector<RngConfig> rngs;
  std::vector<IoThreadConfig> iothreads;
  std::vector<DeviceConfig> devices;            // -device, in order; -drive if=virtio and -nic are already turned into these
  bool acpi = true;
  bool pit_makes_up_ticks = true;               // KVM's interval timer: ticks that the guest was too slow for come later
  bool hpet = true;                             // high precision event timer, where the board has one
  bool suspend_to_ram = true, suspend_to_disk = true;  // what the firmware's tables offer; PCs only
  std::optional<bool> smm;                      // system management mode; none: where the accelerator has it
  bool start_paused = false;                    // -S
  bool no_reboot = false, no_shutdown = false;
  PanicAction panic_action = PanicAction::Shutdown;
  WatchdogAction watchdog_action = WatchdogAction::Reset;
  std::vector<SmbiosConfig> smbios;
  std::vector<AcpiTableConfig> acpi_tables;
};

}  // namespace atl::machine
