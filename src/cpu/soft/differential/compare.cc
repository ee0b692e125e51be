#include "cpu/soft/differential/compare.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "cpu/soft/native/image.h"

namespace atl::soft::differential {
namespace {

constexpr const char* kGprNames[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr u64 kComparedFlags = cpu::kArithmeticFlags | cpu::kDF | cpu::kID;
constexpr u32 kPfPresent = cpu::kPfP, kPfFetch = cpu::kPfI;

/// Flags that the manual leaves undefined where the host's processor cannot be made to compute them: decimal adjustment
/// does not exist in 64-bit mode.
u64 undefined_flags(const Case& c) {
  switch (c.mnemonic) {
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS: return cpu::kOF;
    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAS: return cpu::kOF | cpu::kSF | cpu::kZF | cpu::kPF;
    case ZYDIS_MNEMONIC_AAM:
    case ZYDIS_MNEMONIC_AAD: return cpu::kOF | cpu::kAF | cpu::kCF;
    default: return 0;
  }
}

struct Report {
  const Names& names;
  std::vector<std::string> lines;
  void value(std::string_view name, u64 before, u64 native, u64 soft) {
    if (native != soft) lines.push_back(fmt::format("{}: {:#x} before, {:#x} {}, {:#x} {}", name, before, native, names.first, soft, names.second));
  }
};

/// A branch to where nothing can be fetched has completed; the fault is the next instruction's.
void forgive_fetch(Outcome& out, u64 start) {
  bool fetch = out.vector == cpu::kPFault && (out.error & kPfFetch) && out.registers.rip == out.address && out.address != start;
  if (fetch) out.vector = kNoFault, out.error = 0, out.address = 0;
}

/// Instructions of several accesses, whose order is the processor's own affair: where in the page they fault may differ.
bool address_is_vague(const Case& c) {
  return c.mnemonic == ZYDIS_MNEMONIC_FLDENV || c.mnemonic == ZYDIS_MNEMONIC_FRSTOR || c.mnemonic == ZYDIS_MNEMONIC_FBLD;
}

bool is_masked_store(const Case& c) {
  return c.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU || c.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU || c.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
}

bool compares_strings(const Case& c) {
  return c.mnemonic == ZYDIS_MNEMONIC_CMPSB || c.mnemonic == ZYDIS_MNEMONIC_CMPSW || c.mnemonic == ZYDIS_MNEMONIC_CMPSD ||
         c.mnemonic == ZYDIS_MNEMONIC_CMPSQ;
}

/// AMD's MXCSR.MM (CPUID misalignsse), which the software CPU does not offer and so refuses to set.
bool sets_misaligned_mask(const Outcome& native) {
  return load_le<u32>(native.registers.xsave.data() + image::kMxcsr) >> 17 & 1;
}

/// Two reasons to fault, or a fault that the manual leaves to the processor.
bool fault_is_vague(const Case& c, const Outcome& native, const Outcome& soft) {
  constexpr u64 kLastPage = 0x00007ffffffff000;
  if (soft.vector == cpu::kGP && sets_misaligned_mask(native)) return true;
  if (native.vector == kNoFault) return false;
  // CALL to a bad address with a bad stack; a comparison of two bad strings.
  if (c.mnemonic == ZYDIS_MNEMONIC_CALL && soft.vector == cpu::kGP) return true;
  if (compares_strings(c) && soft.vector != kNoFault) return true;
  // Whether bytes that are not to be stored can fault (SDM vol. 2, MASKMOVDQU).
  if (is_masked_store(c)) return true;
  // Operands in pieces across the end of the lower half: the first piece is not mapped, the second not canonical.
  bool across = native.vector == cpu::kPFault && native.address >= kLastPage && native.address >> 63 == 0;
  return across && (soft.vector == cpu::kGP || soft.vector == cpu::kSSFault);
}

/// POPA that faults half way leaves registers as far as it came, or as they were.
bool registers_are_vague(const Case& c, const Outcome& native) {
  return (c.mnemonic == ZYDIS_MNEMONIC_POPA || c.mnemonic == ZYDIS_MNEMONIC_POPAD) && native.vector != kNoFault;
}

/// The host's kernel reports every address beyond a process's as present, so as not to tell what is.
u32 comparable_error(const Outcome& out) {
  constexpr u64 kTaskSize = 0x00007ffffffff000;
  return out.vector == cpu::kPFault && out.address >= kTaskSize ? out.error | kPfPresent : out.error;
}

std::string hex(const u8* bytes, unsigned size) {
  std::string text;
  for (unsigned i = size; i-- > 0;) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

void compare_bytes(Report& report, std::string_view name, const u8* before, const u8* native, const u8* soft, unsigned size) {
  if (std::memcmp(native, soft, size) == 0) return;
  report.lines.push_back(fmt::format("{}: {} before, {} {}, {} {}", name, hex(before, size), hex(native, size), report.names.first,
                                     hex(soft, size), report.names.second));
}

void compare_general(Report& report, const Case& c, const Registers& native, const Registers& soft) {
  bool wide = c.mode == Mode::Long;
  u64 mask = wide ? ~u64{0} : 0xffffffff;
  for (unsigned i = 0; i < (wide ? 16 : 8); ++i) report.value(kGprNames[i], c.before.gpr[i], native.gpr[i] & mask, soft.gpr[i] & mask);
  report.value("rip", c.before.rip, native.rip, soft.rip);
  u64 flags = kComparedFlags & ~undefined_flags(c);
  report.value("rflags", c.before.rflags, native.rflags & flags, soft.rflags & flags);
}

void compare_wide(Report& report, const u8* b, const u8* n, const u8* s) {
  if (std::equal(n + image::kOpmask, n + image::kEnd, s + image::kOpmask)) return;
  for (unsigned i = 0; i < 8; ++i) {
    unsigned at = image::kOpmask + 8 * i;
    report.value(fmt::format("k{}", i), load_le<u64>(b + at), load_le<u64>(n + at), load_le<u64>(s + at));
  }
  for (unsigned i = 0; i < 16; ++i) {
    unsigned high = image::kZmmHigh + 32 * i, all = image::kZmm16 + 64 * i;
    compare_bytes(report, fmt::format("zmm{} high", i), b + high, n + high, s + high, 32);
    compare_bytes(report, fmt::format("zmm{}", i + 16), b + all, n + all, s + all, 64);
  }
}

void compare_extended(Report& report, const Registers& before, const Registers& native, const Registers& soft) {
  const u8 *b = before.xsave.data(), *n = native.xsave.data(), *s = soft.xsave.data();
  auto word = [](const u8* image, unsigned at) { return load_le<u16>(image + at); };
  report.value("fcw", word(b, image::kFcw), word(n, image::kFcw), word(s, image::kFcw));
  report.value("fsw", word(b, image::kFsw), word(n, image::kFsw), word(s, image::kFsw));
  report.value("ftw", b[image::kFtw], n[image::kFtw], s[image::kFtw]);
  report.value("mxcsr", load_le<u32>(b + image::kMxcsr), load_le<u32>(n + image::kMxcsr), load_le<u32>(s + image::kMxcsr));
  for (unsigned i = 0; i < 8; ++i) {
    unsigned at = image::kSt + 16 * i;
    compare_bytes(report, fmt::format("st{}", i), b + at, n + at, s + at, 10);
  }
  for (unsigned i = 0; i < 16; ++i) {
    unsigned low = image::kXmm + 16 * i, high = image::kYmmHigh + 16 * i;
    compare_bytes(report, fmt::format("xmm{}", i), b + low, n + low, s + low, 16);
    compare_bytes(report, fmt::format("ymm{} high", i), b + high, n + high, s + high, 16);
  }
  compare_wide(report, b, n, s);
}

void compare_memory(Report& report, const Outcome& native, const Outcome& soft) {
  auto [n, s] = std::ranges::mismatch(native.memory, soft.memory);
  if (n == native.memory.end()) return;
  u64 at = kWindow + static_cast<u64>(n - native.memory.begin());
  report.lines.push_back(fmt::format("memory at {:#x}: {:#x} {}, {:#x} {}", at, *n, report.names.first, *s, report.names.second));
}

void compare_faults(Report& report, const Case& c, const Outcome& native, const Outcome& soft) {
  report.value("exception", kNoFault, native.vector, soft.vector);
  if (native.vector != soft.vector) return;
  report.value("error code", 0, comparable_error(native), comparable_error(soft));
  u64 mask = address_is_vague(c) ? ~(kPageSize - 1) : ~u64{0};
  report.value("fault address", 0, native.address & mask, soft.address & mask);
}

}  // namespace

std::vector<std::string> differences(const Case& c, const Outcome& native, const Outcome& soft, const Names& names) {
  Report report{.names = names, .lines = {}};
  Outcome n = native, s = soft;
  forgive_fetch(n, c.before.rip);
  forgive_fetch(s, c.before.rip);
  if (fault_is_vague(c, n, s)) return {};
  compare_faults(report, c, n, s);
  if (!registers_are_vague(c, n)) compare_general(report, c, n.registers, s.registers);
  compare_extended(report, c.before, n.registers, s.registers);
  compare_memory(report, n, s);
  return report.lines;
}

std::string describe(const Case& c) {
  std::string bytes;
  for (u8 byte : c.bytes) bytes += fmt::format("{:02x} ", byte);
  return fmt::format("{}{} at {:#x}: {}", bytes, c.mode == Mode::Long ? "(64-bit)" : "(32-bit)", c.before.rip, c.text);
}

}  // namespace atl::soft::differential
