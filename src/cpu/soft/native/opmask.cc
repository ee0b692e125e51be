// AVX-512's memory operands under an opmask: elements whose bit is clear touch no memory and cannot fault (SDM vol. 1, 15.6.1;
// vol. 2: VGATHER, VSCATTER, VCOMPRESS, VEXPAND).
//
// If all of the operand lies in one page of RAM that the TLB knows, the host's instruction works on it as it stands. Otherwise it
// works on a copy that is read or written element by element.

#include <bit>

#include "cpu/soft/exec/address.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/native/code_arena.h"
#include "cpu/soft/native/gate.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {
namespace {

using Wide = std::array<u8, 64>;

u64 mask_of(Core& core, unsigned number, unsigned bits) {
  return load_le<u64>(image::opmask(core, number)) & (bits == 64 ? ~u64{0} : (u64{1} << bits) - 1);
}

/// A bit for each element of the memory operand that the instruction reaches.
u64 reached_elements(Core& core, const NativeStub& stub) {
  u64 mask = mask_of(core, stub.mask, stub.mask_bits);
  if (stub.masking == Masking::Packed) {
    auto count = static_cast<unsigned>(std::popcount(mask));
    return count == 64 ? ~u64{0} : (u64{1} << count) - 1;
  }
  unsigned elements = stub.memory_bytes / stub.element;
  u64 reached = 0;
  for (unsigned i = 0; i < stub.mask_bits; ++i) reached |= (mask >> i & 1) << i % elements;
  return reached;
}

bool element_linear(Core& core, const Op& op, unsigned i, bool write, u64& linear) {
  return operand_linear(core, op, op.stub->element, write, linear, u64{i} * op.stub->element);
}

template <class F>
bool for_each_element(Core& core, const Op& op, u64 elements, bool write, F&& f) {
  for (; elements; elements &= elements - 1) {
    auto i = static_cast<unsigned>(std::countr_zero(elements));
    u64 linear = 0;
    if (!element_linear(core, op, i, write, linear) || !f(linear, i * op.stub->element)) return false;
  }
  return true;
}

/// The operand itself. Without a check of limits, so only where there are none.
u8* whole_operand(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  bool flat = core.code_size == CodeSize::k64 || (core.flat_data && op.seg != kFs && op.seg != kGs && op.seg != kCs);
  if (!flat) return nullptr;
  u64 linear = effective_address(core, op) + (op.seg == kFs || op.seg == kGs ? core.seg[op.seg].base : 0);
  return fast_host(core, linear, stub.memory_bytes, stub.writes_memory ? Access::Write : Access::Read);
}

bool misaligned(const Core& core, const Op& op) {
  u64 linear = effective_address(core, op) + (core.code_size == CodeSize::k64 && op.seg < kFs ? 0 : core.seg[op.seg].base);
  return linear & (op.stub->alignment - 1u);
}

bool run_code(Core& core, const NativeStub& stub, void* memory) {
  if (stub.uses_mxcsr && (image::mxcsr(core) & image::kMxcsrMasks) != image::kMxcsrMasks) allow_fp_traps();
  if (!stub.code(&core, memory, stub.fault_exit)) [[likely]] return true;
  return core.raise(core.cr4 & kCr4OSXMMEXCPT ? u8{kXM} : u8{kUD});
}

bool run_on_copy(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  alignas(64) Wide copy{};
  u64 reached = reached_elements(core, stub);
  unsigned size = stub.element;
  if (!stub.writes_memory) {
    auto read = [&](u64 linear, unsigned at) { return read_slow(core, linear, &copy[at], size); };
    return for_each_element(core, op, reached, false, read) && run_code(core, stub, copy.data());
  }
  // Every fault comes before the first store.
  if (!for_each_element(core, op, reached, true, [&](u64 linear, unsigned) { return probe_write(core, linear, size); })) return false;
  if (!run_code(core, stub, copy.data())) return false;
  return for_each_element(core, op, reached, true, [&](u64 linear, unsigned at) { return write_slow(core, linear, &copy[at], size); });
}

// -- gather and scatter ------------------------------------------------------------------------------------------------------

Wide read_vector(Core& core, unsigned reg) {
  Wide v;
  if (reg >= 16) {
    std::copy_n(image::zmm16(core, reg), 64, v.data());
    return v;
  }
  std::copy_n(image::xmm(core, reg), 16, v.data());
  std::copy_n(image::ymm_high(core, reg), 16, v.data() + 16);
  std::copy_n(image::zmm_high(core, reg), 32, v.data() + 32);
  return v;
}

void write_vector(Core& core, unsigned reg, const Wide& v) {
  if (reg >= 16) {
    std::copy_n(v.data(), 64, image::zmm16(core, reg));
    return;
  }
  std::copy_n(v.data(), 16, image::xmm(core, reg));
  std::copy_n(v.data() + 16, 16, image::ymm_high(core, reg));
  std::copy_n(v.data() + 32, 32, image::zmm_high(core, reg));
}

/// The index of element `i`, sign-extended.
u64 index_of(const Wide& index, unsigned i, unsigned size) {
  if (size == 8) return load_le<u64>(&index[8 * i]);
  return static_cast<u64>(static_cast<i64>(static_cast<i32>(load_le<u32>(&index[4 * i]))));
}

/// Calls f(linear, offset in the vector) for the elements of the mask, and clears the bits of those that are done: after a fault
/// the instruction goes on from there.
template <class F>
bool for_each_index(Core& core, const Op& op, bool write, F&& f) {
  const NativeStub& stub = *op.stub;
  const Wide index = read_vector(core, stub.index);
  unsigned count = stub.length / std::max(stub.element, stub.index_element);
  const u64 wanted = mask_of(core, stub.mask, count);
  u64 left = wanted;
  for (; left; left &= left - 1) {
    auto i = static_cast<unsigned>(std::countr_zero(left));
    u64 linear = 0, displace = index_of(index, i, stub.index_element) << op.scale;
    bool done = operand_linear(core, op, stub.element, write, linear, displace) && f(linear, i * stub.element);
    if (!done) break;
  }
  u8* mask = image::opmask(core, stub.mask);
  store_le<u64>(mask, left ? load_le<u64>(mask) & ~(wanted ^ left) : 0);  // bits above the elements go at the end
  return left == 0;
}

}  // namespace

