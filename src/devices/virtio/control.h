// The driver's view of a device that both transports have: status, features, queue set-up. VIRTIO 1.2 sections 3.1, 4.1.4.3,
// 4.2.2, and for legacy drivers 2.7.2 and 4.1.4.8.
//
// Threads: any; one mutex. Calls into the device only post to its loop. A reset of a device that was up takes until its
// requests have ended; meanwhile the status reads as not zero, and set-up done by an impatient driver takes effect after
// the reset, because the device serves its posts in order.
#pragma once

#include <condition_variable>
#include <optional>
#include <vector>

#include "base/archive.h"
#include "base/sync.h"
#include "base/types.h"
#include "devices/virtio/device.h"

namespace atl::devices {

class VirtioControl {
 public:
  explicit VirtioControl(VirtioDevice& device);

  u8 status();
  /// True if this was a reset (the transport resets its own registers, too).
  bool write_status(u8 value);
  /// Sets NEEDS_RESET; false if the driver is not up or has been told.
  bool set_needs_reset();

  /// Feature words 0 and 1; others read as zero and are ignored.
  u32 device_features(u32 word) const;
  u32 driver_features(u32 word);
  void set_driver_features(u32 word, u32 value);

  enum class Part : u8 { Descriptors, Driver, Device };
  /// Zeroes for a queue that does not exist.
  QueueLayout queue(u32 index);
  u16 max_queue_size(u32 index) const;
  // Ignored once the driver is up, for queues in use, and for queues that do not exist.
  void set_queue_size(u32 index, u32 size);
  /// Replaces the low (word 0) or high (word 1) half of an address.
  void set_queue_address(u32 index, Part part, unsigned word, u32 value);
  void set_queue_enabled(u32 index, bool enabled);

  // Legacy drivers: one address of whole pages a queue, no FEATURES_OK, and a reset that is over when the write returns.
  /// The page that the queue begins in; 0: none.
  u32 legacy_page(u32 index);
  void set_legacy_page(u32 index, u32 page);
  /// Features that the device does not offer are dropped.
  void set_legacy_features(u32 value);
  /// True if this was a reset, which waits for requests under way.
  bool write_legacy_status(u8 value);
  /// Some drivers use their queues before they say DRIVER_OK.
  void legacy_kicked();

  /// Power-on state; the device is quiesced and reset by the caller.
  void reset();
  void visit(Archive& archive);
  /// What the driver chose, if it is up. For restoring a device.
  std::optional<VirtioDevice::Activation> activation();

 private:
  QueueLayout* changeable(u32 index) REQUIRES(mutex_);
  void forget() REQUIRES(mutex_);
  void start_reset();
  void bring_up_legacy(bool wanted);
  void reset_done();
  VirtioDevice::Activation collect() const REQUIRES(mutex_);

  VirtioDevice& device_;
  Mutex mutex_;
  std::condition_variable_any no_reset_pending_;
  u8 status_ GUARDED_BY(mutex_) = 0;
  bool up_ GUARDED_BY(mutex_) = false;  // the device works with this driver
  unsigned resets_pending_ GUARDED_BY(mutex_) = 0;
  u64 driver_features_ GUARDED_BY(mutex_) = 0;
  std::vector<QueueLayout> queues_ GUARDED_BY(mutex_);
};

}  // namespace atl::devices
