// Bytes that look like one of the instructions are common; whether one begins there is found out by decoding towards it from sixteen
// places before it. Nearly all such chains fall into step with the true stream after a few instructions.
#include "cpu/soft/direct/scan.h"

#include <Zydis/Zydis.h>
#include <cpuid.h>

#include <algorithm>
#include <cstring>

#include "base/endian.h"

namespace atl::soft::direct {
namespace {

bool suspicious(u8 second) {
  constexpr u8 kSecond[] = {0x01, 0x02, 0x03, 0x34, 0xa2, 0xae, 0xc7};
  return std::ranges::find(kSecond, second) != std::end(kSecond);
}

bool host_has_transactions() {
  static const bool has = [] {
    u32 a = 0, b = 0, c = 0, d = 0;
    __cpuid_count(7, 0, a, b, c, d);
    return (b & 1u << 11) != 0;
  }();
  return has;
}

/// SLDT, STR, VERR and VERW are not: nobody uses them, and their bytes are common. XSAVE and XRSTOR are because the components of AVX-512 stand where Intel has them, for the guest.
bool refused(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_CPUID: case ZYDIS_MNEMONIC_XGETBV: case ZYDIS_MNEMONIC_RDPID: case ZYDIS_MNEMONIC_RDPRU:
    case ZYDIS_MNEMONIC_SGDT: case ZYDIS_MNEMONIC_SIDT: case ZYDIS_MNEMONIC_SMSW: case ZYDIS_MNEMONIC_LAR: case ZYDIS_MNEMONIC_LSL:
    case ZYDIS_MNEMONIC_RDPKRU: case ZYDIS_MNEMONIC_WRPKRU: case ZYDIS_MNEMONIC_SYSENTER:
    case ZYDIS_MNEMONIC_MONITORX: case ZYDIS_MNEMONIC_MWAITX: case ZYDIS_MNEMONIC_UMONITOR: case ZYDIS_MNEMONIC_UMWAIT:
    case ZYDIS_MNEMONIC_TPAUSE: case ZYDIS_MNEMONIC_XSAVE: case ZYDIS_MNEMONIC_XSAVE64: case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64: case ZYDIS_MNEMONIC_XSAVEC: case ZYDIS_MNEMONIC_XSAVEC64: case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
      return true;
    case ZYDIS_MNEMONIC_XBEGIN: case ZYDIS_MNEMONIC_XEND: case ZYDIS_MNEMONIC_XTEST: case ZYDIS_MNEMONIC_XABORT:
      return host_has_transactions();  // else undefined there, too
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

/// Chains vote: a few of sixteen may not have fallen into step yet. Where the page begins too close before, there is nobody to ask.
bool meets(std::span<const u8> page, size_t opcode) {
  constexpr size_t kFarthest = 160, kChains = 16, kMajority = 12, kFewest = 32;
  const bool prefixed = opcode > 0 && (page[opcode - 1] & 0xfc) == 0xf0;
  if (!leads_to(page, opcode, opcode) && !(prefixed && leads_to(page, opcode - 1, opcode))) return false;
  if (opcode < kFewest) return page[opcode + 1] == 0xa2 || page[opcode + 1] == 0x01 || page[opcode + 1] == 0xc7;
  const size_t first = opcode < kFarthest ? 0 : opcode - kFarthest;
  size_t votes = 0;
  for (size_t start = first; start < first + kChains; ++start) votes += leads_to(page, start, opcode);
  return votes >= kMajority;
}

u64 hash(std::span<const u8> page) {
  u64 a = 1, b = 2;
  for (size_t i = 0; i + 16 <= page.size(); i += 16) {
    a = (a ^ load_le<u64>(&page[i])) * 0x9e3779b97f4a7c15;
    b = (b ^ load_le<u64>(&page[i + 8])) * 0xd6e8feb86659fd93;
    a ^= a >> 29;
    b ^= b >> 31;
  }
  return a ^ (b << 1 | b >> 63);
}

}  // namespace

bool Verdicts::fit(std::span<const u8> page) {
  if (known_.size() >= kMost) known_.clear();
  auto [at, is_new] = known_.try_emplace(hash(page), false);
  if (is_new) at->second = fit_for_host(page);
  return at->second;
}

bool fit_for_host(std::span<const u8> page) {
  for (const u8* at = page.data(), *end = at + page.size();;) {
    at = static_cast<const u8*>(std::memchr(at, 0x0f, static_cast<size_t>(end - at)));
    if (!at || at + 1 == end) return true;
    if (suspicious(at[1]) && meets(page, static_cast<size_t>(at - page.data()))) return false;
    ++at;
  }
}

}  // namespace atl::soft::direct
