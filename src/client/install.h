// `atoll install`: a new domain from virt-install's options (virt-install(1)).
//
// Supported: see kInstallHelp in install_options.cc. Refused by name: --location with a URL (fetch the kernel and use
// --install kernel=),
// --cloud-init, --unattended, --host-device, and whatever else virt-install has that the table of options has not.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/verb.h"
#include "manage/xml/element.h"

namespace atl::client {

/// "path=/a,size=10": the keys, in order. A first word without "=" has the key "".
using SubOptions = std::vector<std::pair<std::string, std::string>>;
SubOptions split_sub_options(std::string_view text);

struct InstallOptions {
  std::map<std::string, std::string> single;               // the last of each counts
  std::map<std::string, std::vector<SubOptions>> devices;  // --disk, --network ..., as often as they are given
  bool has(const std::string& name) const { return single.contains(name) || devices.contains(name); }
  const std::string& operator[](const std::string& name) const;
};

Result<InstallOptions> parse_install_options(std::span<const std::string> words);
std::string_view install_help();

/// A disk's file that is to be made first.
struct NewVolume {
  std::string path, format, backing_path, backing_format;
  u64 bytes = 0;
  bool is_sparse = true;
};

/// What the options come to.
struct InstallPlan {
  std::string name;
  manage::xml::Element first{"domain"};  // boots the installer; as `last` if there is none to boot
  manage::xml::Element last{"domain"};   // what is defined for good
  bool installs = false;                 // the two differ
  std::vector<NewVolume> volumes;
};
Result<InstallPlan> plan_install(const InstallOptions& options);

int run_install(Context& context, std::span<const std::string> words);

}  // namespace atl::client
