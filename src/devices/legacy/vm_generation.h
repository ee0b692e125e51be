// The VM generation ID ("Virtual Machine Generation ID", Microsoft, 2012): 16 bytes at a fixed place, which tell a guest whether it is
// still the machine that it was, or a copy. ACPI's VGEN device says where they are.
// Missing: changing it while the guest runs.
//
// Threads: control.
#pragma once

#include <array>
#include <string>

#include "devices/device.h"
#include "memory/address_space.h"

namespace atl::devices {

class VmGeneration final : public Device {
 public:
  static constexpr GuestAddr kBase = 0xfed60000;  // a page that nothing else has
  using Guid = std::array<u8, 16>;  // in the order of its text

  explicit VmGeneration(const Guid& guid) : guid_(guid) {}
  /// "auto" makes a new one.
  static Result<Guid> parse(std::string_view text);
  Result<memory::Region> memory_region();
  std::string text() const;

  std::string_view type() const override { return "vmgenid"; }
  void reset() override {}
  /// A restored machine is another one: it keeps the ID that it was started with.
  void visit(Archive&) override {}
  std::string describe() const override { return "guid = " + text(); }

 private:
  const Guid guid_;
};

}  // namespace atl::devices
