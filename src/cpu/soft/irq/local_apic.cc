#include "cpu/soft/irq/local_apic.h"

#include <sched.h>

#include <algorithm>
#include <bit>

#include "base/endian.h"
#include "cpu/apic_spec.h"
#include "cpu/irqchip_text.h"
#include "cpu/soft/core.h"
#include "cpu/soft/irq/interrupt_chips.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

namespace {

constexpr u64 kApicBaseMode = kApicBaseEnable | kApicBaseX2apic;

constexpr bool is_lvt(u32 offset) { return offset >= kApicLvtTimer && offset <= kApicLvtError; }

/// Bits that software may set in each LVT entry (SDM vol. 3, figure 11-8).
constexpr u32 lvt_writable(u32 offset) {
  constexpr u32 common = kLvtVector | kLvtMasked;
  switch (offset) {
    case kApicLvtTimer: return common | kLvtTimerMode;
    case kApicLvtError: return common;
    case kApicLvtLint0:
    case kApicLvtLint1: return common | kLvtDelivery | 1 << 13 | kLvtLevel;
    default: return common | kLvtDelivery;
  }
}

/// Registers of x2APIC mode, a bit each, by offset / 16 (SDM vol. 3, table 11-6).
constexpr u64 bit(u32 offset) { return u64{1} << (offset >> 4); }
constexpr u64 bank(u32 offset) { return u64{0xff} << (offset >> 4); }
constexpr u64 kX2Both = bit(kApicTpr) | bit(kApicSvr) | bit(kApicEsr) | bit(kApicIcrLow) | u64{0x3f} << (kApicLvtTimer >> 4) |
                        bit(kApicTimerInitial) | bit(kApicTimerDivide);
constexpr u64 kX2Readable = kX2Both | bit(kApicId) | bit(kApicVersion) | bit(kApicPpr) | bit(kApicLdr) | bank(kApicIsr) |
                            bank(kApicTmr) | bank(kApicIrr) | bit(kApicTimerCurrent);
constexpr u64 kX2Writable = kX2Both | bit(kApicEoi) | bit(kApicSelfIpi);

}  // namespace

LocalApic::LocalApic(Core& core, SoftVm& vm, TimerQueue& timers)
    : core_(core), vm_(vm), timers_(timers), timer_id_(timers.add(*this)) {
  reset(false);
}

LocalApic::~LocalApic() { timers_.remove(timer_id_); }

void LocalApic::reset(bool init) {
  if (!init) base_ = kApicBaseAddress | kApicBaseEnable | (core_.index == 0 ? kApicBaseBsp : 0);
  {
    Lock lock(timer_mutex_);
    deadline_ns_ = TimerQueue::kNever;
    tsc_deadline_ = 0;
  }
  timers_.disarm(timer_id_);
  cpu::ApicPage page = cpu::reset_apic_page(id());
  for (u32 i = 0; i < kWords; ++i) regs_[i].store(load_le<u32>(&page[i * 16]), std::memory_order_relaxed);
  irr_hint_ = false;
  pending_errors_ = 0;
}

// -- registers -----------------------------------------------------------------------------------------------------------

u32 LocalApic::id() const { return core_.index; }

bool LocalApic::x2apic_mode() const {
  return (base_.load(std::memory_order_relaxed) & (kApicBaseX2apic | kApicBaseEnable)) == (kApicBaseX2apic | kApicBaseEnable);
}

bool LocalApic::enabled() const {
  return base_.load(std::memory_order_relaxed) & kApicBaseEnable && reg(kApicSvr) & kSvrEnable;
}

u32 LocalApic::read(u32 offset) {
  switch (offset) {
    case kApicId: return x2apic_mode() ? id() : id() << 24;
    case kApicLdr: return x2apic_mode() ? (id() >> 4) << 16 | 1u << (id() & 15) : reg(kApicLdr);
    case kApicPpr: return ppr();
    case kApicTimerCurrent: return current_count();
    case kApicEoi:
    case kApicSelfIpi: return 0;
    default: return offset < kWords * 16 ? reg(offset) : 0;
  }
}

void LocalApic::write(u32 offset, u32 value) {
  switch (offset) {
    case kApicLdr: return set_reg(kApicLdr, value & 0xff000000);
    case kApicDfr: return set_reg(kApicDfr, value | 0x0fffffff);
    case kApicIcrHigh: return set_reg(kApicIcrHigh, value & 0xff000000);
    case kApicIcrLow: return write_icr(value, reg(kApicIcrHigh) >> 24);
    default: return write_register(offset, value);
  }
}

