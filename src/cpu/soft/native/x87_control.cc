// x87 control instructions and environments (SDM vol. 1, 8.1.8 to 8.1.10; formats in figures 8-9 to 8-12).

#include "cpu/soft/exec/address.h"
#include "cpu/soft/mmu/access.h"
#include "cpu/soft/native/block_access.h"
#include "cpu/soft/native/gate.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {
namespace {

constexpr unsigned kEnvironment32 = 28, kRegisters = 80, kLargestState = kEnvironment32 + kRegisters;
constexpr u16 kFcwMeant = 0x1f3f, kFcwFixed = 0x40;

using State = std::array<u8, kLargestState>;

bool is_real_mode(const Core& core) { return !(core.cr0 & kCr0PE) || (core.other_flags & kVM); }

/// The two-bit tag of physical register `r`, of which the FXSAVE image has only whether it is in use.
unsigned full_tag(Core& core, unsigned r) {
  if (!(image::bytes(core)[image::kFtw] >> r & 1)) return 3;
  const u8* value = image::st(core, (r - image::top(core)) & 7);
  u64 mantissa = load_le<u64>(value);
  unsigned exponent = load_le<u16>(value + 8) & 0x7fff;
  if (exponent == 0 && mantissa == 0) return 1;
  bool normal = exponent != 0 && exponent != 0x7fff && mantissa >> 63;
  return normal ? 0 : 2;
}

u16 full_tags(Core& core) {
  unsigned tags = 0;
  for (unsigned r = 0; r < 8; ++r) tags |= full_tag(core, r) << 2 * r;
  return static_cast<u16>(tags);
}

void set_tags(Core& core, u16 tags) {
  unsigned in_use = 0;
  for (unsigned r = 0; r < 8; ++r) in_use |= ((tags >> 2 * r & 3) != 3) << r;
  image::bytes(core)[image::kFtw] = static_cast<u8>(in_use);
}

/// In real mode the pointers are linear addresses, their upper bits beside the opcode.
void store_environment(Core& core, bool wide, u8* out) {
  const u8* at = image::bytes(core);
  u64 ip = load_le<u64>(at + image::kFip), dp = load_le<u64>(at + image::kFdp);
  u32 opcode = load_le<u16>(at + image::kFop) & 0x7ff;
  bool real = is_real_mode(core);
  if (real) {
    ip += core.seg[kCs].base;
    dp += core.seg[kDs].base;
  }
  if (wide) {
    u32 filler = 0xffff0000;
    u32 fields[7] = {filler | image::fcw(core), filler | image::fsw(core), filler | full_tags(core),
                     static_cast<u32>(real ? ip & 0xffff : ip), static_cast<u32>(real ? (ip >> 16) << 12 | opcode : opcode << 16),
                     static_cast<u32>(real ? dp & 0xffff : dp), static_cast<u32>(real ? (dp >> 16) << 12 : filler)};
    std::memcpy(out, fields, sizeof fields);
    return;
  }
  u16 fields[7] = {image::fcw(core), image::fsw(core), full_tags(core), static_cast<u16>(ip),
                   static_cast<u16>(real ? (ip >> 16 & 15) << 12 | opcode : 0), static_cast<u16>(dp),
                   static_cast<u16>(real ? (dp >> 16 & 15) << 12 : 0)};
  std::memcpy(out, fields, sizeof fields);
}

void load_environment(Core& core, bool wide, const u8* in) {
  auto field = [&](unsigned i) { return wide ? load_le<u32>(in + 4 * i) : load_le<u16>(in + 2 * i); };
  u8* at = image::bytes(core);
  bool real = is_real_mode(core);
  u32 ip = field(3), code = field(4), dp = field(5), data = field(6);
  u32 opcode = real ? code & 0x7ff : wide ? code >> 16 & 0x7ff : 0;
  image::set_fcw(core, (field(0) & kFcwMeant) | kFcwFixed);
  image::set_top(core, field(1) >> 11 & 7);
  image::set_fsw(core, static_cast<u16>(field(1)));
  set_tags(core, static_cast<u16>(field(2)));
  store_le<u64>(at + image::kFip, real ? (ip & 0xffff) | u64{code >> 12} << 16 : ip);
  store_le<u64>(at + image::kFdp, real ? (dp & 0xffff) | u64{data >> 12} << 16 : dp);
  store_le<u16>(at + image::kFop, static_cast<u16>(opcode));
  image::update_error_summary(core);
}

bool is_wide(unsigned bytes) { return bytes == kEnvironment32 || bytes == kLargestState; }

void mask_exceptions(Core& core) {
  image::set_fcw(core, image::fcw(core) | image::kFswExceptions);
  image::update_error_summary(core);
}

bool store_word(Core& core, const Op& op, u16 value) {
  u64 linear = 0;
  return operand_linear(core, op, 2, true, linear) && write_mem(core, linear, value);
}

}  // namespace

