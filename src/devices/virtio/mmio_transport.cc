#include "devices/virtio/mmio_transport.h"

#include <array>

#include <fmt/core.h>

#include "base/endian.h"

namespace atl::devices {

using namespace virtio;

namespace {

constexpr u32 kMagicValue = 0x74726976;   // "virt"
constexpr u32 kInterfaceVersion = 2;
constexpr u32 kVendorName = 0x4c4f5441;   // "ATOL"

// Registers (4.2.2).
enum Register : u32 {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSel = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSel = 0x024,
  kQueueSel = 0x030,
  kQueueNumMax = 0x034,
  kQueueNum = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptAck = 0x064,
  kStatus = 0x070,
  kQueueDescLow = 0x080,
  kQueueDescHigh = 0x084,
  kQueueDriverLow = 0x090,
  kQueueDriverHigh = 0x094,
  kQueueDeviceLow = 0x0a0,
  kQueueDeviceHigh = 0x0a4,
  kShmLenLow = 0x0b0,
  kShmBaseHigh = 0x0bc,
  kConfigGeneration = 0x0fc,
  kConfig = 0x100,
};

}  // namespace

VirtioMmio::VirtioMmio(std::string type, Place place, std::unique_ptr<VirtioDevice> device)
    : type_(std::move(type)), place_(place), device_(std::move(device)), control_(*device_) {}

Result<std::unique_ptr<VirtioMmio>> VirtioMmio::create(std::string type, Place place,
                                                       std::unique_ptr<VirtioDevice> device) {
  std::unique_ptr<VirtioMmio> mmio(new VirtioMmio(std::move(type), place, std::move(device)));
  TRY(mmio->claim().context(mmio->type_));
  mmio->device_->set_interrupts(mmio.get());
  return mmio;
}

Status VirtioMmio::claim() {
  memory::Region region{.name = type_, .base = place_.base, .size = kBytes, .device = this};
  for (u16 i = 0; i < device_->queue_count(); ++i) {
    const Fd& kick = device_->queue(i).kick_fd();
    if (!kick) return Error(ErrorKind::NoSpace, "no eventfd left");
    region.events.push_back({.offset = kQueueNotify, .width = 4, .value = i, .fd = kick.get()});
  }
  region_ = TRY(place_.memory.add(std::move(region)));
  return {};
}

VirtioMmio::~VirtioMmio() {
  if (region_) place_.memory.remove(region_);
  device_->set_interrupts(nullptr);
}

u64 VirtioMmio::bus_read(u64 offset, unsigned width) {
  if (offset >= kConfig) {
    std::array<u8, 8> bytes{};
    device_->config_read(static_cast<u32>(offset - kConfig), std::span(bytes).first(width));
    return load_le_n(bytes.data(), width);
  }
  return width == 4 && offset % 4 == 0 ? register_read(static_cast<u32>(offset)) : 0;
}

void VirtioMmio::bus_write(u64 offset, u64 value, unsigned width) {
  if (offset >= kConfig) {
    std::array<u8, 8> bytes{};
    store_le_n(bytes.data(), value, width);
    return device_->config_write(static_cast<u32>(offset - kConfig), std::span(bytes).first(width));
  }
  if (width == 4 && offset % 4 == 0) register_write(static_cast<u32>(offset), static_cast<u32>(value));
}

u32 VirtioMmio::register_read(u32 offset) {
  Lock lock(mutex_);
  switch (offset) {
    case kMagic: return kMagicValue;
    case kVersion: return kInterfaceVersion;
    case kDeviceId: return device_->device_id();
    case kVendorId: return kVendorName;
    case kDeviceFeatures: return control_.device_features(device_feature_select_);
    case kQueueNumMax: return control_.max_queue_size(queue_select_);
    case kQueueReady: return control_.queue(queue_select_).enabled;
    case kInterruptStatus: return interrupt_status_;
    case kStatus: return control_.status();
    case kConfigGeneration: return device_->config_generation();
    default: return offset >= kShmLenLow && offset <= kShmBaseHigh ? ~u32{0} : 0;  // no shared memory region
  }
}

void VirtioMmio::register_write(u32 offset, u32 value) {
  u32 queue = 0, word = 0;
  {
    Lock lock(mutex_);
    if (offset == kDeviceFeaturesSel) device_feature_select_ = value;
    if (offset == kDriverFeaturesSel) driver_feature_select_ = value;
    if (offset == kQueueSel) queue_select_ = value;
    queue = queue_select_;
    word = driver_feature_select_;
  }
  switch (offset) {
    case kDriverFeatures: return control_.set_driver_features(word, value);
    case kInterruptAck: return acknowledge(value);
    case kStatus:
      if (value <= 0xff && control_.write_status(static_cast<u8>(value))) reset_registers();
      return;
    case kQueueNotify:
      if (value < device_->queue_count()) signal_eventfd(device_->queue(static_cast<u16>(value)).kick_fd());
      return;
    default: return queue_write(offset, queue, value);
  }
}

void VirtioMmio::queue_write(u32 offset, u32 queue, u32 value) {
  using Part = VirtioControl::Part;
  switch (offset) {
    case kQueueNum: return control_.set_queue_size(queue, value);
    case kQueueReady: return control_.set_queue_enabled(queue, value == 1);
    case kQueueDescLow:
    case kQueueDescHigh: return control_.set_queue_address(queue, Part::Descriptors, offset / 4 & 1, value);
    case kQueueDriverLow:
    case kQueueDriverHigh: return control_.set_queue_address(queue, Part::Driver, offset / 4 & 1, value);
    case kQueueDeviceLow:
    case kQueueDeviceHigh: return control_.set_queue_address(queue, Part::Device, offset / 4 & 1, value);
    default: return;
  }
}

void VirtioMmio::acknowledge(u32 bits) {
  Lock lock(mutex_);
  interrupt_status_ = static_cast<u8>(interrupt_status_ & ~bits);
  if (interrupt_status_ == 0) place_.irq.set(false);
}

void VirtioMmio::raise(u8 bits) {
  Lock lock(mutex_);
  interrupt_status_ |= bits;
  place_.irq.set(true);
}

void VirtioMmio::reset_registers() {
  acknowledge(~u32{0});
  Lock lock(mutex_);
  device_feature_select_ = driver_feature_select_ = queue_select_ = 0;
}

void VirtioMmio::queue_interrupt(u16) { raise(kInterruptQueue); }
void VirtioMmio::config_interrupt() { raise(kInterruptConfig); }
void VirtioMmio::needs_reset() {
  if (control_.set_needs_reset()) config_interrupt();
}

void VirtioMmio::reset() {
  control_.reset();
  device_->power_on_reset();
  reset_registers();
}

void VirtioMmio::visit(Archive& archive) {
  archive.part(1, "control", [this](Archive& part) { control_.visit(part); });
  {
    Lock lock(mutex_);
    archive.field(2, "device_feature_select", device_feature_select_);
    archive.field(3, "driver_feature_select", driver_feature_select_);
    archive.field(4, "queue_select", queue_select_);
    archive.field(5, "interrupt_status", interrupt_status_);
    if (archive.loading()) place_.irq.set(interrupt_status_ != 0);
  }
  archive.part(6, "device", [this](Archive& part) { device_->visit_all(part, control_.activation()); });
}

}  // namespace atl::devices
