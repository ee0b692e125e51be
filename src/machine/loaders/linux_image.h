// Linux bzImage: the Linux/x86 boot protocol (Documentation/arch/x86/boot.rst), versions 2.00 to 2.15.
// Supported: the 64-bit entry point (2.12 and later, identity page tables) and the 32-bit one; initrd; command line;
//   e820 map; the RSDP's address. Missing: zImage (loaded low), setup_data, EFI handover.
#pragma once

#include "machine/loaders/kernel.h"

namespace atl::machine {

/// The fields of the setup header that a loader decides on.
struct LinuxHeader {
  static bool matches(std::span<const u8> head);
  static Result<LinuxHeader> parse(const BootFile& file, std::span<const u8> head);

  u16 version = 0;
  u64 setup_bytes = 0;         // boot sector and real-mode code: the protected-mode kernel follows
  u64 load_address = 0x100000;
  u64 initrd_limit = 0;        // first address that the initrd may not reach
  u64 command_line_limit = 0;  // bytes, without the terminating zero
  u64 runtime_end = 0;         // first address after what the kernel needs before it looks at the memory map
  bool entry64 = false;
  std::vector<u8> raw;         // offset 0x1f1 and on, to be copied into the zero page
};

Result<BootEntry> load_linux_image(const DirectBoot& boot, std::span<const u8> head, const BootTarget& target);

/// Loads the initrd as high as it may lie, above `floor`; gives its address. Also used for ELF kernels.
Result<GuestAddr> place_initrd(const BootFile& initrd, const BootTarget& target, u64 limit, u64 floor);
/// Writes the zero page (struct boot_params) at kBootInfo, the command line at kBootCommandLine.
struct ZeroPage {
  std::span<const u8> setup_header;  // from offset 0x1f1; empty for an ELF kernel
  GuestAddr initrd = 0;
  u64 initrd_bytes = 0;
};
Status write_zero_page(const BootTarget& target, const ZeroPage& page);
Status write_command_line(const DirectBoot& boot, const BootTarget& target, u64 limit);

}  // namespace atl::machine
