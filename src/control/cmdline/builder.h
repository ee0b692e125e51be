// What the options say, collected until all of them are read; then the defaults are filled in and references resolved.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/key_values.h"
#include "base/result.h"
#include "control/cmdline/json_values.h"
#include "control/options.h"

namespace atl::control {

/// One option with its value, for messages: "-drive file=x".
struct OptionUse {
  std::string name;   // "-drive"
  std::string value;  // "" if it takes none
  std::string text() const { return value.empty() ? name : name + " " + value; }
};

/// A network card that -nic or -net nic asked for.
struct NicRequest {
  OptionUse origin;
  std::string model;  // "" = the board's default
  std::string id;
  std::string mac;
  std::string backend;  // NetConfig id; "" = not connected yet
  u64 vlan = 0;
};

struct GlobalProperty {
  OptionUse origin;
  std::string driver, property, value;
};

/// A memory backend object; the machine uses at most one.
struct MemoryBackend {
  OptionUse origin;
  u64 size_bytes = 0;
  memory::RamOptions ram;
};

/// A device request with the option it came from.
struct DeviceRequest {
  OptionUse origin;
  machine::DeviceConfig device;
};

/// A -drive with the interface it asked for.
struct DriveRequest {
  OptionUse origin;
  machine::DriveConfig drive;
  std::string interface;  // "" = the board's default
  bool cdrom = false;     // media=cdrom
  std::optional<unsigned> index, bus, unit;  // its place, as asked for; bus and unit are set once it is known
  std::optional<u64> flash_unit;  // pflash
};

/// A -net back end that still looks for its card.
struct HubPort {
  OptionUse origin;
  std::string backend;
  u64 vlan = 0;
};

/// A -serial, -debugcon, -gdb or -qtest.
struct PortRequest {
  OptionUse origin;
  std::string spec;
};

class Builder {
 public:
  CommandLine line;

  // Collected by the options, in order.
  KeyValues machine_properties;
  OptionUse machine_origin;
  std::vector<machine::AcceleratorChoice> accelerators;
  bool accel_option_seen = false;
  std::map<std::string, MemoryBackend> memory_backends;
  bool ram_size_given = false;
  std::vector<OptionUse> numa_options;
  std::vector<DriveRequest> drives;
  std::vector<DeviceRequest> devices;
  std::vector<NicRequest> nics;
  std::vector<HubPort> hub_ports;
  std::vector<GlobalProperty> globals;
  std::vector<PortRequest> serials;
  std::optional<PortRequest> debugcon, gdb, qtest;
  std::optional<machine::VgaKind> vga;
  std::vector<std::string> firmware_dirs;
  std::map<std::string, std::string> tpms;  // the character back end of each -tpmdev
  bool nographic = false;
  bool snapshot = false;  // -snapshot: of every disk
  bool no_defaults = false;
  bool usb = false;  // -usb: the board's own controller
  bool default_serial = true, default_monitor = true, default_net = true, default_cdrom = true, default_floppy = true;
  std::set<std::string> audio_back_ends;  // all of them make no sound
  std::string vnc_audio;                  // the one that -vnc names
  unsigned compat_monitors = 0, generated_nics = 0;

  machine::Config& config() { return line.machine; }
  ProgramOptions& program() { return line.program; }

  /// Fills in defaults, resolves names, checks devices against the table.
  Status finish();

  /// Adds a back end; its id must be new.
  Status add_chardev(ChardevConfig chardev);
  /// Makes the back end of a compatibility string ("unix:/x,server=on", "mon:stdio", "null") under `id`.
  Status add_compat_chardev(std::string_view spec, const std::string& id);
  ChardevConfig* find_chardev(std::string_view id);
  /// Registers one more user of a back end; the result is the id under which that user finds it.
  Result<machine::CharId> use_chardev(const std::string& id);

 private:
  Status finish_machine();
  Status finish_defaults();
  Status finish_boot();
  Status finish_numa();
  Status finish_screen();
  Status finish_vnc();
  Status finish_serials();
  Status finish_monitors();
  Status add_port_chardev(const PortRequest& request, const std::string& id);
  Status finish_networks();
  Status finish_devices();
  Status finish_drives();
  Status place_flash(const DriveRequest& request);
  Status connect_hub(u64 vlan);
  Status connect_hubs();
  Result<machine::CharId> resolve_port(const PortRequest& request, const std::string& id);
  Status append_usb_controllers();
  Status append_device(const OptionUse& origin, machine::DeviceConfig device);
  void apply_globals(machine::DeviceConfig& device) const;
  Status check_globals();
  /// The type for this board of a short name like "virtio-net".
  std::string machine_device(std::string_view family) const;
  /// The path of the socket of a -tpmdev. Its character back end is the TPM's own from then on.
  Result<std::string> take_tpm_socket(const std::string& id);

  std::map<std::string, unsigned> chardev_users_;
};

}  // namespace atl::control
