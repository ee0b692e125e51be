// Loads and stores of chosen elements: those whose mask bit is clear touch no memory and cannot fault (SDM vol. 2:
// VMASKMOV, VPMASKMOV, MASKMOVDQU, MASKMOVQ, VGATHER, VPGATHER).

#include "cpu/soft/exec/address.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/native/gate.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {
namespace {

using Vector = std::array<u8, 32>;

Vector read_vector(Core& core, unsigned reg) {
  Vector v;
  std::copy_n(image::xmm(core, reg), 16, v.data());
  std::copy_n(image::ymm_high(core, reg), 16, v.data() + 16);
  return v;
}

void write_vector(Core& core, unsigned reg, const Vector& v) {
  std::copy_n(v.data(), 16, image::xmm(core, reg));
  std::copy_n(v.data() + 16, 16, image::ymm_high(core, reg));
}

/// What the completed instruction does to all that is above.
void clear_above(Core& core, unsigned reg) { std::fill_n(image::zmm_high(core, reg), 32, 0); }

bool chosen(const Vector& mask, unsigned i, unsigned element) { return mask[(i + 1) * element - 1] & 0x80; }

bool read_element(Core& core, u64 linear, u8* out, unsigned size) {
  const u8* host = fast_host(core, linear, size, Access::Read);
  if (!host) return read_slow(core, linear, out, size);
  std::copy_n(host, size, out);
  return true;
}

bool write_element(Core& core, u64 linear, const u8* data, unsigned size) {
  u8* host = fast_host(core, linear, size, Access::Write);
  if (!host) return write_slow(core, linear, data, size);
  std::copy_n(data, size, host);
  return true;
}

/// Linear address of element `i` of a packed memory operand.
bool element_linear(Core& core, const Op& op, unsigned i, bool write, u64& linear) {
  return operand_linear(core, op, op.stub->element, write, linear, u64{i} * op.stub->element);
}

/// Byte masks with an address in rDI.
bool store_bytes(Core& core, const Op& op, const u8* data, const u8* mask, unsigned count) {
  for (bool store : {false, true}) {
    for (unsigned i = 0; i < count; ++i) {
      if (!(mask[i] & 0x80)) continue;
      u64 linear = 0, offset = (core.gpr[kRdi] + i) & address_mask(op.addrsize);
      if (!segment_linear(core, op.seg, offset, 1, true, linear)) return false;
      if (store ? !write_element(core, linear, data + i, 1) : !probe_write(core, linear, 1)) return false;
    }
  }
  return true;
}

/// The index of element `i`, sign-extended.
u64 gather_index(const Vector& index, unsigned i, unsigned size) {
  if (size == 8) return load_le<u64>(&index[8 * i]);
  return static_cast<u64>(static_cast<i64>(static_cast<i32>(load_le<u32>(&index[4 * i]))));
}

}  // namespace

bool run_masked_load(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_vex(core)) return false;
  Vector mask = read_vector(core, stub.mask), result{};
  for (unsigned i = 0; i < stub.length / stub.element; ++i) {
    u64 linear = 0;
    if (!chosen(mask, i, stub.element)) continue;
    if (!element_linear(core, op, i, false, linear) || !read_element(core, linear, &result[i * stub.element], stub.element)) return false;
  }
  write_vector(core, stub.reg, result);
  clear_above(core, stub.reg);
  return true;
}

bool run_masked_store(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_vex(core)) return false;
  Vector mask = read_vector(core, stub.mask), data = read_vector(core, stub.reg);
  for (bool store : {false, true}) {  // every fault comes before the first store
    for (unsigned i = 0; i < stub.length / stub.element; ++i) {
      u64 linear = 0;
      if (!chosen(mask, i, stub.element)) continue;
      if (!element_linear(core, op, i, true, linear)) return false;
      if (store ? !write_element(core, linear, &data[i * stub.element], stub.element) : !probe_write(core, linear, stub.element)) return false;
    }
  }
  return true;
}

bool run_maskmovdqu(Core& core, const Op& op) {
  if (!enter_gate(core, op.stub->gate)) return false;
  return store_bytes(core, op, image::xmm(core, op.stub->reg), image::xmm(core, op.stub->mask), 16);
}

bool run_maskmovq(Core& core, const Op& op) {
  if (!enter_mmx(core)) return false;
  // A fault in a store would find the registers as MMX leaves them; the transition itself changes no register.
  become_mmx(core);
  return store_bytes(core, op, image::st(core, op.stub->reg), image::st(core, op.stub->mask), 8);
}

bool run_gather(Core& core, const Op& op) {
  const NativeStub& stub = *op.stub;
  if (!enter_vex(core)) return false;
  Vector result = read_vector(core, stub.reg), mask = read_vector(core, stub.mask), index = read_vector(core, stub.index);
  unsigned count = stub.length / std::max(stub.element, stub.index_element);
  // Elements done before a fault stay done, and their mask bits cleared: the instruction goes on from there.
  bool done = true;
  for (unsigned i = 0; i < count && done; ++i) {
    u64 linear = 0, displace = gather_index(index, i, stub.index_element) << op.scale;
    if (chosen(mask, i, stub.element))
      done = operand_linear(core, op, stub.element, false, linear, displace) &&
             read_element(core, linear, &result[i * stub.element], stub.element);
    if (done) std::fill_n(&mask[i * stub.element], stub.element, 0);
  }
  if (done) {
    std::fill(result.begin() + count * stub.element, result.end(), 0);
    mask.fill(0);
    clear_above(core, stub.reg);
    clear_above(core, stub.mask);
  }
  write_vector(core, stub.reg, result);
  write_vector(core, stub.mask, mask);
  return done;
}

}  // namespace atl::soft
