// A domain's command line in QEMU's words, the way libvirt writes it: what atoll-vmm is started with, what the log shows, and what
// domxml-to-native answers.
#pragma once

#include <string>
#include <vector>

#include "manage/domain/vm_parts.h"

namespace atl::manage {

struct VmCommand {
  std::string program;
  std::vector<std::string> arguments;    // without the program
  std::vector<std::string> environment;  // "NAME=value"

  /// As libvirt's log and domxml-to-native print it: one line, quoted for a shell.
  std::string text() const;
};

/// Of a tree with aliases (aliases.h). Refuses by name what has no words here.
Result<VmCommand> compose_command(const Element& domain, const Handed& handed);

/// Boot order of disks and network cards: 1 is first, 0 is none.
u64 boot_index(const Element& domain, const Element& device);

}  // namespace atl::manage
