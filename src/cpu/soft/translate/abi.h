// What translated code may rely on, and what the runtime around it may: registers, memory, entries and exits.
//
// Registers. While translated code runs, RSP holds the Core: its fields are [rsp + offset], and below it lies the stack of
// the runtime's functions. Guest registers live where the tables below say; r13, r14 and r15 of the guest stay in Core::gpr.
// RBP and R15 are scratch, RBP because an operand AH, BH, CH or DH allows no REX prefix. A 32-bit guest's registers are
// zero-extended.
//
// Flags. Arithmetic flags of the guest are the host's own between guest instructions, unless an address check has come in
// between; DF is always clear on the host, the guest's is in Core::other_flags. At every entry from outside and at every jump
// out, Core::cc holds the flags.
//
// RIP. Code is position-independent: it knows its place in the page, Core::page_rip the page's linear address. Code of two
// linear addresses with one physical page is the same code.
//
// Vectors. Core::vectors_live tells whether XMM, YMM or all vector and opmask registers, and MXCSR, are the guest's own at the moment;
// if not, they are in
// Core::ext. Functions of the runtime are entered through thunks that save them and clear the flag.
//
// Memory. The inline check compares with a tag of Tlb's entry by XOR (mmu/tlb.h); what does not hit calls a miss thunk.
//
// Control flow. Jumps inside a page are direct. All others look up Core::jump_cache by linear address, in the table of the
// code's own mode, so that no code is reached that was made for another privilege.
#pragma once

#include <array>

#include "base/types.h"
#include "cpu/spec.h"

namespace atl::soft::translate {

/// Host register numbers as instructions encode them.
enum HostReg : u8 { kHostRax, kHostRcx, kHostRdx, kHostRbx, kHostRsp, kHostRbp, kHostRsi, kHostRdi, kHostR8, kHostR9,
                    kHostR10, kHostR11, kHostR12, kHostR13, kHostR14, kHostR15 };

inline constexpr HostReg kCoreReg = kHostRsp;
inline constexpr HostReg kScratch0 = kHostRbp;   // addresses: linear, then host
inline constexpr HostReg kScratch1 = kHostR15;
inline constexpr u8 kInMemory = 0xff;

/// Where a guest register lives: a HostReg, or kInMemory for Core::gpr.
inline constexpr std::array<u8, 16> kHostOf = {
    kHostRax, kHostRcx, kHostRdx, kHostRbx, kHostR13 /* RSP */, kHostR14 /* RBP */, kHostRsi, kHostRdi,
    kHostR8,  kHostR9,  kHostR10, kHostR11, kHostR12, kInMemory, kInMemory, kInMemory};

/// What translated code depends on besides its bytes: bits 1:0 code size (CodeSize), bits 3:2 the TLB set of its data
/// accesses (TlbSet; it implies the privilege). Only flat segments are translated: 64-bit code, or 32-bit code whose CS, DS,
/// ES and SS have base 0 and limit 4 GiB (FS and GS may have any base, and in 32-bit code must be checked: such accesses are
/// left to the interpreter there unless their limit is 4 GiB, which the runtime tells by kModeFlatFsGs).
using Mode = u8;
inline constexpr Mode kModeSetShift = 2;
inline constexpr Mode kModeFlatFsGs = 1 << 4;
inline constexpr unsigned kModes = 32;
inline constexpr Mode kNoMode = 0xff;  // not translated

/// The fixed pieces of code around translated code, made by thunks.cc. Those that are called are reached by CALL rel32 and
/// find their Site by the return address; those that are jumped to never come back.
enum class Thunk : u8 {
  Lookup,        // jumped to. RBP = linear RIP to go to, flags in Core::cc: goes on there, translated or not
  MissRead,      // called. RBP = linear address, flags in Core::cc (or nobody's: see Site::host_flags). Fills the TLB and
  MissWrite,     //   goes to Site::retry, or runs the instruction by the interpreter and goes to Site::resume or leaves
  CallOut,       // called. Runs the Site's instruction by the interpreter, then goes to Site::resume (flags in the host's
                 //   and in Core::cc) or, if RIP, mode or attention want it, elsewhere
  Single,        // called. Decodes the instruction at the Site's offset, runs it by the interpreter and goes on at RIP
  LoadVectors,   // called. Makes vectors live; keeps all registers; the host's flags are lost. While CR0.TS or the like forbid
                 //   vector instructions, goes on as CallOut: it needs a Site
  LoadWide,      // the same for all that AVX-512 has
  kCount,
};

/// One jump cache entry: Core::jump_cache[mode][jump_index(rip)].
struct JumpEntry {
  u64 rip;                     // linear; in an empty entry one that has another index
  const void* code;            // far entry: RBP = linear RIP, flags in Core::cc
};
inline constexpr unsigned kJumpBits = 13;
inline constexpr unsigned kJumpEntries = 1u << kJumpBits;
using JumpTable = JumpEntry[kJumpEntries];
/// Which entries of a table are in use, as long as they are few; else `count` is one more than there are places. So a
/// flush, of which every task switch makes one, costs what has run since the last.
struct JumpList {
  u32 count = 0;
  std::array<u16, 1023> places;
};
inline constexpr u32 jump_index(u64 rip) { return static_cast<u32>(rip ^ rip >> kJumpBits) & (kJumpEntries - 1); }
/// What an empty entry holds: an address that has another index.
inline constexpr u64 empty_rip(u32 index) { return index == 0 ? 1 : 0; }

}  // namespace atl::soft::translate
