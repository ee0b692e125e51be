#include "devices/pci/q35.h"

#include "base/endian.h"
#include "base/math.h"

namespace atl::devices {
namespace {

// 82Q35, section 5.1.
constexpr u16 kPciExBar = 0x60, kPam0 = 0x90, kPam6 = 0x96, kSmram = 0x9d, kEsmramc = 0x9e, kTsegBase = 0xac, kBelow4g = 0xb0;
constexpr u64 kWindowEnable = 1;
constexpr u16 kExtendedTseg = 0x50;  // QEMU's: the size in MiB that TSEG_SZ 3 means
constexpr u16 kExtendedTsegMib = 16;
constexpr u8 kSmramDefault = 0x02, kSmramWritable = 0x78, kEsmramcDefault = 0x38, kEsmramcWritable = 0x87;
constexpr u8 kSmramEnable = 0x08, kSmramLock = 0x10, kSmramOpen = 0x40, kTsegEnable = 0x01;
constexpr u8 kSmiLock = 0x10;
// ICH9, section 13.1.
constexpr u16 kPmBase = 0x40, kAcpiControl = 0x44, kPirqRouteA = 0x60, kPirqRouteE = 0x68, kGeneralPm = 0xa0, kRootComplex = 0xf0;
constexpr u8 kAcpiEnable = 0x80;
constexpr u8 kPirqDisabled = 0x80, kPirqNumber = 0x0f;
constexpr u8 kFirmwareRoutes[] = {10, 10, 11, 11};  // as PC firmware leaves them

PciIdentity chipset_identity(u16 device, u8 revision, u32 class_code) {
  return {.vendor = 0x8086, .device = device, .revision = revision, .class_code = class_code, .subsystem_vendor = 0x1af4, .subsystem = 0x1100};
}

}  // namespace

u64 MchHostBridge::Window::bus_read(u64 offset, unsigned width) {
  if (width <= 4) return bus.window_read(offset, width);
  return bus.window_read(offset, 4) | u64{bus.window_read(offset + 4, 4)} << 32;
}

void MchHostBridge::Window::bus_write(u64 offset, u64 value, unsigned width) {
  bus.window_write(offset, static_cast<u32>(value), std::min(width, 4u));
  if (width > 4) bus.window_write(offset + 4, static_cast<u32>(value >> 32), 4);
}

MchHostBridge::MchHostBridge(memory::AddressSpace& memory, PciBus& bus, std::unique_ptr<Smram> smram,
                             std::function<void(u64, u64)> moved)
    : memory_(memory), smram_(std::move(smram)), moved_(std::move(moved)), window_(bus), function_("mch", chipset_identity(0x29c0, 0, 0x060000)) {
  function_.set_writable(kPciExBar, 0x07);
  function_.set_writable(kPciExBar + 3, 0xff);
  function_.set_writable(kPciExBar + 4, 0x0f);
  for (u16 at = kPam0; at <= kPam6; ++at) function_.set_writable(at, at == kPam0 ? 0x30 : 0x33);
  function_.set_byte(kSmram, kSmramDefault);
  function_.set_writable(kSmram, kSmramWritable);
  function_.set_byte(kEsmramc, kEsmramcDefault);
  function_.set_writable(kEsmramc, kEsmramcWritable);
  if (smram_) function_.set_byte(kExtendedTseg, kExtendedTsegMib);
  for (u16 at = kTsegBase; at < kBelow4g + 2; ++at) function_.set_writable(at, 0xff);
  function_.set_window({.offset = kPciExBar, .size = kEsmramc + 1 - kPciExBar, .before_read = {},
                        .after_write = [this](u16, unsigned) { refresh(); }});
}

MchHostBridge::~MchHostBridge() {
  if (region_) memory_.remove(region_);
}

void MchHostBridge::reset() {
  function_.reset();
  refresh();
}

void MchHostBridge::visit(Archive& archive) {
  function_.visit(archive);
  refresh();
}

void MchHostBridge::refresh() {
  place_window();
  place_smram();
}

/// D_LCK closes the window at 0xa0000 and fixes the bits of both registers until reset.
void MchHostBridge::place_smram() {
  constexpr u64 kTsegMib[] = {1, 2, 8, kExtendedTsegMib};
  u8 smram = function_.byte(kSmram);
  const u8 extended = function_.byte(kEsmramc);
  const bool locked = smram & kSmramLock;
  if (locked) smram &= static_cast<u8>(~kSmramOpen);
  function_.poke(kSmram, smram, 1);
  function_.set_writable(kSmram, locked ? u8{0} : kSmramWritable);
  function_.set_writable(kEsmramc, locked ? u8{0} : kEsmramcWritable);
  if (!smram_) return;
  smram_->apply({.enabled = (smram & kSmramEnable) != 0,
                 .open = (smram & kSmramOpen) != 0,
                 .tseg_bytes = extended & kTsegEnable ? kTsegMib[extended >> 1 & 3] * kMiB : 0});
}

void MchHostBridge::open_window(u64 base) {
  function_.poke(kPciExBar, static_cast<u32>(base | kWindowEnable), 4);
  place_window();
}

/// Length 0, 1 and 2 are 256, 128 and 64 buses.
void MchHostBridge::place_window() {
  const u64 value = u64{function_.dword(kPciExBar + 4)} << 32 | function_.dword(kPciExBar);
  const unsigned length = value >> 1 & 3;
  u64 size = value & kWindowEnable && length < 3 ? u64{256 * kMiB} >> length : 0;
  const u64 base = size ? align_down(value & ~u64{0xfff}, size) : 0;
  if (base == base_ && size == size_) return;
  if (region_) memory_.remove(std::exchange(region_, memory::RegionId{0}));
  if (size) {
    auto region = memory_.add({.name = "pcie-mmcfg", .base = base, .size = size, .priority = 1, .device = &window_});
    if (region) region_ = *region;
    else size = 0;
  }
  base_ = base;
  size_ = size;
  moved_(size ? base : 0, size);
}

Ich9LpcBridge::Ich9LpcBridge(PciBus& bus, std::function<void(u16)> moved, std::function<void()> smi_locked)
    : bus_(bus), moved_(std::move(moved)), smi_locked_(std::move(smi_locked)), function_("ICH9-LPC", chipset_identity(0x2918, 2, 0x060100)) {
  function_.set_byte(kPmBase, 1);  // an I/O address
  function_.set_writable(kPmBase, 0x80);
  function_.set_writable(kPmBase + 1, 0xff);
  function_.set_writable(kAcpiControl, kAcpiEnable | 7);
  for (u16 i = 0; i < 4; ++i) {
    for (u16 base : {kPirqRouteA, kPirqRouteE}) {
      function_.set_byte(static_cast<u16>(base + i), kFirmwareRoutes[i]);
      function_.set_writable(static_cast<u16>(base + i), kPirqDisabled | kPirqNumber);
    }
  }
  for (u16 i = 0; i < 2; ++i) function_.set_writable(static_cast<u16>(kGeneralPm + i), 0xff);
  for (u16 i = 0; i < 4; ++i) function_.set_writable(static_cast<u16>(kRootComplex + i), i == 0 ? 0x01 : i == 1 ? 0xc0 : 0xff);
  function_.set_window({.offset = kPmBase, .size = kGeneralPm + 1 - kPmBase, .before_read = {},
                        .after_write = [this](u16, unsigned) { refresh(); }});
  refresh();
}

void Ich9LpcBridge::reset() {
  function_.reset();
  refresh();
}

void Ich9LpcBridge::visit(Archive& archive) {
  function_.visit(archive);
  refresh();
}

void Ich9LpcBridge::refresh() {
  for (u16 i = 0; i < 8; ++i) {
    const u16 at = static_cast<u16>(i < 4 ? kPirqRouteA + i : kPirqRouteE + i - 4);
    const u8 value = function_.byte(at);
    bus_.set_pirq_route(i, value & kPirqDisabled ? 0xff : value & kPirqNumber);
  }
  const bool on = function_.byte(kAcpiControl) & kAcpiEnable;
  moved_(on ? static_cast<u16>(function_.word(kPmBase) & 0xff80) : u16{0});
  const bool locked = function_.byte(kGeneralPm) & kSmiLock;
  function_.set_writable(kGeneralPm, locked ? u8{static_cast<u8>(~kSmiLock)} : u8{0xff});
  if (locked && smi_locked_) smi_locked_();
}

}  // namespace atl::devices