bool run_opmasked(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_wide(core)) return false;
  if (stub.alignment > 1 && misaligned(core, op) && reached_elements(core, stub)) return core.raise(kGP, 0);
  if (u8* host = whole_operand(core, op)) return run_code(core, stub, host);
  if (u64 linear = 0; stub.faults_whole &&
      !(operand_linear(core, op, stub.memory_bytes, true, linear, 0) && probe_write(core, linear, stub.memory_bytes))) return false;
  return run_on_copy(core, op);
}

bool run_opmask_gather(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_wide(core)) return false;
  Wide result = read_vector(core, stub.reg);
  unsigned elements = 0;
  auto read = [&](u64 linear, unsigned at) {
    const bool ok = read_slow(core, linear, &result[at], stub.element);
    elements += ok;
    return ok;
  };
  const bool done = for_each_index(core, op, false, read);
  const unsigned size = stub.length / std::max(stub.element, stub.index_element) * stub.element;
  // Processors clear what is above the vector's length with the first element, and the rest at the end.
  if (done || elements > 0) std::fill(result.begin() + (done ? size : stub.length), result.end(), 0);
  write_vector(core, stub.reg, result);
  return done;
}

bool run_opmask_scatter(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_wide(core)) return false;
  const Wide data = read_vector(core, stub.reg);
  auto write = [&](u64 linear, unsigned at) { return write_slow(core, linear, &data[at], stub.element); };
  return for_each_index(core, op, true, write);
}

}  // namespace atl::soft