void LocalApic::write_register(u32 offset, u32 value) {
  switch (offset) {
    case kApicTpr: return set_cr8_and_low_bits(static_cast<u8>(value));
    case kApicEoi: return end_of_interrupt();
    case kApicSvr: return write_svr(value);
    case kApicEsr: return set_reg(kApicEsr, pending_errors_.exchange(0));
    case kApicTimerInitial:
      if ((reg(kApicLvtTimer) & kLvtTimerMode) == kLvtTscDeadline) return;
      set_reg(kApicTimerInitial, value);
      return start_timer();
    case kApicTimerDivide: return change_divider(value & 0xb);
    default:
      if (is_lvt(offset)) write_lvt(offset, value);
  }
}

void LocalApic::set_cr8_and_low_bits(u8 value) {
  set_reg(kApicTpr, value);
  look_again();
}

u8 LocalApic::cr8() const { return static_cast<u8>(reg(kApicTpr) >> 4 & 15); }

void LocalApic::set_cr8(u8 value) { set_cr8_and_low_bits(static_cast<u8>(value << 4)); }

void LocalApic::write_svr(u32 value) {
  set_reg(kApicSvr, value & kSvrWritable);
  if (value & kSvrEnable) return;
  for (u32 lvt = kApicLvtTimer; lvt <= kApicLvtError; lvt += 0x10) set_reg(lvt, reg(lvt) | kLvtMasked);
}

void LocalApic::write_lvt(u32 offset, u32 value) {
  value &= lvt_writable(offset);
  if (!(reg(kApicSvr) & kSvrEnable)) value |= kLvtMasked;
  u32 before = reg(offset);
  set_reg(offset, value);
  if (offset == kApicLvtTimer) timer_mode_changed(before);
  if (offset == kApicLvtLint0) look_again();
}

std::optional<u64> LocalApic::read_msr(u32 index) {
  u32 offset = (index - cpu::kMsrX2apicBase) << 4;
  if (!x2apic_mode() || index - cpu::kMsrX2apicBase >= kWords || !(kX2Readable & bit(offset))) return std::nullopt;
  if (offset == kApicIcrLow) return u64{reg(kApicIcrHigh)} << 32 | reg(kApicIcrLow);
  return read(offset);
}

bool LocalApic::write_msr(u32 index, u64 value) {
  u32 offset = (index - cpu::kMsrX2apicBase) << 4;
  if (!x2apic_mode() || index - cpu::kMsrX2apicBase >= kWords || !(kX2Writable & bit(offset))) return false;
  auto low = static_cast<u32>(value);
  if (offset == kApicIcrLow) {
    set_reg(kApicIcrHigh, static_cast<u32>(value >> 32));
    write_icr(low, static_cast<u32>(value >> 32));
    return true;
  }
  bool zero_only = offset == kApicEoi || offset == kApicEsr;
  if (value >> 32 || (zero_only && value)) return false;
  if (offset == kApicSelfIpi) {
    accept_fixed(static_cast<u8>(low), false);
  } else {
    write_register(offset, low);
  }
  return true;
}

bool LocalApic::is_valid_base(u64 value) const {
  u64 mode = value & kApicBaseMode;
  if (value & 0x2ff || value >> core_.tlb.physical_bits || mode == kApicBaseX2apic) return false;
  return !(mode & kApicBaseX2apic) || (core_.cpuid && core_.cpuid->has("x2apic"));
}

bool LocalApic::set_base_msr(u64 value) {
  u64 before = base_.load(std::memory_order_relaxed);
  u64 mode = value & kApicBaseMode;
  // Figure 11-27: x2APIC mode is entered from xAPIC mode and left by disabling.
  if (mode == kApicBaseMode && !(before & kApicBaseEnable)) return false;
  if (mode == kApicBaseEnable && (before & kApicBaseMode) == kApicBaseMode) return false;
  if (!is_valid_base(value)) return false;
  base_ = (value & ~kApicBaseBsp) | (before & kApicBaseBsp);
  if (before & kApicBaseEnable && !(mode & kApicBaseEnable)) reset(true);
  return true;
}

void LocalApic::note_pause() {
  constexpr u32 kPausesBeforeYield = 256;  // some ten microseconds of spinning
  if (++pauses_ % kPausesBeforeYield == 0 && vm_.cores.size() > 1) ::sched_yield();
}

// -- request and service bits ----------------------------------------------------------------------------------------------

int LocalApic::highest(u32 bank_offset) const {
  for (int word = 7; word >= 0; --word) {
    u32 value = regs_[(bank_offset >> 4) + static_cast<u32>(word)].load(std::memory_order_acquire);
    if (value) return word * 32 + 31 - std::countl_zero(value);
  }
  return -1;
}

