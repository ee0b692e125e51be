// Monitor text about interrupt controllers, worded as QEMU's `info pic` and `info lapic`; the same for every accelerator.
// And the local APIC's power-on register page.
#pragma once

#include <array>
#include <span>
#include <string>

#include "base/types.h"

namespace atl::cpu {

/// One 8259A.
struct PicRegisters {
  u8 request = 0, mask = 0, service = 0;
  u8 highest_priority = 0;
  u8 vector_base = 0;
  u8 edge_level = 0;
  bool read_service = false;
  bool special_nested = false;
};

struct IoApicRegisters {
  u8 id = 0, select = 0;
  u32 version = 0x20;
  u32 requests = 0;                      // a bit a pin
  std::array<u64, 24> redirection{};
};

using ApicPage = std::array<u8, 1024>;   // as KVM_GET_LAPIC has it

std::string describe_pic(u32 number, const PicRegisters& pic);
std::string describe_io_apic(const IoApicRegisters& io_apic);
std::string describe_local_apic(u32 cpu_index, std::span<const u8, 1024> page);

/// The registers after power-on, with LINT0 of the bootstrap processor in virtual wire mode as firmware would set it.
ApicPage reset_apic_page(u32 id);
/// Whether `page` is no APIC's state (its version register is zero): VcpuState after reset_state() means power-on by it.
bool is_blank_apic_page(std::span<const u8, 1024> page);

}  // namespace atl::cpu
