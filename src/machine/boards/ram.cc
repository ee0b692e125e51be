#include <algorithm>

#include "machine/boards/ram.h"

#include "machine/boards/board.h"

namespace atl::machine {
namespace {

constexpr u64 kLowLimit = 3 * kGiB;        // with more RAM, devices get the fourth GiB
constexpr u64 kPcLowMost = 3584 * kMiB;    // a pc with less than this needs no RAM above 4 GiB
constexpr u64 kQ35LowMost = 2816 * kMiB, kQ35LowLimit = 2 * kGiB;  // the window to configuration space is above
constexpr GuestAddr kVgaWindow = 0xa0000, kVgaWindowEnd = 0xc0000;

memory::Region ram_region(std::string name, const std::shared_ptr<memory::RamBlock>& ram, GuestAddr base, u64 size,
                          u64 offset) {
  memory::Region region;
  region.name = std::move(name);
  region.base = base;
  region.size = size;
  region.ram = ram;
  region.ram_offset = offset;
  return region;
}

}  // namespace

cpu::IrqChip irqchip_of(BoardKind board) {
  return is_pc(board) ? cpu::IrqChip::Full : cpu::IrqChip::ApicOnly;
}

RamLayout ram_layout(BoardKind board, u64 ram_bytes) {
  if (board == BoardKind::Q35) {
    if (ram_bytes < kQ35LowMost) return {ram_bytes, 0};
    return {kQ35LowLimit, ram_bytes - kQ35LowLimit};
  }
  const u64 most = board == BoardKind::Pc ? kPcLowMost : kLowLimit;
  if (ram_bytes < most || ram_bytes <= kLowLimit) return {ram_bytes, 0};
  return {kLowLimit, ram_bytes - kLowLimit};
}

namespace {

/// Direct execution maps the guest's memory in other processes, too.
memory::RamOptions ram_options(const Config& config) {
  using Backing = memory::RamOptions::Backing;
  memory::RamOptions options = config.ram;
  const bool direct = std::ranges::any_of(config.accelerators, [](const AcceleratorChoice& choice) { return choice.translate.direct; });
  if (!direct || (options.backing != Backing::Anonymous && options.backing != Backing::Memfd)) return options;
  options.backing = Backing::Memfd;
  options.shared = true;
  return options;
}

}  // namespace

Status map_ram(const Config& config, memory::AddressSpace& memory) {
  if (config.ram_bytes < kMiB) return Error(ErrorKind::Invalid, "a machine needs at least 1 MiB of memory");
  auto ram = TRY(memory::RamBlock::create("pc.ram", config.ram_bytes, ram_options(config)));
  const RamLayout layout = ram_layout(config.board, config.ram_bytes);
  memory::AddressSpace::Batch batch(memory);
  // The window of the VGA frame buffer is no RAM on a PC.
  TRY(memory.add(ram_region("ram-low", ram, 0, kVgaWindow, 0)));
  TRY(memory.add(ram_region("ram", ram, kVgaWindowEnd, layout.low_bytes - kVgaWindowEnd, kVgaWindowEnd)));
  if (layout.high_bytes == 0) return {};
  TRY(memory.add(ram_region("ram-above-4g", ram, kHighRamBase, layout.high_bytes, layout.low_bytes)));
  return {};
}

}  // namespace atl::machine
