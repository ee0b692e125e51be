// One device's properties by name, with the defaults of device_table. check_device() has passed, so that every value has
// the form of its type.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "machine/config.h"
#include "machine/device_table.h"

namespace atl::machine {

class PropertyReader {
 public:
  explicit PropertyReader(const DeviceConfig& device) : device_(device), spec_(*find_device_spec(device.type)) {}

  const DeviceConfig& device() const { return device_; }
  /// The value given last, or the table's default.
  std::string_view text(std::string_view name) const;
  /// Whether the type has such a property at all.
  bool has(std::string_view name) const;
  bool given(std::string_view name) const { return find(name) != nullptr; }
  bool flag(std::string_view name) const;
  u64 number(std::string_view name) const;
  u64 size(std::string_view name) const;
  /// Nothing if neither given nor defaulted.
  std::optional<u64> optional_number(std::string_view name) const;
  /// "Property 'virtio-blk-pci.name': why".
  Error refuse(std::string_view name, std::string_view why) const;

 private:
  const std::string* find(std::string_view name) const;

  const DeviceConfig& device_;
  const DeviceSpec& spec_;
};

}  // namespace atl::machine
