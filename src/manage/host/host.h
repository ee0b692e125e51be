// What the machine that we run on is: processors, memory, versions, and what guests can get here. Any thread.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/types.h"
#include "manage/error.h"
#include "manage/host/capabilities.h"
#include "manage/host/cpu_text.h"
#include "manage/host/node.h"
#include "manage/rpc/xdr.h"

namespace atl::manage {
struct Config;
}

namespace atl::manage::host {

/// The libvirt whose protocol and behaviour we follow, and the QEMU that atoll-vmm stands in for: major * 1000000 +
/// minor * 1000 + release.
inline constexpr u64 kLibvirtVersion = 9'000'000;
inline constexpr u64 kHypervisorVersion = 7'002'000;
/// What a virtual machine may have at most.
inline constexpr i32 kMaxVcpus = 255;

class Host {
 public:
  static Result<std::unique_ptr<Host>> create(const Config& config);

  const Node& node() const { return node_; }
  /// As this machine calls itself, with its domain if DNS knows one.
  Result<std::string> hostname() const;
  /// The board's uuid as the firmware tells it, else one made once and kept in the configuration folder.
  const Uuid& uuid() const { return uuid_; }
  /// The document of virConnectGetCapabilities.
  std::string capabilities() const { return capabilities_text(node_, uuid_, emulator_); }
  /// The document of virConnectGetDomainCapabilities.
  Result<std::string> domain_capabilities(const GuestKind& kind) const;
  /// What guests get here; asks the accelerators at the first call.
  const GuestCpu& guest_cpu() const;
  /// The path of atoll-vmm.
  const std::string& emulator() const { return emulator_; }

 private:
  Host(Node node, const Uuid& uuid, std::string emulator)
      : node_(std::move(node)), uuid_(uuid), emulator_(std::move(emulator)) {}

  const Node node_;
  const Uuid uuid_;
  const std::string emulator_;
  mutable std::once_flag asked_;
  mutable GuestCpu guest_cpu_;
};

/// The document of virConnectGetSysinfo.
std::string sysinfo_text();

}  // namespace atl::manage::host
