#include "devices/virtio/control.h"

#include <chrono>
#include <utility>

#include "base/math.h"

namespace atl::devices {

using namespace virtio;

namespace {

/// What the status shows besides the driver's own bits while a reset is under way: a bit without a meaning.
constexpr u8 kStatusResetting = 0x10;
constexpr u8 kDriverBits =
    kStatusAcknowledge | kStatusDriver | kStatusDriverOk | kStatusFeaturesOk | kStatusFailed;

/// A legacy driver takes its memory back when the write returns; but a disk that never answers must not hold a vCPU for ever.
constexpr std::chrono::seconds kLegacyResetLimit{10};

}  // namespace

VirtioControl::VirtioControl(VirtioDevice& device) : device_(device), queues_(device.queue_count()) {
  Lock lock(mutex_);
  forget();
}

void VirtioControl::forget() {
  status_ = 0;
  up_ = false;
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
    if ((value & kStatusDriverOk) && !std::exchange(up_, true)) up = collect();
  }
  if (up) device_.activate(std::move(*up));
  return false;
}

/// A device that was never up has nothing in flight and is reset at once.
void VirtioControl::start_reset() {
  {
    Lock lock(mutex_);
    const bool was_up = up_;
    forget();
    if (!was_up) return;
    ++resets_pending_;
  }
  device_.deactivate([this] { reset_done(); });
}

void VirtioControl::reset_done() {
  Lock lock(mutex_);
  if (resets_pending_ && --resets_pending_ == 0) no_reset_pending_.notify_all();
}

bool VirtioControl::set_needs_reset() {
  Lock lock(mutex_);
  if (!up_ || (status_ & kStatusNeedsReset)) return false;
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
  bool fixed = index >= queues_.size() || up_ || queues_[index].enabled;
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
  if (index < queues_.size() && !up_) queues_[index].enabled = enabled;
}

VirtioDevice::Activation VirtioControl::collect() const { return {.features = driver_features_, .queues = queues_}; }

std::optional<VirtioDevice::Activation> VirtioControl::activation() {
  Lock lock(mutex_);
  if (!up_) return std::nullopt;
  return collect();
}

// Legacy drivers.

u32 VirtioControl::legacy_page(u32 index) {
  Lock lock(mutex_);
  return index < queues_.size() && queues_[index].enabled ? static_cast<u32>(queues_[index].descriptors >> 12) : 0;
}

/// The three parts follow each other, the used ring on a page of its own (2.7.2).
void VirtioControl::set_legacy_page(u32 index, u32 page) {
  Lock lock(mutex_);
  if (index >= queues_.size() || up_) return;
  QueueLayout& queue = queues_[index];
  queue.size = max_queue_size(index);
  queue.enabled = page != 0;
  queue.descriptors = u64{page} << 12;
  queue.driver = queue.descriptors + 16 * u64{queue.size};
  queue.device = align_up(queue.driver + 6 + 2 * u64{queue.size}, kPageSize);
}

void VirtioControl::set_legacy_features(u32 value) {
  Lock lock(mutex_);
  if (!up_) driver_features_ = value & device_.features();
}

bool VirtioControl::write_legacy_status(u8 value) {
  if (value == 0) {
    start_reset();
    Lock lock(mutex_);
    no_reset_pending_.wait_for(lock, kLegacyResetLimit, [this]() REQUIRES(mutex_) { return resets_pending_ == 0; });
    return true;
  }
  {
    Lock lock(mutex_);
    status_ = static_cast<u8>((value & kDriverBits & ~kStatusFeaturesOk) | (status_ & kStatusNeedsReset));
  }
  bring_up_legacy(value & kStatusDriverOk);
  return false;
}

void VirtioControl::legacy_kicked() { bring_up_legacy(true); }

void VirtioControl::bring_up_legacy(bool wanted) {
  std::optional<VirtioDevice::Activation> up;
  {
    Lock lock(mutex_);
    if (wanted && !std::exchange(up_, true)) up = collect();
  }
  if (up) device_.activate(std::move(*up));
}

void VirtioControl::reset() {
  Lock lock(mutex_);
  forget();
}

void VirtioControl::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "status", status_);
  archive.field(2, "driver_features", driver_features_);
  archive.field(3, "up", up_);
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
