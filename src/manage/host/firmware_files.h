// Firmware that is installed on this host, as packages describe it: the JSON files of /usr/share/qemu/firmware and /etc/qemu/firmware.
//
// Format: docs/interop/firmware.json of QEMU. A file in the later folder takes the place of one with the same name in the
// earlier; an empty one only hides it. The order of names is the order of preference.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "manage/error.h"

namespace atl::manage::host {

struct FirmwareTarget {
  std::string arch;
  std::vector<std::string> machines;  // patterns with '*'
};

struct FirmwareFile {
  std::vector<std::string> interfaces, features;
  std::vector<FirmwareTarget> targets;
  bool flash = false;        // else loaded as a ROM
  bool stateless = false;    // flash without variables
  std::string code, variables;

  bool has(std::string_view feature) const;
  bool is(std::string_view interface) const;
  /// `machine`: the versioned name.
  bool fits(std::string_view arch, std::string_view machine) const;
};

/// One file's text. What is of no use here (split images in other formats than raw) is refused, too.
Result<FirmwareFile> read_firmware_file(std::string_view text);
/// All that are readable and well-formed, best first; a broken one is logged and passed over.
std::vector<FirmwareFile> firmware_files(std::span<const std::string> folders);
/// Where packages and the administrator describe firmware.
std::span<const std::string> firmware_folders();

}  // namespace atl::manage::host
