// Bytes that look like one of the instructions are common; whether one begins there is found out by decoding towards it from sixteen
// places before it. Such chains fall into step with the true stream after a few instructions.
#include "cpu/soft/direct/scan.h"

#include <Zydis/Zydis.h>

#include <algorithm>
#include <cstring>

namespace atl::soft::direct {
namespace {

bool suspicious(u8 second) {
  constexpr u8 kSecond[] = {0x00, 0x01, 0x02, 0x03, 0x34, 0xa2, 0xae, 0xc7};
  return std::ranges::find(kSecond, second) != std::end(kSecond);
}

/// XSAVE and XRSTOR are here because the components of AVX-512 stand where Intel has them, for the guest.
bool refused(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_CPUID: case ZYDIS_MNEMONIC_XGETBV: case ZYDIS_MNEMONIC_RDPID: case ZYDIS_MNEMONIC_RDPRU:
    case ZYDIS_MNEMONIC_SGDT: case ZYDIS_MNEMONIC_SIDT: case ZYDIS_MNEMONIC_SLDT: case ZYDIS_MNEMONIC_STR: case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_LAR: case ZYDIS_MNEMONIC_LSL: case ZYDIS_MNEMONIC_VERR: case ZYDIS_MNEMONIC_VERW:
    case ZYDIS_MNEMONIC_RDPKRU: case ZYDIS_MNEMONIC_WRPKRU: case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_XBEGIN: case ZYDIS_MNEMONIC_XEND: case ZYDIS_MNEMONIC_XTEST: case ZYDIS_MNEMONIC_XABORT:
    case ZYDIS_MNEMONIC_MONITORX: case ZYDIS_MNEMONIC_MWAITX: case ZYDIS_MNEMONIC_UMONITOR: case ZYDIS_MNEMONIC_UMWAIT:
    case ZYDIS_MNEMONIC_TPAUSE: case ZYDIS_MNEMONIC_XSAVE: case ZYDIS_MNEMONIC_XSAVE64: case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64: case ZYDIS_MNEMONIC_XSAVEC: case ZYDIS_MNEMONIC_XSAVEC64: case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
      return true;
    default: return false;
  }
}

const ZydisDecoder& decoder() {
  static const ZydisDecoder instance = [] {
    ZydisDecoder made;
    ZydisDecoderInit(&made, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ZydisDecoderEnableMode(&made, ZYDIS_DECODER_MODE_MINIMAL, ZYAN_TRUE);
    return made;
  }();
  return instance;
}

/// Whether the stream from `at` has an instruction that is refused with its first opcode byte at `opcode`.
bool leads_to(std::span<const u8> page, size_t at, size_t opcode) {
  while (at <= opcode) {
    ZydisDecodedInstruction insn;
    const bool known = ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder(), nullptr, &page[at], page.size() - at, &insn));
    if (known && at + insn.length > opcode) return at + insn.raw.prefix_count == opcode && refused(insn.mnemonic);
    at += known ? insn.length : 1;
  }
  return false;
}

bool meets(std::span<const u8> page, size_t opcode) {
  constexpr size_t kFarthest = 48, kNearest = 32;
  if (leads_to(page, opcode, opcode)) {
    const size_t first = opcode < kFarthest ? 0 : opcode - kFarthest, last = opcode < kNearest ? 0 : opcode - kNearest;
    for (size_t start = first; start <= last; ++start)
      if (leads_to(page, start, opcode)) return true;
    return opcode < kFarthest;
  }
  const bool prefixed = opcode > 0 && (page[opcode - 1] & 0xfc) == 0xf0 && leads_to(page, opcode - 1, opcode);
  return prefixed;
}

}  // namespace

bool fit_for_host(std::span<const u8> page) {
  for (const u8* at = page.data(), *end = at + page.size();;) {
    at = static_cast<const u8*>(std::memchr(at, 0x0f, static_cast<size_t>(end - at)));
    if (!at || at + 1 == end) return true;
    if (suspicious(at[1]) && meets(page, static_cast<size_t>(at - page.data()))) return false;
    ++at;
  }
}

}  // namespace atl::soft::direct
