#include "cpu/soft/irq/io_apic.h"

#include <algorithm>

#include "cpu/irqchip_text.h"
#include "cpu/soft/core.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

namespace {

// Memory-mapped registers, datasheet section 3.1; the EOI register came with the ICH2.
constexpr u64 kSelect = 0x00, kWindow = 0x10, kEoi = 0x40;

// Registers behind the window, section 3.2.
constexpr u8 kRegId = 0, kRegVersion = 1, kRegArbitration = 2, kRegRedirection = 0x10;
constexpr u32 kVersion = 0x20 | (IoApic::kPins - 1) << 16;

// Redirection entry.
constexpr u64 kLogical = 1 << 11, kRemoteIrr = 1 << 14, kLevel = 1 << 15, kMasked = 1 << 16;
constexpr u64 kReadOnly = 1 << 12 | kRemoteIrr;
constexpr u64 kImplemented = 0xff00'0000'0001'ffff;

Interrupt to_interrupt(u64 entry) {
  return {.destination = static_cast<u32>(entry >> 56),
          .logical = (entry & kLogical) != 0,
          .delivery = static_cast<Delivery>(entry >> 8 & 7),
          .level = (entry & kLevel) != 0,
          .vector = static_cast<u8>(entry)};
}

}  // namespace

void IoApic::set_pin(u32 pin, bool level) {
  Outbox out;
  {
    Lock lock(mutex_);
    u32 bit = 1u << pin;
    bool rising = level && !(levels_ & bit);
    levels_ = level ? levels_ | bit : levels_ & ~bit;
    if (rising && !(redirection_[pin] & kLevel)) edges_ |= bit;
    if (!level) edges_ &= ~bit;
    service(pin, out);
  }
  send(out);
}

/// Sends what `pin` has to send. A masked edge stays remembered until the pin is unmasked or falls, as on KVM.
void IoApic::service(u32 pin, Outbox& out) {
  u64& entry = redirection_[pin];
  if (entry & kMasked) return;
  u32 bit = 1u << pin;
  if (entry & kLevel) {
    if (!(levels_ & bit) || entry & kRemoteIrr) return;
    entry |= kRemoteIrr;
  } else {
    if (!(edges_ & bit)) return;
    edges_ &= ~bit;
  }
  out.interrupts[out.count++] = to_interrupt(entry);
}

void IoApic::finish(u8 vector, Outbox& out) {
  for (u32 pin = 0; pin < kPins; ++pin) {
    u64& entry = redirection_[pin];
    if ((entry & 0xff) != vector || (entry & (kLevel | kRemoteIrr)) != (kLevel | kRemoteIrr)) continue;
    entry &= ~kRemoteIrr;
    service(pin, out);  // still asserted: once more
  }
}

bool IoApic::enabled(u32 pin) const {
  Lock lock(mutex_);
  return !(redirection_[pin] & kMasked);
}

bool IoApic::sends(u32 pin, u8 vector) const {
  Lock lock(mutex_);
  return !(redirection_[pin] & (kMasked | kLevel)) && static_cast<u8>(redirection_[pin]) == vector;
}

bool IoApic::edge_waits(u32 pin) const {
  u8 vector = 0;
  {
    Lock lock(mutex_);
    if (redirection_[pin] & (kMasked | kLevel)) return false;
    vector = static_cast<u8>(redirection_[pin]);
  }
  return std::ranges::any_of(vm_.cores, [&](const Core* core) { return core && core->apic && core->apic->requests(vector); });
}

void IoApic::end_of_interrupt(u8 vector) {
  Outbox out;
  {
    Lock lock(mutex_);
    finish(vector, out);
  }
  send(out);
}

void IoApic::send(const Outbox& out) {
  for (u32 i = 0; i < out.count; ++i) {
    bool external = out.interrupts[i].delivery == Delivery::ExtInt;
    if (!external) route_interrupt(vm_, out.interrupts[i]);  // ExtINT through a pin: the PIC reaches the vCPU by LINT0 instead
  }
}

u32 IoApic::read_register() const {
  switch (select_) {
    case kRegId:
    case kRegArbitration: return u32{id_} << 24;
    case kRegVersion: return kVersion;
    default: break;
  }
  u32 index = select_ - kRegRedirection;
  if (select_ < kRegRedirection || index >= 2 * kPins) return 0;
  u64 entry = redirection_[index / 2];
  return static_cast<u32>(index & 1 ? entry >> 32 : entry);
}

void IoApic::write_register(u32 value, Outbox& out) {
  if (select_ == kRegId) id_ = static_cast<u8>(value >> 24 & 15);
  u32 index = select_ - kRegRedirection;
  if (select_ < kRegRedirection || index >= 2 * kPins) return;
  u64& entry = redirection_[index / 2];
  u64 merged = index & 1 ? u64{value} << 32 | (entry & 0xffffffff) : (entry & ~u64{0xffffffff}) | value;
  entry = (merged & ~kReadOnly & kImplemented) | (entry & kReadOnly);
  if (!(entry & kLevel)) entry &= ~kRemoteIrr;  // software clears a stuck remote IRR by switching to edge and back
  service(index / 2, out);
}

u64 IoApic::bus_read(u64 offset, unsigned width) {
  Lock lock(mutex_);
  u64 value = 0;
  if ((offset & ~u64{3}) == kSelect) value = select_;
  if ((offset & ~u64{3}) == kWindow) value = read_register();
  return value >> (8 * (offset & 3)) & (width >= 4 ? 0xffffffff : (u64{1} << 8 * width) - 1);
}

void IoApic::bus_write(u64 offset, u64 value, unsigned) {
  Outbox out;
  {
    Lock lock(mutex_);
    switch (offset) {
      case kSelect: select_ = static_cast<u8>(value); break;
      case kWindow: write_register(static_cast<u32>(value), out); break;
      case kEoi: finish(static_cast<u8>(value), out); break;
      default: break;
    }
  }
  send(out);
}

void IoApic::reset() {
  Lock lock(mutex_);
  select_ = id_ = 0;
  edges_ = 0;
  redirection_.fill(kMasked);
}

void IoApic::visit(Archive& archive) {
  Lock lock(mutex_);
  archive.field(1, "select", select_);
  archive.field(2, "id", id_);
  archive.field(3, "levels", levels_);
  archive.field(4, "edges", edges_);
  for (u32 pin = 0; pin < kPins; ++pin) archive.field(16 + pin, "redirection", redirection_[pin]);
  if (!archive.loading()) return;
  levels_ &= (1u << kPins) - 1;
  edges_ &= (1u << kPins) - 1;
  for (u64& entry : redirection_) entry &= kImplemented;
}

std::string IoApic::describe() const {
  Lock lock(mutex_);
  cpu::IoApicRegisters registers{.id = id_, .select = select_, .version = kVersion & 0xff, .redirection = redirection_};
  for (u32 pin = 0; pin < kPins; ++pin) registers.requests |= (redirection_[pin] & kLevel ? levels_ : edges_) & 1u << pin;
  return cpu::describe_io_apic(registers);
}

}  // namespace atl::soft
