// <encryption> of disks: LUKS, alone or inside of qcow2, with the passphrase in a secret.
#pragma once

#include <string>

#include "manage/domain/tree.h"

namespace atl::manage {

/// Checks and completes it; nothing happens to a disk that has none.
Status complete_encryption(Element& disk);
/// The <secret> of a disk that is encrypted; null if it is not.
const Element* disk_secret(const Element& disk);
/// The name that the VM knows the passphrase by: "libvirt-1-format-encryption-secret0"; "" without one.
std::string disk_secret_id(const Element& disk);

}  // namespace atl::manage
