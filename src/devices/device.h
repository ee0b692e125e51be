// What every device model is to the board that owns it.
#pragma once

#include <string>
#include <string_view>

#include "base/archive.h"

namespace atl::devices {

/// Built in order by the board, destroyed in reverse. reset() and visit() are called on the control thread with the vCPUs
/// stopped and the device's queues drained.
class Device {
 public:
  virtual ~Device() = default;
  /// Type as -device spells it, or a fixed name for board parts ("isa-serial").
  virtual std::string_view type() const = 0;
  /// Back to power-on state.
  virtual void reset() = 0;
  /// The numbered fields of its state.
  virtual void visit(Archive& archive) = 0;
  /// Further lines for `info qtree`.
  virtual std::string describe() const { return {}; }
};

}  // namespace atl::devices
