// Disks as a guest's agent names them (GuestDiskAddress of QEMU's guest agent protocol), and ours.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "manage/domain/tree.h"

namespace atl::manage {

/// The target ("vda") of the disk at that place of the guest; "" if it is none of ours.
std::string disk_of_guest(const Element& domain, const nlohmann::json& address);

}  // namespace atl::manage
