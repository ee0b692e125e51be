// QEMU's spellings of drives, networks, objects, devices and character back ends, into ours. The command line and QMP use
// the same functions. Errors name the parameter.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/key_values.h"
#include "base/result.h"
#include "control/chardev/config.h"
#include "machine/config.h"

namespace atl::control {

using FdSets = std::map<u64, int>;

/// -drive, without `if` and its place, which the caller takes out first. Without a file it has no medium.
Result<machine::DriveConfig> drive_from_option(KeyValues values, const FdSets& fd_sets);
/// A tree of -blockdev or blockdev-add. What its drivers make of it shows when it is opened.
Result<machine::DriveConfig> drive_from_tree(nlohmann::json tree, const FdSets& fd_sets);
/// The same from a flat list.
Result<machine::DriveConfig> drive_from_blockdev(const KeyValues& values, const FdSets& fd_sets);
/// -object throttle-group.
Result<machine::ThrottleGroupConfig> throttle_group_from_values(KeyValues values);
/// -object secret: given as data or in a file, raw or base64.
Result<machine::SecretConfig> secret_from_values(KeyValues values);

/// -netdev and netdev_add.
Result<machine::NetConfig> net_from_values(KeyValues values);
/// "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport".
Result<net::HostForward> forward_from_text(const std::string& rule);
/// What names a rule that is to go: the same without the guest's part.
Result<net::HostForward> forwarded_port_from_text(const std::string& rule);
/// -object memory-backend-ram, -file or -memfd.
struct MemoryObject {
  std::string type, id;
  u64 size_bytes = 0;
  memory::RamOptions ram;
};
Result<MemoryObject> memory_from_values(KeyValues values);
bool is_memory_object(std::string_view type);
/// -object rng-random or rng-builtin.
Result<machine::RngConfig> rng_from_values(KeyValues values);
/// The type that a short name like "virtio-blk" stands for on a board; other names stay as they are.
std::string board_device_name(std::string_view type, machine::BoardKind board);
/// -device and device_add: `driver`, `id`, everything else is a property.
Result<machine::DeviceConfig> device_from_values(KeyValues values);
/// -chardev.
Result<ChardevConfig> chardev_from_values(KeyValues values);
/// The names of the drivers.
std::vector<std::string_view> chardev_backends();
/// The old form of a character back end, as -serial and -monitor take it.
Result<ChardevConfig> chardev_from_compat(std::string_view spec, const std::string& id);
/// The same for a debugger, who connects to us: sockets listen, and the VM does not wait for it (-S does).
std::string debugger_place(std::string_view spec);

/// Whether a name can be an id: a letter, then letters, digits, '-', '.', '_'.
bool is_well_formed_id(std::string_view id);
Status check_id(std::string_view id);

}  // namespace atl::control
