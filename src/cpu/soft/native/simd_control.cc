// MXCSR, and what clears whole register files (SDM vol. 2: LDMXCSR, STMXCSR, VZEROUPPER, VZEROALL, EMMS).

#include "cpu/soft/exec/address.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/native/gate.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {
namespace {

/// Registers that the current mode can name.
unsigned vector_registers(const Core& core) { return core.code_size == CodeSize::k64 ? 16 : 8; }

}  // namespace

bool run_ldmxcsr(Core& core, const Op& op) {
  u64 linear = 0;
  u32 value = 0;
  if (!enter_gate(core, op.stub->gate) || !operand_linear(core, op, 4, false, linear)) return false;
  if (!read_mem(core, linear, value)) return false;
  if (value & ~image::kMxcsrValid) return core.raise(kGP, 0);
  image::set_mxcsr(core, value);
  return true;
}

bool run_stmxcsr(Core& core, const Op& op) {
  u64 linear = 0;
  if (!enter_gate(core, op.stub->gate) || !operand_linear(core, op, 4, true, linear)) return false;
  return write_mem(core, linear, image::mxcsr(core));
}

bool run_vzeroupper(Core& core, const Op&) {
  if (!enter_vex(core)) return false;
  std::fill_n(image::ymm_high(core, 0), 16 * vector_registers(core), 0);
  std::fill_n(image::zmm_high(core, 0), 32 * vector_registers(core), 0);
  return true;
}

bool run_vzeroall(Core& core, const Op& op) {
  if (!run_vzeroupper(core, op)) return false;
  std::fill_n(image::xmm(core, 0), 16 * vector_registers(core), 0);
  return true;
}

bool run_emms(Core& core, const Op&) {
  if (!enter_mmx(core)) return false;
  become_mmx(core);
  image::bytes(core)[image::kFtw] = 0;
  return true;
}

}  // namespace atl::soft
