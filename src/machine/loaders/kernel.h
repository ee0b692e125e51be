// Direct kernel boot: recognizes what -kernel names and loads it with its command line and initrd.
// Supported: Linux bzImage (64-bit and 32-bit entry), multiboot 1, ELF with a PVH note, plain ELF64 and ELF32.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/config.h"
#include "machine/loaders/boot_entry.h"
#include "machine/loaders/boot_file.h"
#include "machine/loaders/e820.h"
#include "memory/guest_memory.h"

namespace atl::machine {

/// What a loader needs to know of the board.
struct BootTarget {
  const memory::GuestMemory& memory;
  RamLayout ram;
  std::vector<E820Entry> map;
  GuestAddr rsdp = 0;  // 0: no ACPI
};

/// The opened files of a direct boot. They stay open, so that a reset loads the same kernel again.
class DirectBoot {
 public:
  static Result<DirectBoot> open(const BootConfig& config);
  /// What the board adds to the command line, instead of what it added before.
  void set_board_arguments(const std::string& arguments);
  Result<BootEntry> load(const BootTarget& target) const;

  const BootFile& kernel() const { return kernel_; }
  const std::optional<BootFile>& initrd() const { return initrd_; }
  const std::string& command_line() const { return command_line_; }
  const std::string& modules() const { return modules_; }

 private:
  DirectBoot(BootFile kernel, std::vector<u8> head) : kernel_(std::move(kernel)), head_(std::move(head)) {}

  BootFile kernel_;
  std::vector<u8> head_;             // enough of the kernel to recognize it
  std::optional<BootFile> initrd_;   // not for multiboot
  std::string modules_;              // multiboot: "a arg,b arg"
  std::string append_;               // the user's part of the command line
  std::string command_line_;
};

}  // namespace atl::machine
