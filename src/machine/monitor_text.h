// Text of `info registers`, `info mem`, `info mtree` and the like for the human monitor, in QEMU's layout where one is known.
#pragma once

#include <string>

#include "cpu/state.h"
#include "memory/address_space.h"

namespace atl::machine {

std::string registers_text(u32 index, const cpu::VcpuState& state);
/// Address ranges with equal access rights: "start-end size urw". With paging off: one line that says so.
std::string page_tables_text(const cpu::VcpuState& state, const memory::GuestMemory& memory);
/// Every page with its physical address and the flags of its entry, as `info tlb` has them.
std::string translations_text(const cpu::VcpuState& state, const memory::GuestMemory& memory);
/// Blocks of memory that the guest can reach now, by their first place; and those that it can only read.
std::string ram_blocks_text(const memory::AddressMap& map);
std::string roms_text(const memory::AddressMap& map);
std::string memory_map_text(const memory::AddressMap& map, std::string_view name);

}  // namespace atl::machine
