#include "machine/loaders/kernel.h"

#include "machine/loaders/elf_image.h"
#include "machine/loaders/linux_image.h"
#include "machine/loaders/multiboot.h"

namespace atl::machine {
namespace {

constexpr u64 kHeadBytes = 8192;  // where a multiboot header may be

}  // namespace

Result<DirectBoot> DirectBoot::open(const BootConfig& config) {
  BootFile kernel = TRY(BootFile::open("kernel", config.kernel));
  std::vector<u8> head = TRY(kernel.head(kHeadBytes));
  DirectBoot boot(std::move(kernel), std::move(head));
  boot.append_ = boot.command_line_ = config.append;
  const bool multiboot = !LinuxHeader::matches(boot.head_) && MultibootHeader::find(boot.head_);
  if (multiboot) boot.modules_ = config.initrd;
  else if (!config.initrd.empty()) boot.initrd_ = TRY(BootFile::open("initrd", config.initrd));
  return boot;
}

void DirectBoot::set_board_arguments(const std::string& arguments) {
  command_line_ = append_;
  if (!arguments.empty()) command_line_.append(append_.empty() ? "" : " ").append(arguments);
}

Result<BootEntry> DirectBoot::load(const BootTarget& target) const {
  if (LinuxHeader::matches(head_)) return load_linux_image(*this, head_, target);
  if (auto header = MultibootHeader::find(head_)) return load_multiboot(*this, *header, target);
  if (ElfImage::matches(head_)) return load_elf_image(*this, target);
  return kernel_.error("not a kernel: neither Linux bzImage nor multiboot nor ELF");
}

}  // namespace atl::machine
