// The way into translated code and out of it, and from it to the runtime's functions (runtime.h).
//
// The pieces are assembly of the program itself. Translated code reaches them by CALL rel32 or JMP rel32 to a pad of its own
// mapping, which jumps on: the program may lie anywhere.
#pragma once

#include <array>
#include <span>

#include "cpu/soft/core.h"

namespace atl::soft::translate {

/// Runs the code at `code` (a far entry) for the linear address `rip` until it leaves: core.rip is set then, and Core::gpr, cc
/// and ext are up to date. Own thread.
extern "C" void atl_translate_enter(Core* core, const void* code, u64 rip);

/// A pad is an indirect jump through a word behind it.
inline constexpr u32 kPadBytes = 16;
inline constexpr u32 kPadsBytes = kPadBytes * static_cast<u32>(Thunk::kCount);
inline constexpr u32 pad_offset(Thunk thunk) { return kPadBytes * static_cast<u32>(thunk); }
void write_pads(std::span<u8, kPadsBytes> out);

}  // namespace atl::soft::translate
