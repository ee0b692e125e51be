// One device of a domain in QEMU's words: what the command line says about it, and what QMP says to add it to a running VM. The
// same lists serve both, and domxml-to-native.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "manage/domain/option_list.h"
#include "manage/domain/tree.h"

namespace atl::manage {

/// What the daemon hands to the VM: numbers of inherited descriptors, or names of descriptors passed over QMP.
struct Handed {
  std::map<std::string, std::string> taps;  // by alias of the network card
  std::string monitor;                      // the listening socket
  std::string vhost_vsock;
  std::string tpm;                          // the socket of its process
  std::string secrets;                      // the folder with passphrases of disks
};

// disk_parts.cc
/// Block nodes of a disk, lowest first, as blockdev-add takes them; empty without a medium.
Result<std::vector<nlohmann::json>> disk_nodes(const Element& disk);
/// The front end. `boot_index` of 0: none.
Result<OptionList> disk_device(const Element& domain, const Element& disk, u64 boot_index);

// net_parts.cc
Result<OptionList> net_backend(const Element& card, const Handed& handed);
Result<OptionList> net_device(const Element& domain, const Element& card, u64 boot_index);

// char_parts.cc
/// The character back end of a serial port, console or channel, with id "char" + alias.
Result<OptionList> char_backend(const Element& port);
/// Nothing for a console that is another name of a serial port.
Result<std::optional<OptionList>> char_device(const Element& port);

// device_parts.cc
/// A controller, video card, input device, balloon ...: its objects, and its device; none if the board has it anyway.
struct DeviceParts {
  std::vector<OptionList> objects = {};                                // -object
  std::vector<std::pair<std::string, std::string>> more_options = {};  // "-vga" "std"
  std::vector<OptionList> devices = {};                                // -device
};
Result<DeviceParts> other_device(const Element& domain, const Element& device, const Handed& handed);

/// bus= and addr= of a PCI device, or none on a board without PCI.
void set_bus_address(OptionList& options, const Element& domain, const Element& device);
/// "virtio-blk" and what the board's bus is called: "virtio-blk-pci" or "virtio-blk-device".
std::string virtio_name(const Element& domain, std::string_view family);

}  // namespace atl::manage
