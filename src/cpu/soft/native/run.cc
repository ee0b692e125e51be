// Around host code: the processor's checks before it, the memory operand, what it left behind.

#include "cpu/soft/exec/address.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/native/code_arena.h"
#include "cpu/soft/native/gate.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {
namespace {

constexpr unsigned kLargestOperand = 64;

/// Checked before the segment, whose violation may be #SS. DS, ES, CS and SS count from 0 in 64-bit mode.
bool misaligned(const Core& core, const Op& op, unsigned alignment) {
  bool based = core.code_size != CodeSize::k64 || op.seg >= kFs;
  u64 linear = effective_address(core, op) + (based ? core.seg[op.seg].base : 0);
  return linear & (alignment - 1);
}

/// The memory operand as the host code gets it: guest memory itself, or a copy when it crosses pages or is not RAM.
class Operand {
 public:
  bool prepare(Core& core, const Op& op, bool changes_state) {
    const NativeStub& stub = *op.stub;
    if (stub.alignment > 1 && misaligned(core, op, stub.alignment)) [[unlikely]] return core.raise(kGP, 0);
    if (!operand_linear(core, op, stub.memory_bytes, stub.writes_memory, linear_)) return false;
    host_ = fast_host(core, linear_, stub.memory_bytes, stub.writes_memory ? Access::Write : Access::Read);
    if (host_) [[likely]] return true;
    return prepare_copy(core, stub, changes_state);
  }
  bool finish(Core& core, const NativeStub& stub) {
    if (host_ != copy_ || !stub.writes_memory) [[likely]] return true;
    return write_slow(core, linear_, copy_, stub.memory_bytes);
  }
  void* host() const { return host_; }
  u64 linear() const { return linear_; }

 private:
  /// A store is tried before the code runs, so that a fault leaves the registers alone. x87 stores do not happen when they
  /// raise an unmasked exception: the copy then writes back what was there.
  bool prepare_copy(Core& core, const NativeStub& stub, bool changes_state) {
    host_ = copy_;
    if (stub.writes_memory && !probe_write(core, linear_, stub.memory_bytes)) return false;
    if (!stub.reads_memory && !changes_state) return true;
    return read_slow(core, linear_, copy_, stub.memory_bytes);
  }

  alignas(kLargestOperand) u8 copy_[kLargestOperand];
  u8* host_ = nullptr;
  u64 linear_ = 0;
};

bool raise_simd_exception(Core& core) { return core.raise(core.cr4 & kCr4OSXMMEXCPT ? u8{kXM} : u8{kUD}); }

/// Only unmasked exceptions can trap.
void prepare_traps(Core& core, const NativeStub& stub) {
  if (stub.uses_mxcsr && (image::mxcsr(core) & image::kMxcsrMasks) != image::kMxcsrMasks) [[unlikely]] allow_fp_traps();
}

/// FIP, FDP and FOP (SDM vol. 1, 8.1.8): the guest's, in place of our code's, which FXSAVE just wrote.
void record_x87_pointers(Core& core, const Op& op, u64 data_offset) {
  u8* at = image::bytes(core);
  store_le<u64>(at + image::kFip, core.rip);
  store_le<u64>(at + image::kFdp, data_offset);
  store_le<u16>(at + image::kFop, op.stub->fop);
}

/// An exception that waits although CR0.NE is clear was answered by IGNNE#: the host must not trap on it.
void call_x87(Core& core, const NativeStub& stub, void* memory) {
  if (!(image::fsw(core) & image::kFswErrorSummary)) [[likely]] {
    stub.code(&core, memory, stub.fault_exit);
    return;
  }
  u16 control = image::fcw(core);
  image::set_fcw(core, control | image::kFswExceptions);
  image::update_error_summary(core);
  stub.code(&core, memory, stub.fault_exit);
  image::set_fcw(core, control);
  image::update_error_summary(core);
}

}  // namespace

bool run_simd(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_gate(core, stub.gate)) [[unlikely]] return false;
  prepare_traps(core, stub);
  if (!stub.memory_bytes) {
    if (stub.code(&core, nullptr, stub.fault_exit)) [[unlikely]] return raise_simd_exception(core);
    return true;
  }
  Operand operand;
  if (!operand.prepare(core, op, false)) [[unlikely]] return false;
  if (stub.code(&core, operand.host(), stub.fault_exit)) [[unlikely]] return raise_simd_exception(core);
  return operand.finish(core, stub);
}

bool run_mmx(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_gate(core, stub.gate)) [[unlikely]] return false;
  prepare_traps(core, stub);
  Operand operand;
  if (stub.memory_bytes && !operand.prepare(core, op, false)) [[unlikely]] return false;
  become_mmx(core);
  if (stub.code(&core, operand.host(), stub.fault_exit)) [[unlikely]] return raise_simd_exception(core);
  return !stub.memory_bytes || operand.finish(core, stub);
}

bool run_x87(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_x87(core)) [[unlikely]] return false;
  Operand operand;
  if (stub.memory_bytes && !operand.prepare(core, op, true)) [[unlikely]] return false;
  u64 data_offset = stub.memory_bytes ? effective_address(core, op) : load_le<u64>(image::bytes(core) + image::kFdp);
  call_x87(core, stub, operand.host());
  record_x87_pointers(core, op, data_offset);
  return !stub.memory_bytes || operand.finish(core, stub);
}

}  // namespace atl::soft
