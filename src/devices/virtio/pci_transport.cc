#include "devices/virtio/pci_transport.h"

#include <array>

#include <fmt/core.h>

#include "base/endian.h"
#include "base/math.h"

namespace atl::devices {

using namespace virtio;

namespace {

constexpr u16 kVendor = 0x1af4;
constexpr u16 kDeviceBase = 0x1040;
constexpr u16 kSubsystem = 0x1100;

constexpr unsigned kLegacyBar = 0, kMsixBar = 1, kRegisterBar = 4;
// BAR 4.
constexpr u32 kRegisterBytes = 0x4000;
constexpr u32 kCommonAt = 0, kIsrAt = 0x1000, kConfigAt = 0x2000, kNotifyAt = 0x3000;
constexpr u32 kPartBytes = 0x1000;
constexpr u32 kNotifyMultiplier = 4;
constexpr unsigned kMaxQueues = kPartBytes / kNotifyMultiplier;

// Capability types (4.1.4).
constexpr u8 kCapCommon = 1, kCapNotify = 2, kCapIsr = 3, kCapDevice = 4, kCapPciCfg = 5;

// Fields of the common configuration (4.1.4.3).
enum Common : u32 {
  kDeviceFeatureSelect = 0,
  kDeviceFeature = 4,
  kDriverFeatureSelect = 8,
  kDriverFeature = 12,
  kConfigMsixVector = 16,
  kNumQueues = 18,
  kDeviceStatus = 20,
  kConfigGeneration = 21,
  kQueueSelect = 22,
  kQueueSize = 24,
  kQueueMsixVector = 26,
  kQueueEnable = 28,
  kQueueNotifyOff = 30,
  kQueueDesc = 32,
  kQueueDriver = 40,
  kQueueDevice = 48,
};

// The pci-cfg capability (4.1.4.9).
constexpr u8 kCfgBar = 4, kCfgOffset = 8, kCfgLength = 12, kCfgData = 16;

struct Capability {
  u8 type;
  u32 offset, length;
  u32 extra = 0;       // notify: the multiplier
  bool has_extra = false;
};

/// The capability without its first two bytes.
std::vector<u8> capability_body(const Capability& capability) {
  std::vector<u8> body(capability.has_extra ? 18 : 14);
  body[0] = static_cast<u8>(body.size() + 2);
  body[1] = capability.type;
  body[2] = capability.type == kCapPciCfg ? 0 : kRegisterBar;
  store_le<u32>(&body[6], capability.offset);
  store_le<u32>(&body[10], capability.length);
  if (capability.has_extra) store_le<u32>(&body[14], capability.extra);
  return body;
}

u32 class_of(u16 device_id) {
  switch (device_id) {
    case kIdNet: return 0x020000;
    case kIdBlock:
    case kIdScsi: return 0x010000;
    case kIdConsole: return 0x078000;
    case kIdGpu: return 0x038000;
    case kIdInput: return 0x098000;
    default: return 0x00ff00;
  }
}

/// A transitional device has its old id, revision 0, and its kind as the subsystem (4.1.2.1).
PciIdentity identity_of(const VirtioDevice& device, const VirtioPciOptions& options) {
  const u16 kind = device.device_id();
  const u32 class_code = options.class_code.value_or(class_of(kind));
  if (options.legacy)
    return {.vendor = kVendor, .device = transitional_pci_id(kind).value_or(0), .revision = 0, .class_code = class_code,
            .subsystem_vendor = kVendor, .subsystem = kind};
  return {.vendor = kVendor, .device = static_cast<u16>(kDeviceBase + kind), .revision = 1, .class_code = class_code,
          .subsystem_vendor = kVendor, .subsystem = kSubsystem};
}

}  // namespace

VirtioPci::VirtioPci(std::unique_ptr<VirtioDevice> device, VirtioPciOptions options)
    : device_(std::move(device)),
      options_(std::move(options)),
      control_(*device_),
      function_(options_.type, identity_of(*device_, options_)),
      queue_vectors_(device_->queue_count()) {
  reset_registers();
}

VirtioPci::~VirtioPci() { device_->set_interrupts(nullptr); }

Result<std::unique_ptr<VirtioPci>> VirtioPci::create(cpu::Vm& vm, std::unique_ptr<VirtioDevice> device,
                                                     VirtioPciOptions options) {
  std::unique_ptr<VirtioPci> pci(new VirtioPci(std::move(device), std::move(options)));
  TRY(pci->build(vm));
  pci->device_->set_interrupts(pci.get());
  return pci;
}

Status VirtioPci::build(cpu::Vm& vm) {
  u16 queues = device_->queue_count();
  if (queues > kMaxQueues) return Error(ErrorKind::Invalid, fmt::format("{}: {} queues are too many", type(), queues));
  for (u16 i = 0; i < queues; ++i)
    if (!device_->queue(i).kick_fd()) return Error(ErrorKind::NoSpace, fmt::format("{}: no eventfd left", type()));
  unsigned vectors = options_.vectors.value_or(queues + 1u);
  if (options_.legacy && !transitional_pci_id(device_->device_id()))
    return Error(ErrorKind::Invalid, fmt::format("{}: device is modern-only, use disable-legacy=on", type()));
  if (vectors) TRY(function_.add_msix(vm, vectors, kMsixBar));
  function_.set_interrupt_pin(1);
  if (options_.legacy)
    function_.set_bar(kLegacyBar, {.kind = PciBar::Kind::Io, .size = LegacyRegisters::bar_bytes(*device_, vectors != 0), .device = &legacy_registers_});
  if (!options_.modern) return {};
  function_.set_bar(kRegisterBar, register_bar());
  add_capabilities();
  return {};
}

PciBar VirtioPci::register_bar() {
  PciBar bar{.kind = PciBar::Kind::Memory64, .prefetchable = true, .size = kRegisterBytes, .device = &registers_};
  for (u16 i = 0; i < device_->queue_count(); ++i)
    bar.events.push_back({.offset = kNotifyAt + kNotifyMultiplier * i, .fd = device_->queue(i).kick_fd().get()});
  return bar;
}

void VirtioPci::add_capabilities() {
  const Capability regions[] = {
      {kCapCommon, kCommonAt, kPartBytes},
      {kCapIsr, kIsrAt, kPartBytes},
      {kCapDevice, kConfigAt, kPartBytes},
      {kCapNotify, kNotifyAt, kPartBytes, kNotifyMultiplier, true},
  };
  for (const Capability& region : regions) function_.add_capability(pci::kCapabilityVendor, capability_body(region));
  std::array<u8, 18> writable{};
  writable[kCfgBar - 2] = 0xff;
  for (u8 i = kCfgOffset; i < kCfgData + 4; ++i) writable[i - 2] = 0xff;
  cfg_capability_ = function_.add_capability(pci::kCapabilityVendor, capability_body({kCapPciCfg, 0, 0, 0, true}), writable);
  function_.set_window({.offset = static_cast<u16>(cfg_capability_ + kCfgData), .size = 4,
                        .before_read = [this](u16, unsigned) { window_access(false); },
                        .after_write = [this](u16, unsigned) { window_access(true); }});
}

u64 VirtioPci::Registers::bus_read(u64 offset, unsigned width) {
  u32 at = static_cast<u32>(offset) & (kPartBytes - 1);
  switch (offset & ~u64{kPartBytes - 1}) {
    case kCommonAt: {
      u64 value = owner_.common_read(at);
      if (width == 8) value |= owner_.common_read(at + 4) << 32;
      return value & byte_mask(width);
    }
    case kIsrAt: return at == 0 ? owner_.take_isr() : 0;
    case kConfigAt: {
      std::array<u8, 8> bytes{};
      owner_.device_->config_read(at, std::span(bytes).first(width));
      return load_le_n(bytes.data(), width);
    }
    default: return 0;
  }
}

void VirtioPci::Registers::bus_write(u64 offset, u64 value, unsigned width) {
  u32 at = static_cast<u32>(offset) & (kPartBytes - 1);
  switch (offset & ~u64{kPartBytes - 1}) {
    case kCommonAt:
      owner_.common_write(at, static_cast<u32>(value), width == 8 ? 4 : width);
      if (width == 8) owner_.common_write(at + 4, static_cast<u32>(value >> 32), 4);
      break;
    case kConfigAt: {
      std::array<u8, 8> bytes{};
      store_le_n(bytes.data(), value, width);
      owner_.device_->config_write(at, std::span(bytes).first(width));
      break;
    }
    case kNotifyAt: owner_.kick(at / kNotifyMultiplier); break;
    default: break;
  }
}

u16 VirtioPci::selected_queue() {
  Lock lock(mutex_);
  return queue_select_;
}

void VirtioPci::select_queue(u16 queue) {
  Lock lock(mutex_);
  queue_select_ = queue;
}

u64 VirtioPci::common_read(u32 offset) {
  u16 selected = selected_queue();
  switch (offset) {
    case kDeviceFeature: {
      Lock lock(mutex_);
      return control_.device_features(device_feature_select_);
    }
    case kDriverFeature: {
      Lock lock(mutex_);
      return control_.driver_features(driver_feature_select_);
    }
    case kDeviceFeatureSelect: {
      Lock lock(mutex_);
      return device_feature_select_;
    }
    case kDriverFeatureSelect: {
      Lock lock(mutex_);
      return driver_feature_select_;
    }
    case kConfigMsixVector: return config_vector_.load();
    case kNumQueues: return device_->queue_count();
    case kDeviceStatus: return control_.status();
    case kConfigGeneration: return device_->config_generation();
    case kQueueSelect: return selected;
    case kQueueSize: return control_.queue(selected).size;
    case kQueueMsixVector: return selected < queue_vectors_.size() ? queue_vectors_[selected].load() : kNoVector;
    case kQueueEnable: return control_.queue(selected).enabled;
    case kQueueNotifyOff: return selected;
    case kQueueDesc: return static_cast<u32>(control_.queue(selected).descriptors);
    case kQueueDesc + 4: return control_.queue(selected).descriptors >> 32;
    case kQueueDriver: return static_cast<u32>(control_.queue(selected).driver);
    case kQueueDriver + 4: return control_.queue(selected).driver >> 32;
    case kQueueDevice: return static_cast<u32>(control_.queue(selected).device);
    case kQueueDevice + 4: return control_.queue(selected).device >> 32;
    default: return 0;
  }
}

/// Fields are written whole, with their own width (4.1.3.1); anything else is ignored.
void VirtioPci::common_write(u32 offset, u32 value, unsigned width) {
  unsigned field = offset < kConfigMsixVector || offset >= kQueueDesc           ? 4
                   : offset == kDeviceStatus || offset == kConfigGeneration ? 1
                                                                              : 2;
  if (width != field) return;
  switch (offset) {
    case kDeviceFeatureSelect:
    case kDriverFeatureSelect:
    case kQueueSelect: return select_write(offset, value);
    case kDriverFeature: {
      Lock lock(mutex_);
      return control_.set_driver_features(driver_feature_select_, value);
    }
    case kConfigMsixVector: return config_vector_.store(checked_vector(value));
    case kDeviceStatus:
      if (control_.write_status(static_cast<u8>(value))) reset_registers();
      return;
    default: return queue_write(offset, value);
  }
}

void VirtioPci::select_write(u32 offset, u32 value) {
  Lock lock(mutex_);
  if (offset == kDeviceFeatureSelect) device_feature_select_ = value;
  if (offset == kDriverFeatureSelect) driver_feature_select_ = value;
  if (offset == kQueueSelect) queue_select_ = static_cast<u16>(value);
}

void VirtioPci::queue_write(u32 offset, u32 value) {
  using Part = VirtioControl::Part;
  u16 queue = selected_queue();
  switch (offset) {
    case kQueueSize: return control_.set_queue_size(queue, value);
    case kQueueMsixVector:
      if (queue < queue_vectors_.size()) queue_vectors_[queue].store(checked_vector(value));
      return;
    case kQueueEnable:
      if (value == 1) control_.set_queue_enabled(queue, true);
      return;
    case kQueueDesc:
    case kQueueDesc + 4: return control_.set_queue_address(queue, Part::Descriptors, offset / 4 & 1, value);
    case kQueueDriver:
    case kQueueDriver + 4: return control_.set_queue_address(queue, Part::Driver, offset / 4 & 1, value);
    case kQueueDevice:
    case kQueueDevice + 4: return control_.set_queue_address(queue, Part::Device, offset / 4 & 1, value);
    default: return;
  }
}

/// A vector that does not exist reads back as none (4.1.5.1.2.1).
u16 VirtioPci::checked_vector(u32 value) {
  Msix* msix = function_.msix();
  return msix && value < msix->vectors() ? static_cast<u16>(value) : kNoVector;
}

u8 VirtioPci::take_isr() {
  Lock lock(mutex_);
  u8 isr = std::exchange(isr_, u8{0});
  if (isr) function_.set_intx(false);
  return isr;
}

void VirtioPci::raise_isr(u8 bits) {
  Lock lock(mutex_);
  isr_ |= bits;
  function_.set_intx(true);
}

void VirtioPci::kick(u64 queue) {
  if (queue < device_->queue_count()) signal_eventfd(device_->queue(static_cast<u16>(queue)).kick_fd());
}

void VirtioPci::window_access(bool write) {
  auto field = [this](u8 at) { return static_cast<u16>(cfg_capability_ + at); };
  u32 offset = function_.dword(field(kCfgOffset)), length = function_.dword(field(kCfgLength));
  bool sensible = function_.byte(field(kCfgBar)) == kRegisterBar && (length == 1 || length == 2 || length == 4) &&
                  offset % length == 0 && range_fits(offset, length, kRegisterBytes);
  if (!sensible) return;
  if (write)
    registers_.bus_write(offset, function_.dword(field(kCfgData)) & byte_mask(length), length);
  else
    function_.poke(field(kCfgData), static_cast<u32>(registers_.bus_read(offset, length)), 4);
}

void VirtioPci::reset_registers() {
  config_vector_.store(kNoVector);
  for (auto& vector : queue_vectors_) vector.store(kNoVector);
  take_isr();
  Lock lock(mutex_);
  device_feature_select_ = driver_feature_select_ = 0;
  queue_select_ = 0;
}

void VirtioPci::queue_interrupt(u16 queue) {
  if (!function_.msix_enabled()) return raise_isr(kInterruptQueue);
  u16 vector = queue_vectors_[queue].load(std::memory_order_relaxed);
  if (vector != kNoVector) function_.fire_msix(vector);
}

void VirtioPci::config_interrupt() {
  if (!function_.msix_enabled()) return raise_isr(kInterruptConfig);
  u16 vector = config_vector_.load(std::memory_order_relaxed);
  if (vector != kNoVector) function_.fire_msix(vector);
}

void VirtioPci::needs_reset() {
  if (control_.set_needs_reset()) config_interrupt();
}

void VirtioPci::reset() {
  control_.reset();
  device_->power_on_reset();
  reset_registers();
  function_.reset();
}

void VirtioPci::visit(Archive& archive) {
  archive.part(1, "pci", [this](Archive& part) { function_.visit(part); });
  archive.part(2, "control", [this](Archive& part) { control_.visit(part); });
  {
    Lock lock(mutex_);
    archive.field(3, "device_feature_select", device_feature_select_);
    archive.field(4, "driver_feature_select", driver_feature_select_);
    archive.field(5, "queue_select", queue_select_);
    archive.field(6, "isr", isr_);
    if (archive.loading()) function_.set_intx(isr_ != 0);
  }
  u16 config_vector = config_vector_.load();
  archive.field(7, "config_vector", config_vector);
  config_vector_.store(checked_vector(config_vector));
  u32 number = 16;
  for (auto& vector : queue_vectors_) {
    u16 value = vector.load();
    archive.field(number++, "queue_vector", value);
    vector.store(checked_vector(value));
  }
  archive.part(8, "device", [this](Archive& part) { device_->visit_all(part, control_.activation()); });
}

}  // namespace atl::devices
