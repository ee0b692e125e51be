#include "devices/pci/bus.h"

#include <algorithm>
#include <bit>

#include <fmt/core.h>

#include "base/endian.h"

namespace atl::devices {

using namespace pci;

namespace {

constexpr u64 kPortsBase = kConfigAddressPort;
constexpr u64 kPortsSize = 8;
constexpr u64 kDataOffset = kConfigDataPort - kConfigAddressPort;
constexpr u64 kResetOffset = kResetControlPort - kConfigAddressPort;
constexpr u8 kResetCpu = 1 << 2;   // 82371SB, 4.1.3 RCR: a 0 to 1 step resets
constexpr u8 kResetHard = 1 << 1;
constexpr u16 kPortConfigBytes = 256;  // of a function, as far as the ports reach
constexpr u8 kNoGsi = 0xff;

std::string place(PciAddress at) { return fmt::format("PCI slot {:02x}.{}", at.slot, at.function); }

}  // namespace

PciBus::PciBus(Wiring wiring, PciBus* parent, PciFunction* bridge)
    : wiring_(std::move(wiring)),
      root_(parent ? parent->root_ : *this),
      bridge_(bridge),
      locks_(parent ? parent->locks_ : std::make_shared<Locks>()),
      mutex_(locks_->config),
      intx_mutex_(locks_->intx) {}

std::unique_ptr<PciBus> PciBus::create_behind(PciBus& parent, PciFunction& bridge) {
  std::unique_ptr<PciBus> bus(new PciBus(parent.wiring_, &parent, &bridge));
  bridge.set_secondary(bus.get());
  return bus;
}

Result<std::unique_ptr<PciBus>> PciBus::create(Wiring wiring) {
  std::unique_ptr<PciBus> bus(new PciBus(std::move(wiring), nullptr, nullptr));
  bus->ports_region_ = TRY(bus->wiring_.ports.add(
      {.name = "pci-conf", .base = kPortsBase, .size = kPortsSize, .device = bus.get()}));
  return bus;
}

PciBus::~PciBus() {
  if (ports_region_) wiring_.ports.remove(ports_region_);
  if (bridge_) bridge_->set_secondary(nullptr);
}

Status PciBus::add(PciAddress at, PciFunction& function) {
  Lock lock(mutex_);
  if (at.slot >= kSlots || at.function >= kFunctions)
    return Error(ErrorKind::Invalid, fmt::format("{} does not exist", place(at)));
  auto& slot = functions_[at.slot];
  if (slot[at.function])
    return Error(ErrorKind::Exists, fmt::format("{} is taken by {}", place(at), slot[at.function]->name()));
  slot[at.function] = &function;
  // Until function 0 comes, which tells of the others, a guest does not look for them.
  const bool several = std::any_of(slot.begin() + 1, slot.end(), [](const PciFunction* f) { return f != nullptr; });
  if (several && slot[0]) slot[0]->poke(kHeaderType, slot[0]->byte(kHeaderType) | kMultiFunction, 1);
  function.attach(*this, at.slot, at.function);
  return {};
}

void PciBus::remove(PciAddress at) {
  Lock lock(mutex_);
  PciFunction*& place = functions_[at.slot & (kSlots - 1)][at.function & (kFunctions - 1)];
  if (place) place->detach();
  place = nullptr;
}

std::optional<u8> PciBus::free_slot(u8 first) const {
  u32 free = ~occupied_slots() & (first < kSlots ? ~u32{0} << first : 0);
  if (free == 0) return std::nullopt;
  return static_cast<u8>(std::countr_zero(free));
}

u32 PciBus::occupied_slots() const {
  Lock lock(mutex_);
  u32 slots = 0;
  for (u8 slot = 0; slot < kSlots; ++slot)
    if (std::ranges::any_of(functions_[slot], [](const PciFunction* f) { return f != nullptr; })) slots |= u32{1} << slot;
  return slots;
}

PciFunction* PciBus::find(PciAddress at) const {
  if (at.slot >= kSlots || at.function >= kFunctions) return nullptr;
  Lock lock(mutex_);
  return functions_[at.slot][at.function];
}

u32 PciBus::config_read(PciAddress at, u16 offset, unsigned width) {
  Lock lock(mutex_);
  PciFunction* function = at.slot < kSlots && at.function < kFunctions ? functions_[at.slot][at.function] : nullptr;
  return function ? function->config_read(offset, width) : static_cast<u32>(byte_mask(width));
}

void PciBus::config_write(PciAddress at, u16 offset, u32 value, unsigned width) {
  Lock lock(mutex_);
  PciFunction* function = at.slot < kSlots && at.function < kFunctions ? functions_[at.slot][at.function] : nullptr;
  if (function) write_function(*function, offset, value, width);
}

/// A BAR that moved may have uncovered the place of another, and a bridge's window those of all behind it.
ATL_THREAD_ANNOTATION(no_thread_safety_analysis)  // the buses share one lock
void PciBus::write_function(PciFunction& function, u16 offset, u32 value, unsigned width) {
  const bool moved = function.config_write(offset, value, width);
  if (moved || (function.secondary() && offset < kFirstCapability)) root_.refresh_all();
}

ATL_THREAD_ANNOTATION(no_thread_safety_analysis) void PciBus::refresh_all() {
  for (auto& slot : functions_) {
    for (PciFunction* function : slot) {
      if (!function) continue;
      function->refresh_mappings();
      if (PciBus* behind = function->secondary()) behind->refresh_all();
    }
  }
}

bool PciBus::is_reachable(bool io, u64 first, u64 last) const {
  if (!bridge_) return true;
  return bridge_->forwards(io, first, last) && bridge_->bus_ && bridge_->bus_->is_reachable(io, first, last);
}

ATL_THREAD_ANNOTATION(no_thread_safety_analysis)
PciFunction* PciBus::route(u8 bus, unsigned slot, unsigned number) const {
  const u8 own = bridge_ ? bridge_->byte(kSecondaryBus) : u8{0};
  if (bus == own) return functions_[slot & (kSlots - 1)][number & (kFunctions - 1)];
  for (const auto& functions : functions_) {
    for (const PciFunction* function : functions) {
      const PciBus* behind = function ? function->secondary() : nullptr;
      if (!behind || function->byte(kSecondaryBus) <= own) continue;
      if (bus >= function->byte(kSecondaryBus) && bus <= function->byte(kSubordinateBus)) return behind->route(bus, slot, number);
    }
  }
  return nullptr;
}

PciFunction* PciBus::selected() const {
  if (!(address_ & kConfigEnable)) return nullptr;
  return route(static_cast<u8>(address_ >> 16), address_ >> 11, address_ >> 8);
}

PciFunction* PciBus::window_function(u64 offset) const {
  return offset >> 28 ? nullptr : route(static_cast<u8>(offset >> 20), static_cast<unsigned>(offset >> 15), static_cast<unsigned>(offset >> 12));
}

u32 PciBus::window_read(u64 offset, unsigned width) {
  Lock lock(mutex_);
  PciFunction* function = window_function(offset);
  return function ? function->config_read(offset & 0xfff, width) : static_cast<u32>(byte_mask(width));
}

void PciBus::window_write(u64 offset, u32 value, unsigned width) {
  Lock lock(mutex_);
  if (PciFunction* function = window_function(offset)) write_function(*function, offset & 0xfff, value, width);
}

/// The lowest two bits of the address are reserved, and some drivers put the byte's place there in the place of the data port's: either
/// is taken.
u16 PciBus::register_at(u64 offset) const { return static_cast<u16>((address_ & 0xff) | (offset - kDataOffset)); }

u64 PciBus::bus_read(u64 offset, unsigned width) {
  Lock lock(mutex_);
  if (offset == 0 && width == 4) return address_;
  if (offset == kResetOffset && width == 1) return reset_control_;
  PciFunction* function = offset >= kDataOffset && width <= 4 ? selected() : nullptr;
  const u16 at = register_at(offset);
  if (!function || at + width > kPortConfigBytes) return byte_mask(width);
  return function->config_read(at, width);
}

void PciBus::bus_write(u64 offset, u64 value, unsigned width) {
  if (offset == kResetOffset && width == 1) return write_reset_control(static_cast<u8>(value));
  Lock lock(mutex_);
  if (offset == 0 && width == 4) address_ = static_cast<u32>(value);
  PciFunction* function = offset >= kDataOffset && width <= 4 ? selected() : nullptr;
  const u16 at = register_at(offset);
  if (!function || at + width > kPortConfigBytes) return;
  write_function(*function, at, static_cast<u32>(value), width);
}

void PciBus::write_reset_control(u8 value) {
  bool rising = false;
  {
    Lock lock(mutex_);
    rising = (value & kResetCpu) && !(reset_control_ & kResetCpu);
    reset_control_ = value & (kResetHard | kResetCpu);
  }
  if (rising && wiring_.request_reset) wiring_.request_reset();
}

u32 PciBus::gsi_of(u8 slot, u8 pin) const {
  Lock lock(intx_mutex_);
  return pirq_route_[wiring_.pirq_of(slot, pin) & 7];
}

void PciBus::set_pirq_route(unsigned pirq, u8 gsi) {
  Lock lock(intx_mutex_);
  u8 before = std::exchange(pirq_route_[pirq & 7], gsi);
  if (before == gsi) return;
  drive_gsi(before);
  drive_gsi(gsi);
}

/// A bridge hands pins on by slot (PCI-to-PCI Bridge 1.2, table 9-1). With the interrupt lock held.
std::optional<unsigned> PciBus::pirq_of_function(const PciFunction& function, u8 pin) {
  const PciFunction* at = &function;
  for (; at->bus_ && at->bus_->bridge_; at = at->bus_->bridge_) pin = static_cast<u8>((pin - 1 + at->slot_) % 4 + 1);
  if (!at->bus_) return std::nullopt;
  return wiring_.pirq_of(at->slot_, pin) & 7;
}

ATL_THREAD_ANNOTATION(no_thread_safety_analysis)  // the buses share one lock
void PciBus::update_intx(PciFunction& function, std::optional<bool> level, std::optional<bool> disabled) {
  u8 pin = function.config_[kInterruptPin];
  Lock lock(intx_mutex_);
  if (level) function.intx_level_ = *level;
  if (disabled) function.intx_disabled_ = *disabled;
  bool asserted = function.intx_level_ && !function.intx_disabled_;
  if (pin == 0 || asserted == function.intx_asserted_) return;
  function.intx_asserted_ = asserted;
  if (const auto pirq = pirq_of_function(function, pin)) root_.add_pirq(*pirq, asserted ? 1 : -1);
}

bool PciBus::intx_level(const PciFunction& function) const {
  Lock lock(intx_mutex_);
  return function.intx_level_;
}

void PciBus::add_pirq(unsigned pirq, int delta) {
  bool before = pirq_level_[pirq] > 0;
  pirq_level_[pirq] += delta;
  const bool after = pirq_level_[pirq] > 0;
  if (before == after) return;
  drive_gsi(pirq_route_[pirq]);
  if (wiring_.direct_gsi) wiring_.set_gsi(wiring_.direct_gsi + pirq, after);
}

/// Several PIRQs may share a GSI: it is high while any of them is.
void PciBus::drive_gsi(u8 gsi) {
  if (gsi == kNoGsi) return;
  bool level = false;
  for (unsigned pirq = 0; pirq < 8; ++pirq) level |= pirq_route_[pirq] == gsi && pirq_level_[pirq] > 0;
  wiring_.set_gsi(gsi, level);
}

void PciBus::reset() {
  Lock lock(mutex_);
  address_ = 0;
  reset_control_ = 0;
}

void PciBus::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "address", address_);
  archive.field(2, "reset_control", reset_control_);
}

}  // namespace atl::devices
