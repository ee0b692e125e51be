// How the bootstrap processor begins when no firmware runs: the register state that each boot protocol promises.
#pragma once

#include "base/result.h"
#include "cpu/state.h"
#include "memory/guest_memory.h"

namespace atl::machine {

struct BootEntry {
  enum class Mode : u8 {
    Reset,        // power-on state: firmware runs
    Protected32,  // flat 32-bit segments, paging off
    Long64,       // flat 64-bit code, the first 4 GiB mapped one to one
  };
  Mode mode = Mode::Reset;
  u64 ip = 0;
  u32 eax = 0, ebx = 0;  // multiboot magic; multiboot or PVH information
  u64 rsi = 0;           // Linux boot parameters
};

/// Low memory that the entry code of a kernel finds in use; free once it runs.
inline constexpr GuestAddr kBootGdt = 0x6000;
inline constexpr GuestAddr kBootStack = 0x6ff0;
inline constexpr GuestAddr kBootInfo = 0x7000;        // zero page, PVH start information or multiboot information
inline constexpr GuestAddr kBootPageTables = 0x9000;  // six pages
inline constexpr GuestAddr kBootCommandLine = 0x20000;
inline constexpr u64 kMaxCommandLineBytes = 0x10000;

/// Writes the descriptor table (and page tables) that `entry` needs and puts `state`, a reset state, at it.
Status enter(const BootEntry& entry, const memory::GuestMemory& memory, cpu::VcpuState& state);

}  // namespace atl::machine
