// A drive whose medium can be changed, as the monitor's commands see it. On the loop of its medium, but for the queries,
// which any thread may call.
#pragma once

#include "devices/storage/disk_io.h"

namespace atl::devices {

class RemovableDrive {
 public:
  virtual ~RemovableDrive() = default;
  virtual bool is_removable() const = 0;
  virtual bool tray_is_open() const = 0;
  /// The guest has locked the tray.
  virtual bool is_locked() const = 0;
  /// Presses the button: the guest is asked, and opens the tray itself.
  virtual void request_eject() = 0;
  virtual void open_tray() = 0;
  virtual void close_tray() = 0;
  /// Puts a medium in, or takes it out (nullptr). With nothing in flight.
  virtual void set_medium(block::Node* node) = 0;
  virtual DiskIo& medium_io() = 0;
};

}  // namespace atl::devices
