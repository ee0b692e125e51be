// The registers that gdb knows, their order and size, and the target description that tells gdb so (gdb manual, "i386
// Features": core, sse, segments).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cpu/state.h"

namespace atl::control {

/// All registers in gdb's order, as the `g` packet carries them.
std::vector<u8> gdb_registers(const cpu::VcpuState& state);
/// The inverse; false if the size is wrong.
bool set_gdb_registers(cpu::VcpuState& state, std::span<const u8> bytes);
/// One register by gdb's number; empty (false) if there is none.
std::vector<u8> gdb_register(const cpu::VcpuState& state, u64 number);
bool set_gdb_register(cpu::VcpuState& state, u64 number, std::span<const u8> bytes);
/// target.xml
std::string gdb_target_description();

}  // namespace atl::control
