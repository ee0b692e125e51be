#include "cpu/soft/translate/host_code_check.h"

#include <fmt/format.h>

#include <algorithm>

namespace atl::soft::translate {
namespace {

constexpr ZydisInstructionCategory kForbidden[] = {
    ZYDIS_CATEGORY_SYSTEM, ZYDIS_CATEGORY_SYSCALL, ZYDIS_CATEGORY_SYSRET, ZYDIS_CATEGORY_INTERRUPT, ZYDIS_CATEGORY_IO,
    ZYDIS_CATEGORY_IOSTRINGOP, ZYDIS_CATEGORY_STRINGOP, ZYDIS_CATEGORY_SEGOP, ZYDIS_CATEGORY_RDWRFSGS, ZYDIS_CATEGORY_RET,
    ZYDIS_CATEGORY_X87_ALU, ZYDIS_CATEGORY_MMX, ZYDIS_CATEGORY_PUSH, ZYDIS_CATEGORY_POP, ZYDIS_CATEGORY_XSAVE, ZYDIS_CATEGORY_VTX,
    ZYDIS_CATEGORY_SGX, ZYDIS_CATEGORY_RDPID, ZYDIS_CATEGORY_WAITPKG, ZYDIS_CATEGORY_UINTR, ZYDIS_CATEGORY_GATHER, ZYDIS_CATEGORY_SCATTER,
};

bool is_segment(ZydisRegister reg) { return ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_SEGMENT; }

/// [rsp + disp], [rsp + r15 + disp], [rbp].
bool allowed_memory(const ZydisDecodedOperandMem& m) {
  if (m.segment != ZYDIS_REGISTER_SS && m.segment != ZYDIS_REGISTER_DS) return false;
  if (m.base == ZYDIS_REGISTER_RBP) return m.index == ZYDIS_REGISTER_NONE;
  return m.base == ZYDIS_REGISTER_RSP && (m.index == ZYDIS_REGISTER_NONE || m.index == ZYDIS_REGISTER_R15);
}

bool writes_rsp(const ZydisDecodedOperand& o) {
  return o.type == ZYDIS_OPERAND_TYPE_REGISTER && (o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
         o.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
         ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o.reg.value) == ZYDIS_REGISTER_RSP;
}

const char* operand_error(const ZydisDecodedInstruction& in, const ZydisDecodedOperand& o) {
  bool call = in.meta.category == ZYDIS_CATEGORY_CALL, is_explicit = o.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;
  if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && is_explicit && o.mem.type == ZYDIS_MEMOP_TYPE_MEM && !allowed_memory(o.mem))
    return "memory by another register";
  if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && !is_explicit && !call) return "hidden memory operand";
  if (o.type == ZYDIS_OPERAND_TYPE_REGISTER && is_segment(o.reg.value)) return "segment register";
  if (o.type == ZYDIS_OPERAND_TYPE_POINTER) return "far pointer";
  return writes_rsp(o) ? "changes RSP" : nullptr;
}

const char* instruction_error(const ZydisDecodedInstruction& in, const ZydisDecodedOperand* operands) {
  if (in.mnemonic == ZYDIS_MNEMONIC_RDTSC) return nullptr;  // a clock, which anybody may read
  if ((in.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) || in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return "privileged or far";
  if (std::ranges::find(kForbidden, in.meta.category) != std::end(kForbidden)) return "category";
  for (unsigned i = 0; i < in.operand_count; ++i)
    if (const char* error = operand_error(in, operands[i])) return error;
  return nullptr;
}

}  // namespace

std::string find_forbidden(std::span<const u8> code) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);  // a valid pair
  for (size_t at = 0; at < code.size();) {
    ZydisDecodedInstruction in;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, code.data() + at, code.size() - at, &in, operands)))
      return fmt::format("{:#x}: no instruction", at);
    if (const char* error = instruction_error(in, operands))
      return fmt::format("{:#x}: {}: {}", at, ZydisMnemonicGetString(in.mnemonic), error);
    at += in.length;
  }
  return {};
}

}  // namespace atl::soft::translate
