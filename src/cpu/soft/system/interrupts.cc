// INT n, INT3, INTO and INT1 (SDM vol. 2, INT n/INTO/INT3/INT1).
#include "cpu/soft/system/debug.h"
#include "cpu/soft/system/events.h"
#include "cpu/soft/system/instructions.h"
#include "cpu/soft/system/mode.h"

namespace atl::soft {
namespace {

bool software_event(Core& core, u8 vector, EventKind kind) {
  suppress_step(core);
  if (!enter_handler(core, {.vector = vector, .kind = kind}, core.next_rip)) return false;
  core.next_rip = core.rip;
  return true;
}

}  // namespace

bool sys_int(Core& core, const Op& op) { return software_event(core, static_cast<u8>(op.imm), EventKind::SoftwareInt); }

bool sys_int3(Core& core, const Op&) { return software_event(core, kBP, EventKind::SoftwareException); }

bool sys_into(Core& core, const Op&) {
  if (code64(core)) return core.raise(kUD);
  if (!(core.rflags() & kOF)) return true;
  return software_event(core, kOFv, EventKind::SoftwareException);
}

bool sys_int1(Core& core, const Op&) {
  // A breakpoint that MOV SS held back is part of this #DB.
  core.dr6 |= core.debug_hits & kDr6Breakpoints;
  core.debug_hits &= ~kDr6Breakpoints;
  return software_event(core, kDB, EventKind::PrivilegedSoftware);
}

}  // namespace atl::soft
