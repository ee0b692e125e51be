#include "devices/pci/function.h"

#include <algorithm>

#include "base/check.h"
#include "base/endian.h"
#include "base/math.h"
#include "devices/pci/bus.h"

namespace atl::devices {

using namespace pci;

namespace {

constexpr u16 bar_offset(unsigned index) { return index < kBars ? static_cast<u16>(kBar0 + 4 * index) : kExpansionRom; }
constexpr bool overlaps(u16 a, unsigned a_size, u16 b, unsigned b_size) { return a < b + b_size && b < a + a_size; }

u32 bar_flags(const PciBar& bar) {
  if (bar.kind == PciBar::Kind::Io) return kBarIo;
  return (bar.kind == PciBar::Kind::Memory64 ? kBarMemory64 : 0) | (bar.prefetchable ? kBarPrefetch : 0);
}

}  // namespace

PciFunction::PciFunction(std::string name, const PciIdentity& identity) : name_(std::move(name)) {
  store_le<u16>(&config_[kVendorId], identity.vendor);
  store_le<u16>(&config_[kDeviceId], identity.device);
  config_[kRevisionId] = identity.revision;
  store_le_n(&config_[kClassCode], identity.class_code, 3);
  store_le<u16>(&config_[kSubsystemVendorId], identity.subsystem_vendor);
  store_le<u16>(&config_[kSubsystemId], identity.subsystem);
  store_le<u16>(&writable_[kCommand],
                kCommandIo | kCommandMemory | kCommandMaster | kCommandSerr | kCommandIntxDisable);
  store_le<u16>(&clearable_[kStatus], kStatusErrors);
  writable_[kCacheLineSize] = writable_[kLatencyTimer] = writable_[kInterruptLine] = 0xff;
  reset_ = config_;
}

void PciFunction::set_bar(unsigned index, PciBar bar) {
  bool wide = bar.kind == PciBar::Kind::Memory64;
  CHECK(index + (wide ? 1 : 0) < kBars && is_power_of_two(bar.size) && !bus_);
  u64 mask = ~(bar.size - 1);
  u16 at = bar_offset(index);
  poke(at, bar_flags(bar), 4);
  reset_[at] = config_[at];
  store_le<u32>(&writable_[at], static_cast<u32>(mask));
  if (wide) store_le<u32>(&writable_[at + 4], static_cast<u32>(mask >> 32));
  bars_[index] = std::move(bar);
}

void PciFunction::set_rom(std::shared_ptr<memory::RamBlock> rom) {
  const u64 size = rom->size();
  CHECK(is_power_of_two(size) && size >= 2 * kKiB && size <= 16 * kMiB && !bus_);
  store_le<u32>(&writable_[kExpansionRom], static_cast<u32>(~(size - 1)) | kRomEnable);
  bars_[kRom] = {.kind = PciBar::Kind::Memory32, .size = size, .ram = std::move(rom)};
}

u8 PciFunction::add_capability(u8 id, std::span<const u8> body, std::span<const u8> writable) {
  u8 at = next_capability_;
  CHECK(at + 2 + body.size() <= kConfigBytes && writable.size() <= body.size());
  config_[at] = id;
  std::ranges::copy(body, config_.begin() + at + 2);
  std::ranges::copy(writable, writable_.begin() + at + 2);
  config_[last_capability_ ? last_capability_ + 1 : kCapabilities] = at;
  config_[kStatus] |= kStatusCapabilities;
  last_capability_ = at;
  next_capability_ = static_cast<u8>(align_up(at + 2 + body.size(), 4));
  reset_ = config_;
  return at;
}

Status PciFunction::add_msix(cpu::Vm& vm, unsigned vectors, unsigned bar) {
  msix_ = TRY(Msix::create(vm, vectors).context(name_));
  u8 body[kMsixCapabilityBytes - 2] = {}, writable[kMsixCapabilityBytes - 2] = {};
  store_le<u16>(&body[kMsixControl - 2], static_cast<u16>(vectors - 1));
  store_le<u32>(&body[kMsixTable - 2], bar);
  store_le<u32>(&body[kMsixPba - 2], msix_->pba_offset() | bar);
  store_le<u16>(&writable[kMsixControl - 2], kMsixEnable | kMsixFunctionMask);
  msix_capability_ = add_capability(kCapabilityMsix, body, writable);
  set_bar(bar, {.kind = PciBar::Kind::Memory32, .size = msix_->bar_bytes(), .device = msix_.get()});
  return {};
}

Status PciFunction::add_msi(cpu::Vm& vm, unsigned vectors) {
  msi_ = TRY(Msi::create(vm, vectors).context(name_));
  msi_capability_ = add_capability(kCapabilityMsi, msi_->capability(), msi_->writable());
  return {};
}

void PciFunction::make_bridge() {
  CHECK(bars_[2].kind == PciBar::Kind::None && !bus_);
  set_byte(kHeaderType, kHeaderBridge);
  for (u16 at : {kPrimaryBus, kSecondaryBus, kSubordinateBus}) set_writable(at, 0xff);
  for (u16 at : {kIoBase, kIoLimit}) set_writable(at, 0xf0);
  for (u16 at : {kMemoryBase, kMemoryLimit, kPrefetchBase, kPrefetchLimit}) {
    set_writable(at, 0xf0);
    set_writable(static_cast<u16>(at + 1), 0xff);
  }
  for (u16 at = kPrefetchBaseUpper; at < kPrefetchLimitUpper + 4; ++at) {
    set_byte(at, 0);
    set_writable(at, 0xff);
  }
  for (u16 at : {kPrefetchBase, kPrefetchLimit}) set_byte(at, 1);  // 64 bits wide
  for (u16 at : {kIoBase, kMemoryBase, kPrefetchBase}) set_byte(at, static_cast<u8>(byte(at) | 0xf0));
  for (u16 at : {kMemoryBase, kPrefetchBase}) set_byte(static_cast<u16>(at + 1), 0xff);  // base above limit: closed
  set_writable(kBridgeControl, 0x5f);
}

bool PciFunction::forwards(bool io, u64 first, u64 last) const {
  auto within = [&](u64 base, u64 limit) { return base <= limit && first >= base && last <= limit; };
  if (!(word(kCommand) & (io ? kCommandIo : kCommandMemory))) return false;
  if (io) return within((byte(kIoBase) & 0xf0u) << 8, (byte(kIoLimit) & 0xf0u) << 8 | 0xfff);
  const u64 base = u64{dword(kPrefetchBaseUpper)} << 32 | (word(kPrefetchBase) & 0xfff0u) << 16;
  const u64 limit = u64{dword(kPrefetchLimitUpper)} << 32 | (word(kPrefetchLimit) & 0xfff0u) << 16 | 0xfffff;
  return within((word(kMemoryBase) & 0xfff0u) << 16, (word(kMemoryLimit) & 0xfff0u) << 16 | 0xfffff) || within(base, limit);
}

void PciFunction::poke(u16 offset, u32 value, unsigned width) {
  CHECK(offset + width <= kConfigBytes);
  store_le_n(&config_[offset], value, width);
}

u32 PciFunction::config_read(u16 offset, unsigned width) {
  if (offset + width > kConfigBytes) return static_cast<u32>(byte_mask(width));
  if (window_.before_read && overlaps(offset, width, window_.offset, window_.size)) window_.before_read(offset, width);
  if (bus_ && overlaps(offset, width, kStatus, 1)) {
    u8 pending = bus_->intx_level(*this) ? kStatusInterrupt : 0;
    config_[kStatus] = static_cast<u8>((config_[kStatus] & ~kStatusInterrupt) | pending);
  }
  return static_cast<u32>(load_le_n(&config_[offset], width));
}

bool PciFunction::config_write(u16 offset, u32 value, unsigned width) {
  if (offset + width > kConfigBytes) return false;
  last_write_ = value;
  for (unsigned i = 0; i < width; ++i) {
    u8 byte = static_cast<u8>(value >> (8 * i));
    u8& stored = config_[offset + i];
    u8 writable = writable_[offset + i];
    stored = static_cast<u8>((stored & ~writable) | (byte & writable));
    stored = static_cast<u8>(stored & ~(byte & clearable_[offset + i]));
  }
  bool moved = false;
  const bool command = overlaps(offset, width, kCommand, 2), rom = overlaps(offset, width, kExpansionRom, 4);
  if (command || rom || overlaps(offset, width, kBar0, 4 * kBars)) moved = refresh_mappings();
  if (command) refresh_command();
  if (msix_ && overlaps(offset, width, msix_capability_, kMsixCapabilityBytes)) refresh_msix();
  if (msi_ && overlaps(offset, width, msi_capability_, kMsiCapabilityBytes)) refresh_msi();
  if (window_.after_write && overlaps(offset, width, window_.offset, window_.size)) window_.after_write(offset, width);
  return moved;
}

u64 PciFunction::bar_address(unsigned index) const {
  const PciBar& bar = bars_[index];
  u64 raw = load_le<u32>(&config_[bar_offset(index)]);
  if (bar.kind == PciBar::Kind::Memory64) raw |= u64{load_le<u32>(&config_[bar_offset(index + 1)])} << 32;
  return raw & ~(bar.size - 1);
}

/// Where the registers put a BAR; nullopt where decoding is off, for the all-ones value of sizing, and for an address
/// that the bus does not have.
std::optional<u64> PciFunction::wanted_address(unsigned index) const {
  const PciBar& bar = bars_[index];
  bool io = bar.kind == PciBar::Kind::Io;
  if (bar.kind == PciBar::Kind::None || !(word(kCommand) & (io ? kCommandIo : kCommandMemory))) return std::nullopt;
  if (index == kRom && !(dword(kExpansionRom) & kRomEnable)) return std::nullopt;
  u64 address = bar_address(index);
  u64 last = address + (bar.size - 1);
  if (address == 0 || last < address) return std::nullopt;
  u64 limit = io ? 0xffff : bar.kind == PciBar::Kind::Memory32 ? 0xfffffffe : ~u64{1};
  if (last > limit || !bus_->is_reachable(io, address, last)) return std::nullopt;
  return address;
}

memory::AddressSpace& PciFunction::space_of(const PciBar& bar) const {
  return bar.kind == PciBar::Kind::Io ? bus_->wiring_.ports : bus_->wiring_.memory;
}

/// A place that something else holds leaves the BAR unmapped; the bus tries again when mappings change.
void PciFunction::map(unsigned index, std::optional<u64> address) {
  const PciBar& bar = bars_[index];
  Mapped& mapped = mapped_[index];
  memory::AddressSpace& space = space_of(bar);
  memory::AddressSpace::Batch batch(space);
  if (mapped.address) space.remove(mapped.region);
  mapped = {};
  if (!address) return;
  auto region = space.add({.name = name_, .base = *address, .size = bar.size, .device = bar.device, .ram = bar.ram,
                           .readonly = index == kRom, .events = bar.events});
  if (region) mapped = {address, *region};
}

bool PciFunction::refresh_mappings() {
  if (!bus_) return false;
  bool changed = false;
  for (unsigned index = 0; index < bars_.size(); ++index) {
    if (bars_[index].kind == PciBar::Kind::None) continue;
    auto wanted = wanted_address(index), before = mapped_[index].address;
    if (wanted == before) continue;
    map(index, wanted);
    changed |= mapped_[index].address != before;
  }
  return changed;
}

void PciFunction::refresh_msix() {
  u16 control = word(static_cast<u16>(msix_capability_ + kMsixControl));
  msix_->set_control(control & kMsixEnable, control & kMsixFunctionMask);
}

void PciFunction::refresh_msi() {
  if (msi_) msi_->set_registers(std::span(config_).subspan(msi_capability_ + 2u, kMsiCapabilityBytes - 2u));
}

void PciFunction::refresh_command() {
  bus_master_.store((word(kCommand) & kCommandMaster) != 0, std::memory_order_relaxed);
  if (bus_) bus_->update_intx(*this, std::nullopt, (word(kCommand) & kCommandIntxDisable) != 0);
}

void PciFunction::set_intx(bool level) {
  if (bus_ && config_[kInterruptPin]) bus_->update_intx(*this, level, std::nullopt);
}

void PciFunction::attach(PciBus& bus, u8 slot, u8 function) {
  bus_ = &bus;
  slot_ = slot;
  number_ = function;
}

void PciFunction::detach() {
  for (unsigned index = 0; index < mapped_.size(); ++index)
    if (mapped_[index].address) map(index, std::nullopt);
  bus_->update_intx(*this, false, std::nullopt);
  bus_ = nullptr;
}

void PciFunction::reset() {
  u8 header = config_[kHeaderType];  // the multi-function bit belongs to the slot
  config_ = reset_;
  config_[kHeaderType] = header;
  if (msix_) msix_->reset();
  refresh_msi();
  refresh_mappings();
  refresh_command();
  set_intx(false);
}

void PciFunction::visit(Archive& archive) {
  auto saved = config_;
  archive.bytes(1, "config", saved);
  if (msix_) archive.part(2, "msix", [this](Archive& part) { msix_->visit(part); });
  if (!archive.loading()) return;
  for (unsigned i = 0; i < kConfigBytes; ++i)
    config_[i] = static_cast<u8>((config_[i] & ~writable_[i]) | (saved[i] & writable_[i]));
  refresh_mappings();
  refresh_command();
  if (msix_) refresh_msix();
  refresh_msi();
}

}  // namespace atl::devices
