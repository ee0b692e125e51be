#include "cpu/soft/system/events.h"

#include "cpu/soft/system/handler_entry.h"

namespace atl::soft {
namespace {

bool contributory(u8 vector) { return vector == kDE || (vector >= kTS && vector <= kGP); }

/// SDM vol. 3, table 7-5: what becomes of `second`, met while delivering `first`.
enum class Outcome : u8 { Second, DoubleFault, Shutdown };
Outcome combine(u8 first, u8 second) {
  if (first == kDFault) return contributory(second) || second == kPFault ? Outcome::Shutdown : Outcome::Second;
  if (contributory(first) && contributory(second)) return Outcome::DoubleFault;
  if (first == kPFault && (contributory(second) || second == kPFault)) return Outcome::DoubleFault;
  return Outcome::Second;
}

/// Registers that tell the handler more.
void record(Core& core, const Fault& fault) {
  if (fault.vector == kPFault) core.cr2 = fault.address;
  if (fault.vector != kDB) return;
  core.dr6 = (core.dr6 & ~u64{0xf}) | fault.dr6;
  core.dr7 &= ~u64{1 << 13};  // GD, so that the handler can look
}

Event event_of(const Fault& fault) {
  return {fault.vector, fault.trap ? EventKind::Trap : EventKind::Fault, fault.has_error, fault.error};
}

void note_delivered(Core& core) {
  core.fault_pending = false;
  core.interrupt_shadow = false;
  core.debug_hits = 0;
  core.mp_state = MpState::Runnable;
}

}  // namespace

bool deliver_exception(Core& core) {
  ++core.stats.exceptions;
  for (Fault first = core.fault;;) {
    core.fault_pending = false;
    record(core, first);
    if (enter_handler(core, event_of(first), core.rip)) {
      note_delivered(core);
      return true;
    }
    core.fault_pending = false;
    const Fault second = core.fault;
    switch (combine(first.vector, second.vector)) {
      case Outcome::Shutdown: return false;
      case Outcome::DoubleFault:
        record(core, second);
        first = {.vector = kDFault, .has_error = true};
        break;
      case Outcome::Second: first = second; break;
    }
  }
}

bool deliver_interrupt(Core& core, u8 vector) {
  core.mp_state = MpState::Runnable;
  if (!enter_handler(core, {.vector = vector, .kind = EventKind::Hardware}, core.rip)) return deliver_exception(core);
  note_delivered(core);
  return true;
}

bool deliver_nmi(Core& core) {
  core.nmi_masked = true;
  return deliver_interrupt(core, kNMI);
}

bool enter_handler(Core& core, const Event& event, u64 return_rip) {
  if (enter_handler_by_mode(core, event, return_rip)) return true;
  // Selector errors met while delivering an external event or exception carry EXT.
  bool selector_fault = core.fault.vector >= kTS && core.fault.vector <= kGP;
  if (selector_fault && event.external()) core.fault.error |= 1;
  return false;
}

}  // namespace atl::soft