bool LocalApic::test_bit(u32 bank_offset, u8 vector) const {
  return regs_[(bank_offset >> 4) + vector / 32].load(std::memory_order_relaxed) >> (vector % 32) & 1;
}

void LocalApic::set_bit(u32 bank_offset, u8 vector) { regs_[(bank_offset >> 4) + vector / 32].fetch_or(1u << (vector % 32)); }

void LocalApic::clear_bit(u32 bank_offset, u8 vector) {
  regs_[(bank_offset >> 4) + vector / 32].fetch_and(~(1u << (vector % 32)));
}

u8 LocalApic::ppr() const {
  int in_service = highest(kApicIsr);
  auto service_class = static_cast<u8>(in_service < 0 ? 0 : in_service & 0xf0);
  auto tpr = static_cast<u8>(reg(kApicTpr));
  return (tpr & 0xf0) >= service_class ? tpr : service_class;
}

int LocalApic::highest_request() {
  if (!irr_hint_.load()) return -1;
  irr_hint_.store(false);  // before the scan: an accept() that comes during it sets the hint again
  int vector = highest(kApicIrr);
  if (vector >= 0) irr_hint_.store(true);
  return vector;
}

bool LocalApic::pending() const {
  if (pic_waits()) return true;
  if (!irr_hint_.load(std::memory_order_acquire) || !enabled()) return false;
  int vector = highest(kApicIrr);
  return vector >= 0 && (vector & 0xf0) > (ppr() & 0xf0);
}

bool LocalApic::requests(u8 vector) const { return test_bit(kApicIrr, vector); }

int LocalApic::take() {
  if (pic_waits()) return vm_.chips->acknowledge_pic();
  if (!enabled()) return -1;
  int vector = highest_request();
  if (vector < 0 || (vector & 0xf0) <= (ppr() & 0xf0)) return -1;
  clear_bit(kApicIrr, static_cast<u8>(vector));
  set_bit(kApicIsr, static_cast<u8>(vector));
  return vector;
}

void LocalApic::end_of_interrupt() {
  int vector = highest(kApicIsr);
  if (vector < 0) return;
  clear_bit(kApicIsr, static_cast<u8>(vector));
  const bool level = test_bit(kApicTmr, static_cast<u8>(vector));
  if (vm_.chips) level ? vm_.chips->end_of_interrupt(static_cast<u8>(vector)) : vm_.chips->edge_finished(static_cast<u8>(vector));
  look_again();
}

void LocalApic::look_again() {
  if (pending()) request_attention(core_, kAttendInterrupt);
}

// -- delivery ----------------------------------------------------------------------------------------------------------------

void LocalApic::accept_fixed(u8 vector, bool level) {
  if (vector < 16) return report_error(kErrorReceiveVector);
  if (!enabled()) return;
  if (level) {
    set_bit(kApicTmr, vector);
  } else {
    clear_bit(kApicTmr, vector);
  }
  set_bit(kApicIrr, vector);
  irr_hint_.store(true);
  request_attention(core_, kAttendInterrupt);
}

void LocalApic::accept(const Interrupt& interrupt) {
  switch (interrupt.delivery) {
    case Delivery::Fixed:
    case Delivery::LowestPriority: return accept_fixed(interrupt.vector, interrupt.level);
    case Delivery::Nmi:
      nmis_.fetch_add(1);
      return request_attention(core_, kAttendNmi);
    case Delivery::Init:
      core_.attention.fetch_and(~u32{kAttendSipi});  // a start-up message before INIT is void
      return request_attention(core_, kAttendInit);
    case Delivery::Startup:
      sipi_vector_.store(interrupt.vector, std::memory_order_release);
      return request_attention(core_, kAttendSipi);
    case Delivery::ExtInt: return request_attention(core_, kAttendInterrupt);
    case Delivery::Smi: return request_attention(core_, kAttendSmi);
  }
}

bool LocalApic::accepts_pic() const {
  if (!(base_.load(std::memory_order_relaxed) & kApicBaseEnable)) return true;
  u32 lvt = reg(kApicLvtLint0);
  return !(lvt & kLvtMasked) && (lvt & kLvtDelivery) >> 8 == static_cast<u32>(Delivery::ExtInt);
}

bool LocalApic::pic_waits() const { return core_.index == 0 && vm_.chips && vm_.chips->pic_output() && accepts_pic(); }

void LocalApic::pic_raised(bool rising) {
  if (accepts_pic()) return request_attention(core_, kAttendInterrupt);
  if (rising) deliver_local(kApicLvtLint0);
}

