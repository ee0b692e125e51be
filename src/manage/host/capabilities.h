// The two documents that clients plan by: capabilities of the host, and of one kind of guest (libvirt's formatcaps and
// formatdomaincaps; schemas capability.rng and domaincaps.rng).
#pragma once

#include <string>

#include "manage/error.h"
#include "manage/host/cpu_text.h"
#include "manage/host/node.h"
#include "manage/rpc/xdr.h"

namespace atl::manage::host {

std::string capabilities_text(const Node& node, const Uuid& uuid, const std::string& emulator);

/// What a client asks about; empty: the usual one.
struct GuestKind {
  std::string emulator, arch, machine, type;
};
/// Refuses what does not exist here.
Result<std::string> domain_capabilities_text(const GuestKind& kind, const std::string& emulator, const GuestCpu& cpu);

}  // namespace atl::manage::host
