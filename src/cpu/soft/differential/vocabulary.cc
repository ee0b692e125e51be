#include "cpu/soft/differential/vocabulary.h"

#include <algorithm>
#include <optional>

#include "base/endian.h"

namespace atl::soft::differential {
namespace {

constexpr size_t kEntries = 1500;

/// Instructions whose result or fault the manual leaves to the processor (compare.cc knows them), that end most programs, or
/// that set what ends programs.
constexpr ZydisMnemonic kLeftOut[] = {
    ZYDIS_MNEMONIC_DAA, ZYDIS_MNEMONIC_DAS, ZYDIS_MNEMONIC_AAA, ZYDIS_MNEMONIC_AAS, ZYDIS_MNEMONIC_AAM, ZYDIS_MNEMONIC_AAD,
    ZYDIS_MNEMONIC_MASKMOVQ, ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVDQU, ZYDIS_MNEMONIC_FLDENV, ZYDIS_MNEMONIC_FRSTOR,
    ZYDIS_MNEMONIC_FBLD, ZYDIS_MNEMONIC_POPA, ZYDIS_MNEMONIC_POPAD, ZYDIS_MNEMONIC_LDMXCSR, ZYDIS_MNEMONIC_VLDMXCSR,
    ZYDIS_MNEMONIC_ENTER, ZYDIS_MNEMONIC_UD0, ZYDIS_MNEMONIC_UD1, ZYDIS_MNEMONIC_UD2, ZYDIS_MNEMONIC_FLDCW, ZYDIS_MNEMONIC_RSM,
    ZYDIS_MNEMONIC_CLI, ZYDIS_MNEMONIC_STI};

constexpr ZydisInstructionCategory kBranches[] = {ZYDIS_CATEGORY_CALL, ZYDIS_CATEGORY_RET, ZYDIS_CATEGORY_COND_BR,
                                                  ZYDIS_CATEGORY_UNCOND_BR};

/// Mostly faults when operands are random.
bool mostly_faults(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_DIV || mnemonic == ZYDIS_MNEMONIC_IDIV || mnemonic == ZYDIS_MNEMONIC_BOUND;
}

bool is_control_register(const ZydisDecodedOperand& o) {
  if (o.type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
  ZydisRegisterClass of = ZydisRegisterGetClass(o.reg.value);
  return of == ZYDIS_REGCLASS_CONTROL || of == ZYDIS_REGCLASS_DEBUG;
}

/// An EPYC of the fourth generation executes VCVTUSI2SD with RSP behind a POP with the RSP from before it.
bool reads_stack_pointer(const Decoded& d) {
  return d.in.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && std::ranges::any_of(d.all_operands(), [](const ZydisDecodedOperand& o) {
           return o.type == ZYDIS_OPERAND_TYPE_REGISTER && (o.reg.value == ZYDIS_REGISTER_RSP || o.reg.value == ZYDIS_REGISTER_ESP);
         });
}

bool belongs(const Decoded& d) {
  if (reads_stack_pointer(d)) return false;
  if (std::ranges::any_of(d.all_operands(), is_control_register)) return false;
  return std::ranges::find(kLeftOut, d.in.mnemonic) == std::end(kLeftOut) &&
         std::ranges::find(kBranches, d.in.meta.category) == std::end(kBranches);
}

/// The number of a general register, whatever part of it is named.
std::optional<unsigned> number_of(ZydisMachineMode mode, ZydisRegister reg) {
  ZydisRegister whole = ZydisRegisterGetLargestEnclosing(mode, reg);
  ZydisRegisterClass of = ZydisRegisterGetClass(whole);
  if (of != ZYDIS_REGCLASS_GPR64 && of != ZYDIS_REGCLASS_GPR32) return std::nullopt;
  return static_cast<unsigned>(ZydisRegisterGetId(whole));
}

class Fit {
 public:
  Fit(Random& random, const Decoded& d, const Roles& roles, bool touches_memory)
      : random_(random), d_(d), roles_(roles), touches_memory_(touches_memory) {}

  bool fits() const {
    if (mostly_faults(d_.in.mnemonic) && random_.percent(97)) return false;
    if ((d_.in.attributes & kRepeatPrefixes) && !(roles_.indexes >> cpu::kRcx & 1) && random_.percent(97)) return false;
    return std::ranges::all_of(d_.all_operands(), [this](const ZydisDecodedOperand& o) { return fits(o); });
  }

 private:
  bool fits(const ZydisDecodedOperand& o) const {
    if (o.type == ZYDIS_OPERAND_TYPE_REGISTER) return fits_register(o);
    return o.type != ZYDIS_OPERAND_TYPE_MEMORY || o.mem.type == ZYDIS_MEMOP_TYPE_AGEN || fits_memory(o);
  }

  bool fits_register(const ZydisDecodedOperand& o) const {
    std::optional<unsigned> number = number_of(d_.in.machine_mode, o.reg.value);
    bool is_written = o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    if (!number || !is_written || roles_.is_free(*number)) return true;
    if (*number == roles_.counter) return false;
    // String instructions and stack operations move their pointers a little.
    bool moves = o.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
    return touches_memory_ && (moves || random_.percent(2));
  }

  bool fits_memory(const ZydisDecodedOperand& o) const {
    if (!touches_memory_) return false;
    if (o.mem.segment == ZYDIS_REGISTER_GS) return o.mem.base == ZYDIS_REGISTER_NONE && o.mem.index == ZYDIS_REGISTER_NONE;
    if (o.mem.type == ZYDIS_MEMOP_TYPE_VSIB && random_.percent(95)) return false;
    if (has_bit_offset(o) && random_.percent(90)) return false;
    return is(o.mem.base, roles_.pointers) && (o.mem.type == ZYDIS_MEMOP_TYPE_VSIB || is(o.mem.index, roles_.indexes));
  }

  /// BT and its like with a register: the operand is elsewhere.
  bool has_bit_offset(const ZydisDecodedOperand& o) const {
    bool bits = d_.in.mnemonic == ZYDIS_MNEMONIC_BT || d_.in.mnemonic == ZYDIS_MNEMONIC_BTS || d_.in.mnemonic == ZYDIS_MNEMONIC_BTR ||
                d_.in.mnemonic == ZYDIS_MNEMONIC_BTC;
    const ZydisDecodedOperand& offset = d_.operands[1];
    return bits && &o == &d_.operands[0] && offset.type == ZYDIS_OPERAND_TYPE_REGISTER && !is(offset.reg.value, roles_.indexes);
  }

  bool is(ZydisRegister reg, u16 wanted) const {
    std::optional<unsigned> number = number_of(d_.in.machine_mode, reg);
    return !number || (wanted >> *number & 1);
  }

  Random& random_;
  const Decoded& d_;
  const Roles& roles_;
  bool touches_memory_;
};

bool is_general(const Decoded& d) {
  return d.in.meta.isa_ext == ZYDIS_ISA_EXT_BASE || d.in.meta.isa_ext == ZYDIS_ISA_EXT_LONGMODE;
}

}  // namespace

void Vocabulary::renew(Random& random) {
  for (Mode mode : {Mode::Long, Mode::Compatibility}) {
    auto& entries = entries_[static_cast<unsigned>(mode)];
    entries.clear();
    while (entries.size() < kEntries) {
      std::vector<u8> bytes = random_bytes(random, mode);
      std::optional<Decoded> d = instructions_.decode(mode, bytes);
      if (!d || !instructions_.accepts(*d) || !belongs(*d)) continue;
      if (!is_general(*d) && random.percent(50)) continue;
      bytes.resize(d->in.length);
      entries.push_back({bytes, *d});
    }
  }
}

Item Vocabulary::pick(Random& random, Mode mode, const Roles& roles, bool touches_memory) const {
  const auto& entries = entries_[static_cast<unsigned>(mode)];
  for (;;) {
    const Entry& entry = entries[random.below(entries.size())];
    if (Fit(random, entry.decoded, roles, touches_memory).fits()) return place(random, entry);
  }
}

/// Displacements of four bytes are replaced: absolute addresses hit the window, others stay small. Vectors are mostly aligned.
Item Vocabulary::place(Random& random, const Entry& entry) {
  Item item{.bytes = entry.bytes, .fixups = {}};
  const auto& in = entry.decoded.in;
  auto at = static_cast<u8>(in.raw.disp.offset);
  for (const ZydisDecodedOperand& o : entry.decoded.all_operands()) {
    if (o.type != ZYDIS_OPERAND_TYPE_MEMORY || o.mem.type == ZYDIS_MEMOP_TYPE_AGEN || in.raw.disp.size < 8) continue;
    u64 aligned = o.size == 128 && random.percent(90) ? ~u64{15} : ~u64{0};
    u64 inside = (64 + random.below(kWritableBytes - 128)) & aligned;
    bool relative = o.mem.base == ZYDIS_REGISTER_RIP || o.mem.base == ZYDIS_REGISTER_EIP;
    bool absolute = o.mem.base == ZYDIS_REGISTER_NONE && o.mem.index == ZYDIS_REGISTER_NONE;
    if (in.raw.disp.size == 8) item.bytes[at] &= static_cast<u8>(aligned);
    else if (o.mem.segment == ZYDIS_REGISTER_GS) store_le_n(&item.bytes[at], inside, 4);
    else if (relative) item.fixups.push_back({.at = at, .relative = true, .end = static_cast<u8>(in.length), .addend = kWindow + inside});
    else store_le_n(&item.bytes[at], absolute ? kWindow + inside : (random.below(256) - 128) & aligned, in.raw.disp.size / 8u);
  }
  return item;
}

}  // namespace atl::soft::differential