bool run_fwait(Core& core, const Op&) {
  constexpr u64 kBoth = u64{kCr0MP} | kCr0TS;
  if ((core.cr0 & kBoth) == kBoth) return core.raise(kNM);
  return check_x87_pending(core);
}

bool run_fnop_no_wait(Core& core, const Op&) { return enter_x87_no_wait(core); }

bool run_fninit(Core& core, const Op&) {
  if (!enter_x87_no_wait(core)) return false;
  image::init_x87(core);
  return true;
}

bool run_fnclex(Core& core, const Op&) {
  if (!enter_x87_no_wait(core)) return false;
  image::set_fsw(core, image::fsw(core) & 0x7f00);
  return true;
}

bool run_fnstcw(Core& core, const Op& op) { return enter_x87_no_wait(core) && store_word(core, op, image::fcw(core)); }

bool run_fnstsw(Core& core, const Op& op) { return enter_x87_no_wait(core) && store_word(core, op, image::fsw(core)); }

bool run_fnstsw_ax(Core& core, const Op&) {
  if (!enter_x87_no_wait(core)) return false;
  core.gpr[kRax] = (core.gpr[kRax] & ~u64{0xffff}) | image::fsw(core);
  return true;
}

bool run_fldcw(Core& core, const Op& op) {
  u64 linear = 0;
  u16 value = 0;
  if (!enter_x87(core) || !operand_linear(core, op, 2, false, linear) || !read_mem(core, linear, value)) return false;
  image::set_fcw(core, (value & kFcwMeant) | kFcwFixed);
  image::update_error_summary(core);
  return true;
}

bool run_fnstenv(Core& core, const Op& op) {
  u64 linear = 0;
  unsigned size = op.stub->memory_bytes;
  State state;
  if (!enter_x87_no_wait(core) || !operand_linear(core, op, size, true, linear)) return false;
  store_environment(core, is_wide(size), state.data());
  if (!write_block(core, linear, state.data(), size)) return false;
  mask_exceptions(core);
  return true;
}

bool run_fldenv(Core& core, const Op& op) {
  u64 linear = 0;
  unsigned size = op.stub->memory_bytes;
  State state;
  if (!enter_x87(core) || !operand_linear(core, op, size, false, linear)) return false;
  if (!read_block(core, linear, state.data(), size)) return false;
  load_environment(core, is_wide(size), state.data());
  return true;
}

bool run_fnsave(Core& core, const Op& op) {
  u64 linear = 0;
  unsigned size = op.stub->memory_bytes;
  State state;
  if (!enter_x87_no_wait(core) || !operand_linear(core, op, size, true, linear)) return false;
  store_environment(core, is_wide(size), state.data());
  u8* registers = state.data() + size - kRegisters;
  for (unsigned i = 0; i < 8; ++i) std::copy_n(image::st(core, i), 10, registers + 10 * i);
  if (!write_block(core, linear, state.data(), size)) return false;
  image::init_x87(core);
  return true;
}

bool run_frstor(Core& core, const Op& op) {
  u64 linear = 0;
  unsigned size = op.stub->memory_bytes;
  State state;
  if (!enter_x87(core) || !operand_linear(core, op, size, false, linear)) return false;
  if (!read_block(core, linear, state.data(), size)) return false;
  load_environment(core, is_wide(size), state.data());
  const u8* registers = state.data() + size - kRegisters;
  for (unsigned i = 0; i < 8; ++i) std::copy_n(registers + 10 * i, 10, image::st(core, i));
  return true;
}

}  // namespace atl::soft