void LocalApic::nmi_input() {
  // Firmware leaves LINT1 masked at times; NMIs that the monitor or a watchdog raises must arrive all the same.
  request_attention(core_, kAttendNmi);
}

bool LocalApic::take_nmi() { return nmis_.exchange(0) > 1; }

void LocalApic::merge_nmis() {
  if (nmis_.exchange(0)) nmis_ = 1;
}

void LocalApic::deliver_local(u32 lvt_offset) {
  u32 lvt = reg(lvt_offset);
  if (lvt & kLvtMasked) return;
  bool has_mode = lvt_offset != kApicLvtTimer && lvt_offset != kApicLvtError;
  auto delivery = has_mode ? static_cast<Delivery>((lvt & kLvtDelivery) >> 8) : Delivery::Fixed;
  accept({.delivery = delivery, .vector = static_cast<u8>(lvt)});
}

void LocalApic::report_error(u32 error_bit) {
  u32 before = pending_errors_.fetch_or(error_bit);
  bool vector_is_legal = (reg(kApicLvtError) & kLvtVector) >= 16;  // else the report would report itself
  if (!(before & error_bit) && vector_is_legal) deliver_local(kApicLvtError);
}

void LocalApic::write_icr(u32 low, u32 destination) {
  low &= kIcrWritable;
  set_reg(kApicIcrLow, low);
  Interrupt interrupt{.destination = destination,
                      .logical = (low & kIcrLogical) != 0,
                      .delivery = static_cast<Delivery>(low >> 8 & 7),
                      .level = (low & kIcrLevel) != 0,
                      .vector = static_cast<u8>(low),
                      .x2apic = x2apic_mode()};
  if (interrupt.delivery == Delivery::Init && interrupt.level && !(low & kIcrAssert)) return;  // INIT level de-assert: a no-op
  bool fixed = interrupt.delivery == Delivery::Fixed || interrupt.delivery == Delivery::LowestPriority;
  if (fixed && interrupt.vector < 16) return report_error(kErrorSendVector);
  interrupt.level = false;  // SDM: the trigger mode of other IPIs is ignored
  switch (low >> 18 & 3) {
    case 0: return route_interrupt(vm_, interrupt);
    case 1: return accept(interrupt);
    default: broadcast(interrupt, (low >> 18 & 3) == 2);
  }
}

void LocalApic::broadcast(const Interrupt& interrupt, bool including_self) {
  for (Core* core : vm_.cores) {
    if (core && core->apic && (including_self || core != &core_)) core->apic->accept(interrupt);
  }
}

bool LocalApic::matches(const Interrupt& interrupt) const {
  u32 destination = interrupt.destination;
  if (destination == (interrupt.x2apic ? 0xffffffff : 0xff)) return true;
  if (!interrupt.logical) return destination == id();
  if (x2apic_mode()) return destination >> 16 == id() >> 4 && destination >> (id() & 15) & 1;
  u32 ldr = reg(kApicLdr) >> 24;
  bool flat = reg(kApicDfr) >> 28 == 0xf;
  if (flat) return ldr & destination;
  return ldr >> 4 == destination >> 4 && (ldr & destination & 15);
}

// -- saved state ----------------------------------------------------------------------------------------------------------------

void LocalApic::export_page(std::span<u8, 1024> page) const {
  std::ranges::fill(page, u8{0});
  for (u32 i = 0; i < kWords; ++i) store_le<u32>(&page[i * 16], regs_[i].load(std::memory_order_relaxed));
  store_le<u32>(&page[kApicId], x2apic_mode() ? id() : id() << 24);
  store_le<u32>(&page[kApicPpr], ppr());
  store_le<u32>(&page[kApicTimerCurrent], current_count());
}

void LocalApic::import_page(std::span<const u8, 1024> page) {
  if (cpu::is_blank_apic_page(page)) return reset(true);
  for (u32 i = 0; i < kWords; ++i) regs_[i].store(load_le<u32>(&page[i * 16]), std::memory_order_relaxed);
  set_reg(kApicVersion, kApicVersionValue);
  set_reg(kApicSvr, reg(kApicSvr) & kSvrWritable);
  set_reg(kApicTpr, reg(kApicTpr) & 0xff);
  set_reg(kApicTimerDivide, reg(kApicTimerDivide) & 0xb);
  for (u32 lvt = kApicLvtTimer; lvt <= kApicLvtError; lvt += 0x10) set_reg(lvt, reg(lvt) & lvt_writable(lvt));
  irr_hint_ = true;
  start_timer_at_count(load_le<u32>(&page[kApicTimerCurrent]));
  look_again();
}

}  // namespace atl::soft
