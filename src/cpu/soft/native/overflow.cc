// The guest that used up the shared arena with ever new instructions goes on slowly: what the decoder could not get a stub
// for is decoded and compiled each time, into a scratch page under a lock.

#include "cpu/soft/mmu/access.h"
#include "cpu/soft/native/special.h"

namespace atl::soft {

namespace {

ZydisDecoder decoder_for(CodeSize size) {
  ZydisDecoder decoder;
  switch (size) {
    case CodeSize::k64: ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64); break;
    case CodeSize::k32: ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32); break;
    case CodeSize::k16: ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16); break;
  }
  return decoder;
}

/// The instruction's bytes, which were executable a moment ago.
bool fetch(Core& core, u64 linear, u8* out, unsigned size) {
  while (size) {
    FetchPage page;
    unsigned piece = std::min(size, static_cast<unsigned>(kPageSize - (linear & (kPageSize - 1))));
    if (!fetch_page(core, linear, page)) return false;
    if (page.host) std::copy_n(page.host + (linear & (kPageSize - 1)), piece, out);
    else fetch_slow(core, page.gpa + (linear & (kPageSize - 1)), out, piece);
    linear += piece, out += piece, size -= piece;
  }
  return true;
}

}  // namespace

bool run_overflow(Core& core, const Op& op) {
  u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH] = {};
  u64 base = core.code_size == CodeSize::k64 ? 0 : core.seg[kCs].base;
  if (!fetch(core, base + core.rip, bytes, op.length)) return false;
  ZydisDecoder decoder = decoder_for(core.code_size);
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, op.length, &instruction, operands))) return core.raise(kUD);
  return run_stub_once(core, op, instruction, operands, std::span(bytes, op.length));
}

}  // namespace atl::soft
