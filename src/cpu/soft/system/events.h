// Delivery of exceptions, interrupts and NMI, and software interrupts (SDM vol. 3, chapter 7; real mode: section 21.1.4).
#pragma once

#include "cpu/soft/core.h"

namespace atl::soft {

/// What caused an event: it decides about privilege checks, the saved RIP and RF.
enum class EventKind : u8 { Fault, Trap, Hardware, SoftwareInt, SoftwareException /* INT3, INTO */, PrivilegedSoftware /* INT1 */ };

struct Event {
  u8 vector = 0;
  EventKind kind = EventKind::Fault;
  bool has_error = false;
  u32 error = 0;
  bool external() const { return kind != EventKind::SoftwareInt && kind != EventKind::SoftwareException; }
};

/// Delivers core.fault (core.rip is the RIP to save: of the instruction for faults, past it for traps), turning faults met
/// on the way into double faults as SDM vol. 3 table 7-5 has it. False: triple fault, the processor shuts down.
/// Clears fault_pending, also then.
bool deliver_exception(Core& core);
/// An external interrupt, already acknowledged. Call at an instruction boundary with IF set and no interrupt shadow; a
/// halted core wakes. False: triple fault.
bool deliver_interrupt(Core& core, u8 vector);
bool deliver_nmi(Core& core);

/// Enters the handler of `event`, saving `return_rip`; core.rip becomes the handler's address. False with core unchanged
/// but for the fault it met.
bool enter_handler(Core& core, const Event& event, u64 return_rip);

}  // namespace atl::soft
