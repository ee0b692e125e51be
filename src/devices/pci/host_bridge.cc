#include "devices/pci/host_bridge.h"

namespace atl::devices {

namespace {

constexpr u16 kPamFirst = 0x59, kPamLast = 0x5f;      // 82441FX, 3.2.18
constexpr u16 kSmram = 0x72;                          // 82441FX, 3.2.19
enum SmramBits : u8 { kEnable = 0x08, kLock = 0x10, kOpen = 0x40, kSmramDefault = 0x02, kSmramWritable = 0x78 };
constexpr u16 kPirqRoute = 0x60;                      // 82371SB, 2.3.6: PIRQRCA to PIRQRCD
constexpr u8 kPirqDisabled = 0x80, kPirqNumber = 0x0f;
constexpr u8 kFirmwareRoutes[] = {10, 10, 11, 11};    // as PC firmware leaves them

}  // namespace

I440fxHostBridge::I440fxHostBridge(std::unique_ptr<Smram> smram)
    : smram_(std::move(smram)), function_("i440FX", {.vendor = 0x8086, .device = 0x1237, .revision = 2, .class_code = 0x060000,
                           .subsystem_vendor = 0x1af4, .subsystem = 0x1100}) {
  for (u16 at = kPamFirst; at <= kPamLast; ++at) function_.set_writable(at, 0x33);
  function_.set_byte(kSmram, kSmramDefault);
  function_.set_writable(kSmram, kSmramWritable);
  function_.set_window({.offset = kSmram, .size = 1, .before_read = {}, .after_write = [this](u16, unsigned) { refresh(); }});
}

void I440fxHostBridge::reset() {
  function_.reset();
  refresh();
}

void I440fxHostBridge::visit(Archive& archive) {
  function_.visit(archive);
  refresh();
}

/// D_LCK closes the window and fixes all bits until reset.
void I440fxHostBridge::refresh() {
  u8 value = function_.byte(kSmram);
  const bool locked = value & kLock;
  if (locked) value &= static_cast<u8>(~kOpen);
  function_.poke(kSmram, value, 1);
  function_.set_writable(kSmram, locked ? u8{0} : u8{kSmramWritable});
  if (smram_) smram_->apply({.enabled = (value & kEnable) != 0, .open = (value & kOpen) != 0});
}

Piix3IsaBridge::Piix3IsaBridge(PciBus& bus)
    : bus_(bus), function_("PIIX3", {.vendor = 0x8086, .device = 0x7000, .class_code = 0x060100,
                                     .subsystem_vendor = 0x1af4, .subsystem = 0x1100}) {
  for (u16 i = 0; i < 4; ++i) {
    function_.set_byte(static_cast<u16>(kPirqRoute + i), kFirmwareRoutes[i]);
    function_.set_writable(static_cast<u16>(kPirqRoute + i), kPirqDisabled | kPirqNumber);
  }
  function_.set_window({.offset = kPirqRoute, .size = 4, .before_read = {}, .after_write = [this](u16, unsigned) { route(); }});
  route();
}

void Piix3IsaBridge::reset() {
  function_.reset();
  route();
}

void Piix3IsaBridge::visit(Archive& archive) {
  function_.visit(archive);
  route();
}

void Piix3IsaBridge::route() {
  for (u16 i = 0; i < 4; ++i) {
    u8 value = function_.byte(static_cast<u16>(kPirqRoute + i));
    bus_.set_pirq_route(i, value & kPirqDisabled ? 0xff : value & kPirqNumber);
  }
}

}  // namespace atl::devices
