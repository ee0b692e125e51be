// The firmware of a domain: what <os firmware=>, <loader> and <nvram> may say, and which of the host's firmware a VM starts with
// that leaves the choice open. A stored definition keeps the question; the tree of what runs has the answer, as with libvirt.
#pragma once

#include <string>

#include "manage/domain/tree.h"
#include "manage/host/firmware_files.h"

namespace atl::manage {

struct FirmwareHost {
  std::string state;               // the daemon's state folder, where variables are kept
  bool kvm_without_smm = false;    // domains of type kvm get hardware here, on which no firmware can have system management mode
  std::vector<host::FirmwareFile> files;
};
FirmwareHost find_firmware(const std::string& state);

/// Refuses what contradicts itself.
Status check_firmware(const Element& domain);
/// The variables' file of a <loader> that a definition names itself.
void name_variables(Element& domain, const std::string& state);
/// Before a start: <loader> and <nvram> as the VM gets them, and the features that they need.
Status choose_firmware(Element& domain, const FirmwareHost& host);
/// Where the firmware's variables are, of a stored definition too; "" if it has none.
std::string variables_path(const Element& domain, const std::string& state);

}  // namespace atl::manage
