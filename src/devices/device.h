// What every device model is to the board that owns it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/archive.h"

namespace atl::devices {

/// Built in order by the board, destroyed in reverse. reset() and visit() are called on the control thread with the vCPUs
/// stopped and the device quiesced.
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

  /// Stops the device's own work (queues, timers that touch guest memory): `done` is called once, on the device's loop or
  /// at once, when nothing of it is in flight any more. With the vCPUs stopped; the caller must not be a callback of the
  /// device's loop that then waits for `done`.
  virtual void quiesce(std::function<void()> done) { done(); }
  /// Goes on after quiesce().
  virtual void resume() {}
};

}  // namespace atl::devices
