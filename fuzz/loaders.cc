// Kernel images: the input is the file that -kernel names. Whatever it is, it is loaded or refused; memory stays in bounds.
#include <sys/mman.h>
#include <unistd.h>

#include <fmt/core.h>

#include "base/fd.h"
#include "machine/loaders/kernel.h"
#include "memory/address_space.h"

namespace {

using namespace atl;

/// Guest RAM that lives as long as the program.
memory::AddressSpace& guest_ram() {
  static memory::AddressSpace* space = [] {
    auto* made = new memory::AddressSpace("memory", u64{1} << 32);
    memory::Region region;
    region.name = "ram";
    region.size = 16 * kMiB;
    region.ram = MUST(memory::RamBlock::create("ram", region.size, {}));  // a small anonymous mapping
    MUST(made->add(region));                                             // an empty space has room
    return made;
  }();
  return *space;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Fd file(::memfd_create("kernel", MFD_CLOEXEC));
  if (::ftruncate(file.get(), 0) != 0 || ::lseek(file.get(), 0, SEEK_SET) != 0) return 0;
  if (!write_all(file, {data, size})) return 0;
  machine::BootConfig config;
  config.kernel = fmt::format("/proc/self/fd/{}", file.get());
  config.append = "console=ttyS0";
  auto boot = machine::DirectBoot::open(config);
  if (!boot) return 0;
  const auto memory = guest_ram().guest_memory();
  const machine::RamLayout layout = {16 * kMiB, 0};
  (void)boot->load({.memory = *memory, .ram = layout, .map = machine::direct_boot_map(layout), .rsdp = 0xe0000});
  return 0;
}
