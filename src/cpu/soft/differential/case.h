// One differential case: a user-level instruction or a sequence of them with everything it may read, and what an execution
// of it leaves.
//
// The same addresses hold the same bytes for all executions: two pages of code, and a window of two writable pages and a
// read-only one, with nothing mapped around them.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/types.h"
#include "cpu/spec.h"
#include "cpu/state.h"

namespace atl::soft::differential {

inline constexpr u64 kPage = kPageSize;
inline constexpr u64 kCodePage = 0xa00000;  // the first of
inline constexpr unsigned kCodePages = 2;
inline constexpr u64 kCodeBytes = kCodePages * kPage;
inline constexpr u64 kWindow = 0x800000;
inline constexpr unsigned kWindowPages = 3, kWritablePages = 2;
inline constexpr u64 kWindowBytes = kWindowPages * kPage, kWritableBytes = kWritablePages * kPage;

enum class Mode : u8 { Long, Compatibility };

struct Registers {
  std::array<u64, 16> gpr{};
  u64 rip = 0;
  u64 rflags = cpu::kIF | 2;
  alignas(64) std::array<u8, 2688> xsave{};  // standard format as native/image.h has it, header with all that the host has
};

inline constexpr unsigned kNoFault = 0xff;

struct Outcome {
  Registers registers;
  unsigned vector = kNoFault;
  u32 error = 0;
  u64 address = 0;  // of a page fault
  std::array<u8, kWindowBytes> memory{};
};

struct Case {
  Mode mode = Mode::Long;
  std::vector<u8> bytes;
  std::string text;  // disassembly
  unsigned mnemonic = 0;
  bool repeats = false;  // REP, REPE or REPNE
  bool sequence = false;        // runs until INT3 or a fault
  bool self_modifying = false;  // its code is writable
  bool cold = false;            // nothing is cached, and accessed and dirty bits are clear
  Registers before;
};

}  // namespace atl::soft::differential
