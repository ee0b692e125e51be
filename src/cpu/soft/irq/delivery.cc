// From the sender of an interrupt to local APICs, and from a local APIC to its vCPU's run loop.
#include "base/endian.h"
#include "cpu/apic_spec.h"
#include "cpu/soft/core.h"
#include "cpu/soft/irq/local_apic.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

namespace {

bool can_receive(const Core* core, const Interrupt& interrupt) {
  return core && core->apic && core->apic->matches(interrupt);
}

/// One of the matching, enabled APICs. Which one depends on the vector only, so that a device's interrupts stay on one vCPU.
void route_lowest_priority(SoftVm& vm, const Interrupt& interrupt) {
  auto eligible = [&](const Core* core) { return can_receive(core, interrupt) && core->apic->enabled(); };
  u32 count = 0;
  for (const Core* core : vm.cores) count += eligible(core);
  if (count == 0) return;
  u32 skip = interrupt.vector % count;
  for (Core* core : vm.cores) {
    if (!eligible(core)) continue;
    if (skip-- == 0) return core->apic->accept(interrupt);
  }
}

bool in_apic_page(const Core& core, GuestAddr gpa) {
  if (!core.apic) return false;
  u64 base = core.apic->base_msr();
  return (base & (kApicBaseEnable | kApicBaseX2apic)) == kApicBaseEnable && gpa - (base & ~u64{0xfff}) < kApicPageSize;
}

}  // namespace

void route_interrupt(SoftVm& vm, const Interrupt& interrupt) {
  if (interrupt.delivery == Delivery::LowestPriority) return route_lowest_priority(vm, interrupt);
  bool unicast = !interrupt.logical && interrupt.destination < vm.cores.size();
  if (unicast) {
    if (Core* core = vm.cores[interrupt.destination]; can_receive(core, interrupt)) core->apic->accept(interrupt);
    return;
  }
  for (Core* core : vm.cores) {
    if (can_receive(core, interrupt)) core->apic->accept(interrupt);
  }
}

void route_msi(SoftVm& vm, const cpu::MsiMessage& message) {
  if ((message.address & kMsiAddressMask) != kMsiAddress) return;
  Interrupt interrupt{.destination = static_cast<u32>(message.address >> 12 & 0xff),
                      .logical = (message.address & kMsiLogical) != 0,
                      .delivery = static_cast<Delivery>(message.data >> 8 & 7),
                      .level = (message.data & kMsiLevelTriggered) != 0,
                      .vector = static_cast<u8>(message.data)};
  bool hinted = message.address & kMsiRedirectionHint && interrupt.logical;
  if (hinted && interrupt.delivery == Delivery::Fixed) interrupt.delivery = Delivery::LowestPriority;
  route_interrupt(vm, interrupt);
}

bool apic_read(Core& core, GuestAddr gpa, unsigned width, u64& value) {
  if (!in_apic_page(core, gpa)) return false;
  auto offset = static_cast<u32>(gpa & 0xfff);
  // Registers are 32 bits wide on 16-byte boundaries; what lies between reads as zero.
  bool inside = (offset & 15) + width <= 4;
  value = inside ? core.apic->read(offset & ~15u) >> (8 * (offset & 3)) & byte_mask(width) : 0;
  return true;
}

bool apic_write(Core& core, GuestAddr gpa, unsigned width, u64 value) {
  if (!in_apic_page(core, gpa)) return false;
  auto offset = static_cast<u32>(gpa & 0xfff);
  if (width == 4 && (offset & 15) == 0) core.apic->write(offset, static_cast<u32>(value));
  return true;
}

bool interrupt_pending(const Core& core) { return core.apic && core.apic->pending(); }

int take_interrupt(Core& core) { return core.apic ? core.apic->take() : -1; }

}  // namespace atl::soft
