// Arbitrary bytes executed in every mode of the software CPU: the guest may only hurt itself.
//
// Input: one byte of mode (bits 1:0 real, protected, long; bit 2: CPL 3; bit 3: block runs instead of single steps), one of
// flags, then code.
#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/system/state.h"

namespace {

using namespace atl;
using namespace atl::soft;

TestMachine& machine() {
  static TestMachine m;
  return m;
}

void enter(TestMachine& m, u8 mode) {
  switch (mode & 3) {
    case 0: m.enter_real_mode(); break;
    case 1: m.enter_protected_mode(); break;
    default: m.enter_long_mode(); break;
  }
  if ((mode & 4) && (mode & 3)) m.enter_user_mode();
}

void set_registers(Core& core, u8 flags) {
  for (u8 r = 0; r < 16; ++r) core.gpr[r] = TestMachine::kData + r * 64;
  core.gpr[kRcx] = 7;
  core.gpr[kRsp] = 0x8000;
  core.set_rflags(flags | 2u);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3 || size > 512) return 0;
  TestMachine& m = machine();
  Core& core = m.core();
  reset_core(core, true);
  enter(m, data[0]);
  set_registers(core, data[1]);
  constexpr GuestAddr kCode = 0x7000;  // within reach of real mode
  m.load(kCode, {data + 2, size - 2});
  m.vm().code.wrote(kCode, size - 2);
  core.rip = kCode;
  core.attention = 0;
  for (int i = 0; i < 64; ++i) {
    if (data[0] & 8) {
      core.attention.fetch_or(kAttendKick);
      if (run(core) != cpu::RunExit::Kicked) break;
    }
    if (!step_one(core) || core.mp_state != cpu::MpState::Runnable) break;
  }
  return 0;
}
