#include "cpu/soft/native/stub_code.h"

#include "cpu/soft/native/emitter.h"
#include "cpu/soft/native/supported.h"

namespace atl::soft {
namespace {

constexpr unsigned kHostAx = 0, kHostCx = 1, kHostDx = 2;

template <class F>
void for_each_bit(u32 set, F&& f) {
  for (unsigned i = 0; i < 32; ++i)
    if (set >> i & 1) f(i);
}

void note_register(RegisterUse& use, const ZydisDecodedOperand& o) {
  ZydisRegister reg = o.reg.value;
  u32 bit = 1u << (static_cast<unsigned>(ZydisRegisterGetId(reg)) & 31);
  bool written = o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_MASK:
      use.opmask |= static_cast<u8>(bit);
      if (written) use.opmask_written |= static_cast<u8>(bit);
      return;
    case ZYDIS_REGCLASS_ZMM:
    case ZYDIS_REGCLASS_YMM: use.ymm |= bit; [[fallthrough]];
    case ZYDIS_REGCLASS_XMM:
      use.xmm |= bit;
      if (written) use.xmm_written |= bit;
      return;
    case ZYDIS_REGCLASS_MMX:
      use.mm |= bit;
      if (written) use.mm_written |= bit;
      return;
    case ZYDIS_REGCLASS_FLAGS:
      use.flags_read |= (o.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
      use.flags_written |= written;
      return;
    default: break;
  }
  bool hidden = o.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
  if (hidden && (reg == ZYDIS_REGISTER_EAX || reg == ZYDIS_REGISTER_RAX)) use.eax_edx_read = true;
  if (hidden && (reg == ZYDIS_REGISTER_ECX || reg == ZYDIS_REGISTER_RCX)) use.ecx_written = true;
}

void load_vectors(Emitter& e, const RegisterUse& use, bool vex) {
  for_each_bit(use.xmm, [&](unsigned i) { vex ? e.load_xmm_vex(i) : e.load_xmm(i); });
  for_each_bit(use.ymm, [&](unsigned i) { e.load_ymm_high(i); });
  for_each_bit(use.mm, [&](unsigned i) { e.load_mm(i); });
}

/// Every VEX instruction sets all of its destination above what it computes, up to what the processor has.
void store_vectors(Emitter& e, const RegisterUse& use, bool vex) {
  for_each_bit(use.xmm_written, [&](unsigned i) {
    if (!vex) return e.store_xmm(i);
    e.store_xmm_vex(i);
    e.store_ymm_high(i);
    if (host_has_avx512()) e.store_zmm_high(i);
  });
  for_each_bit(use.mm_written, [&](unsigned i) { e.store_mm(i); });
}

void load_scalars(Emitter& e, const Reencoding& in, const RegisterUse& use) {
  if (use.flags_read) e.flags_in();
  if (in.gpr) e.load_gpr(kHostAx, *in.gpr);
  if (!use.eax_edx_read) return;
  e.load_gpr(kHostAx, kRax);
  e.load_gpr(kHostDx, kRdx);
}

void store_scalars(Emitter& e, const Reencoding& in, const RegisterUse& use) {
  if (in.gpr && in.gpr_written) e.store_gpr(kHostAx, *in.gpr);
  if (use.flags_written) e.flags_out();
  if (use.ecx_written) e.store_gpr(kHostCx, kRcx);
}

void restore_host_mxcsr(Emitter& e, const CodeArena& arena) {
  const u8* after = arena.next() + e.size() + Emitter::kLoadHostMxcsrBytes;
  e.load_host_mxcsr(static_cast<i32>(arena.host_mxcsr() - after));
}

void leave(Emitter& e, const RegisterUse& use, bool vex, bool use_mxcsr, const CodeArena& arena) {
  if (use_mxcsr) {
    e.store_guest_mxcsr();
    restore_host_mxcsr(e, arena);
  }
  if (vex) e.zero_uppers();
  if (use.mm) e.end_mmx();
}

}  // namespace

RegisterUse register_use(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  RegisterUse use;
  for (unsigned i = 0; i < in.operand_count; ++i)
    if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER) note_register(use, operands[i]);
  return use;
}

StubCode make_simd_code(const Reencoding& in, const RegisterUse& use, bool vex, bool use_mxcsr, const CodeArena& arena) {
  Emitter e;
  load_vectors(e, use, vex);
  if (use_mxcsr) e.load_guest_mxcsr();
  load_scalars(e, in, use);
  e.raw(in.bytes);
  store_scalars(e, in, use);
  store_vectors(e, use, vex);
  leave(e, use, vex, use_mxcsr, arena);
  e.return_ok();
  size_t fault_exit = e.size();
  if (use_mxcsr) {
    leave(e, use, vex, true, arena);
    e.return_fault();
  }
  return {e.code(), fault_exit};
}

StubCode make_wide_code(const Reencoding& in, const RegisterUse& use, bool use_mxcsr, const CodeArena& arena) {
  Emitter e;
  for_each_bit(use.xmm, [&](unsigned i) { e.load_zmm(i); });
  for_each_bit(use.opmask, [&](unsigned i) { e.load_opmask(i); });
  if (use_mxcsr) e.load_guest_mxcsr();
  load_scalars(e, in, use);
  e.raw(in.bytes);
  store_scalars(e, in, use);
  for_each_bit(use.xmm_written, [&](unsigned i) { e.store_zmm(i); });
  for_each_bit(use.opmask_written, [&](unsigned i) { e.store_opmask(i); });
  leave(e, use, true, use_mxcsr, arena);
  e.return_ok();
  size_t fault_exit = e.size();
  if (use_mxcsr) {
    leave(e, use, true, true, arena);
    e.return_fault();
  }
  return {e.code(), fault_exit};
}

StubCode make_x87_code(const Reencoding& in, const RegisterUse& use, const CodeArena& arena) {
  Emitter e;
  e.restore_image();
  load_scalars(e, in, use);
  e.raw(in.bytes);
  store_scalars(e, in, use);
  e.save_image();
  e.init_host_x87();
  restore_host_mxcsr(e, arena);
  e.return_ok();
  return {e.code(), e.size()};
}

}  // namespace atl::soft
