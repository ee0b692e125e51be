#include "devices/virtio/control.h"

#include <utility>

namespace atl::devices {

using namespace virtio;

namespace {

/// What the status shows besides the driver's own bits while a reset is under way: a bit without a meaning.
constexpr u8 kStatusResetting = 0x10;
constexpr u8 kDriverBits =
    kStatusAcknowledge | kStatusDriver | kStatusDriverOk | kStatusFeaturesOk | kStatusFailed;

}  // namespace

VirtioControl::VirtioControl(VirtioDevice& device) : device_(device), queues_(device.queue_count()) {
  Lock lock(mutex_);
  forget();
}

void VirtioControl::forget() {
  status_ = 0;
  driver_features_ = 0;
  for (u16 i = 0; i < queues_.size(); ++i) queues_[i] = {.size = device_.queue(i).max_size()};
}

u8 VirtioControl::status() {
  Lock lock(mutex_);
  return resets_pending_ ? status_ | kStatusResetting : status_;
}

bool VirtioControl::write_status(u8 value) {
  if (value == 0) {
    start_reset();
    return true;
  }
  std::optional<VirtioDevice::Activation> up;
  {
    Lock lock(mutex_);
    u8 before = status_;
    value &= kDriverBits;
    if ((value & ~before & kStatusFeaturesOk) && !device_.accepts(driver_features_)) value &= ~kStatusFeaturesOk;
    if (!(value & kStatusFeaturesOk)) value &= ~kStatusDriverOk;
    status_ = static_cast<u8>(value | (before & (kStatusNeedsReset | kStatusDriverOk)));
    if (value & ~before & kStatusDriverOk) up = collect();
  }
  if (up) device_.activate(std::move(*up));
  return false;
}

/// A device that was never up has nothing in flight and is reset at once.
void VirtioControl::start_reset() {
  {
    Lock lock(mutex_);
    bool was_up = status_ & kStatusDriverOk;
    forget();
    if (!was_up) return;
    ++resets_pending_;
  }
  device_.deactivate([this] { reset_done(); });
}

void VirtioControl::reset_done() {
  Lock lock(mutex_);
  if (resets_pending_) --resets_pending_;
}

bool VirtioControl::set_needs_reset() {
  Lock lock(mutex_);
  if (!(status_ & kStatusDriverOk) || (status_ & kStatusNeedsReset)) return false;
  status_ |= kStatusNeedsReset;
  return true;
}

u32 VirtioControl::device_features(u32 word) const {
  return word < 2 ? static_cast<u32>(device_.features() >> (32 * word)) : 0;
}

u32 VirtioControl::driver_features(u32 word) {
  Lock lock(mutex_);
  return word < 2 ? static_cast<u32>(driver_features_ >> (32 * word)) : 0;
}

void VirtioControl::set_driver_features(u32 word, u32 value) {
  Lock lock(mutex_);
  if (word >= 2 || (status_ & kStatusFeaturesOk)) return;
  unsigned shift = 32 * word;
  driver_features_ = (driver_features_ & ~(u64{0xffffffff} << shift)) | u64{value} << shift;
}

QueueLayout VirtioControl::queue(u32 index) {
  Lock lock(mutex_);
  return index < queues_.size() ? queues_[index] : QueueLayout{};
}

u16 VirtioControl::max_queue_size(u32 index) const {
  return index < device_.queue_count() ? device_.queue(static_cast<u16>(index)).max_size() : 0;
}

QueueLayout* VirtioControl::changeable(u32 index) {
  bool fixed = index >= queues_.size() || (status_ & kStatusDriverOk) || queues_[index].enabled;
  return fixed ? nullptr : &queues_[index];
}

void VirtioControl::set_queue_size(u32 index, u32 size) {
  Lock lock(mutex_);
  QueueLayout* queue = changeable(index);
  if (queue && size <= max_queue_size(index)) queue->size = static_cast<u16>(size);
}

void VirtioControl::set_queue_address(u32 index, Part part, unsigned word, u32 value) {
  Lock lock(mutex_);
  QueueLayout* queue = changeable(index);
  if (!queue) return;
  GuestAddr& address = part == Part::Descriptors ? queue->descriptors
                       : part == Part::Driver    ? queue->driver
                                                 : queue->device;
  unsigned shift = 32 * (word & 1);
  address = (address & ~(u64{0xffffffff} << shift)) | u64{value} << shift;
}

void VirtioControl::set_queue_enabled(u32 index, bool enabled) {
  Lock lock(mutex_);
  if (index < queues_.size() && !(status_ & kStatusDriverOk)) queues_[index].enabled = enabled;
}

VirtioDevice::Activation VirtioControl::collect() const { return {.features = driver_features_, .queues = queues_}; }

std::optional<VirtioDevice::Activation> VirtioControl::activation() {
  Lock lock(mutex_);
  if (!(status_ & kStatusDriverOk)) return std::nullopt;
  return collect();
}

void VirtioControl::reset() {
  Lock lock(mutex_);
  forget();
}

void VirtioControl::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "status", status_);
  archive.field(2, "driver_features", driver_features_);
  u32 number = 16;
  for (QueueLayout& queue : queues_) {
    archive.part(number++, "queue", [&queue](Archive& part) {
      part.field(1, "size", queue.size);
      part.field(2, "enabled", queue.enabled);
      part.field(3, "descriptors", queue.descriptors);
      part.field(4, "driver", queue.driver);
      part.field(5, "device", queue.device);
    });
  }
  if (archive.loading() && (status_ & kStatusFeaturesOk) && !device_.accepts(driver_features_))
    archive.fail("virtio features that the device does not offer");
}

}  // namespace atl::devices
