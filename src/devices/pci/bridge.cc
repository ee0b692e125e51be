#include "devices/pci/bridge.h"

#include <array>

#include "base/endian.h"

namespace atl::devices {

using namespace pci;

namespace {

constexpr u16 kVendorRedHat = 0x1b36;
constexpr u8 kCapabilityExpress = 0x10;

// Offsets in the PCI Express capability (7.8).
enum Express : u16 { kCaps = 2, kDeviceCaps = 4, kLinkCaps = 12, kLinkStatus = 18, kSlotCaps = 20, kSlotControl = 24, kSlotStatus = 26,
                     kRootControl = 28, kExpressBytes = 60 };
constexpr u16 kVersion2 = 2, kTypeRootPort = 4 << 4, kTypeToPci = 7 << 4, kSlotImplemented = 1 << 8;
constexpr u32 kRoleBasedErrors = 1 << 15;
constexpr u32 kLinkSpeedAndWidth = 0x11, kLinkActiveReporting = 1 << 20;  // 2.5 GT/s, one lane
constexpr u16 kLinkActive = 1 << 13;
// Slot capabilities, control and status (7.8.9 to 7.8.11).
constexpr u32 kAttentionButton = 1 << 0, kPowerController = 1 << 1, kAttentionLight = 1 << 3, kPowerLight = 1 << 4, kHotplug = 1 << 6;
enum SlotEvent : u16 { kButtonPressed = 1 << 0, kPresenceChanged = 1 << 3, kCommandDone = 1 << 4, kLinkChanged = 1 << 8 };
constexpr u16 kEvents = kButtonPressed | kPresenceChanged | kCommandDone | kLinkChanged;
constexpr u16 kPresent = 1 << 6;
constexpr u16 kInterruptEnable = 1 << 5, kLinkChangedEnable = 1 << 12, kPowerOff = 1 << 10;
constexpr u16 kPowerLightMask = 3 << 8, kPowerLightOn = 1 << 8, kAttentionLightOff = 3 << 6;
constexpr u16 kControlWritable = 0x17ff;

PciIdentity identity_of(PciBridge::Kind kind) {
  static constexpr u16 kIds[] = {0x0001, 0x000c, 0x000e};
  return {.vendor = kVendorRedHat, .device = kIds[static_cast<size_t>(kind)], .class_code = 0x060400};
}

}  // namespace

PciBridge::PciBridge(Options options, const PciIdentity& identity)
    : options_(std::move(options)), function_(options_.type, identity) {}

Result<std::unique_ptr<PciBridge>> PciBridge::create(cpu::Vm& vm, Options options) {
  const PciIdentity identity = identity_of(options.kind);
  std::unique_ptr<PciBridge> bridge(new PciBridge(std::move(options), identity));
  bridge->function_.make_bridge();
  if (bridge->options_.kind != Kind::Conventional) bridge->add_express();
  if (bridge->is_express()) {
    bridge->function_.set_interrupt_pin(1);
    TRY(bridge->function_.add_msi(vm, 1));
  }
  return bridge;
}

PciBus& PciBridge::attach_to(PciBus& parent) {
  secondary_ = PciBus::create_behind(parent, function_);
  return *secondary_;
}

void PciBridge::add_express() {
  std::array<u8, kExpressBytes - 2> body{}, writable{};
  const bool port = is_express();
  const u16 slot = port ? kSlotImplemented : u16{0};
  store_le(&body[kCaps - 2], static_cast<u16>(kVersion2 | (port ? kTypeRootPort : kTypeToPci) | slot));
  store_le(&body[kDeviceCaps - 2], kRoleBasedErrors);
  store_le(&body[kLinkCaps - 2], kLinkSpeedAndWidth | (port ? kLinkActiveReporting : 0) | u32{options_.port} << 24);
  store_le(&body[kLinkStatus - 2], static_cast<u16>(kLinkSpeedAndWidth));
  if (port) {
    const u32 abilities = has_hotplug_slot() ? kAttentionButton | kPowerController | kAttentionLight | kPowerLight | kHotplug : 0;
    store_le(&body[kSlotCaps - 2], abilities | u32{options_.slot} << 19);
    if (has_hotplug_slot()) store_le(&writable[kSlotControl - 2], kControlWritable);
    store_le<u16>(&writable[kRootControl - 2], 0x1f);
  }
  store_le<u16>(&writable[8 - 2], 0x7fff);  // device control
  store_le<u16>(&writable[16 - 2], 0x0fff);  // link control
  express_ = function_.add_capability(kCapabilityExpress, body, writable);
  if (!has_hotplug_slot()) return;
  function_.set_window({.offset = static_cast<u16>(express_ + kLinkStatus), .size = kSlotStatus + 2 - kLinkStatus,
                        .before_read =
                            [this](u16, unsigned) {
                              Lock lock(mutex_);
                              const u16 link = occupied_ && !(control_ & kPowerOff) ? kLinkActive : u16{0};
                              function_.poke(static_cast<u16>(express_ + kLinkStatus), kLinkSpeedAndWidth | link, 2);
                              function_.poke(static_cast<u16>(express_ + kSlotStatus), status_ | (occupied_ ? kPresent : 0u), 2);
                            },
                        .after_write = [this](u16 offset, unsigned width) { write_slot(offset, width); }});
  power_slot(false);
}

/// The slot's power and lights as firmware would leave them.
void PciBridge::power_slot(bool on) {
  Lock lock(mutex_);
  control_ = static_cast<u16>(kAttentionLightOff | (on ? kPowerLightOn : kPowerLightMask | kPowerOff));
  function_.poke(static_cast<u16>(express_ + kSlotControl), control_, 2);
}

/// Status bits are cleared by ones: the register is read-only to the function, so the raw value is taken from the write.
void PciBridge::write_slot(u16 offset, unsigned width) {
  const u16 control_at = static_cast<u16>(express_ + kSlotControl), status_at = static_cast<u16>(express_ + kSlotStatus);
  bool gone = false;
  {
    Lock lock(mutex_);
    if (offset < status_at + 2 && offset + width > status_at) {
      const u32 raw = function_.last_write();
      const u32 ones = offset <= status_at ? raw >> (8 * (status_at - offset)) : raw << (8 * (offset - status_at));
      status_ = static_cast<u16>(status_ & ~(ones & kEvents));
    }
    if (offset < control_at + 2 && offset + width > control_at) {
      const u16 before = std::exchange(control_, function_.word(control_at));
      const bool off = control_ & kPowerOff && (control_ & kPowerLightMask) == kPowerLightMask;
      const bool was_off = before & kPowerOff && (before & kPowerLightMask) == kPowerLightMask;
      gone = occupied_ && off && !was_off;
      status_ |= kCommandDone;
    }
  }
  update_interrupt();
  if (gone && power_off_) power_off_();
}

void PciBridge::raise(u16 events) {
  {
    Lock lock(mutex_);
    status_ |= events;
  }
  update_interrupt();
}

void PciBridge::update_interrupt() {
  bool level = false, rises = false;
  {
    Lock lock(mutex_);
    u16 enabled = control_ & (kButtonPressed | kPresenceChanged | kCommandDone);
    if (control_ & kLinkChangedEnable) enabled |= kLinkChanged;
    level = control_ & kInterruptEnable && status_ & enabled;
    const bool before = std::exchange(pending_, level);
    rises = level && !before;
  }
  if (!function_.msi_enabled()) return function_.set_intx(level);
  function_.set_intx(false);
  if (rises) function_.fire_msi(0);
}

void PciBridge::set_occupied(bool occupied, bool hotplugged) {
  if (!has_hotplug_slot()) return;
  {
    Lock lock(mutex_);
    if (occupied_ == occupied) return;
    occupied_ = occupied;
  }
  if (hotplugged) raise(kPresenceChanged | kLinkChanged);
  else power_slot(occupied);
}

void PciBridge::press_attention_button() { raise(kButtonPressed); }

void PciBridge::reset() {
  function_.reset();
  if (!has_hotplug_slot()) return;
  bool occupied = false;
  {
    Lock lock(mutex_);
    status_ = 0;
    pending_ = false;
    occupied = occupied_;
  }
  power_slot(occupied);
}

void PciBridge::visit(Archive& archive) {
  function_.visit(archive);
  Lock lock(mutex_);
  archive.field(3, "slot_status", status_);
  archive.field(4, "slot_control", control_);
  status_ &= kEvents;
  control_ &= kControlWritable;
}

}  // namespace atl::devices
