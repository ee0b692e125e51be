// Text of `info registers`, `info mem` and `info mtree` for the human monitor, in QEMU's layout where one is known.
#pragma once

#include <string>

#include "cpu/state.h"
#include "memory/address_space.h"

namespace atl::machine {

std::string registers_text(u32 index, const cpu::VcpuState& state);
/// Address ranges with equal access rights: "start-end size urw". With paging off: one line that says so.
std::string page_tables_text(const cpu::VcpuState& state, const memory::GuestMemory& memory);
std::string memory_map_text(const memory::AddressMap& map, std::string_view name);

}  // namespace atl::machine
