// Address assignment as firmware does it before an operating system starts: largest BARs first, each at a multiple of
// its size. PCI 3.0 section 6.2.5; PCI Firmware Specification 3.0.
#include <algorithm>
#include <vector>

#include <fmt/core.h>

#include "base/math.h"
#include "devices/pci/bus.h"

namespace atl::devices {

using namespace pci;

namespace {

struct Wish {
  PciFunction* function;
  unsigned bar;
  u64 size;
  size_t number;  // keeps equal sizes in the order of slots
};

/// Hands out a window from its start.
class Window {
 public:
  Window(u64 base, u64 size) : next_(base), end_(base + size) {}
  bool empty() const { return next_ >= end_; }
  std::optional<u64> take(u64 size) {
    u64 at = align_up(next_, size);
    if (at < next_ || !range_fits(at, size, end_)) return std::nullopt;
    next_ = at + size;
    return at;
  }

 private:
  u64 next_, end_;
};

std::vector<Wish> collect(const auto& functions) {
  std::vector<Wish> wishes;
  for (const auto& slot : functions)
    for (PciFunction* function : slot)
      for (unsigned bar = 0; function && bar < kBars; ++bar)
        if (function->bar(bar).kind != PciBar::Kind::None)
          wishes.push_back({function, bar, function->bar(bar).size, wishes.size()});
  std::ranges::sort(wishes, [](const Wish& a, const Wish& b) {
    return a.size != b.size ? a.size > b.size : a.number < b.number;
  });
  return wishes;
}

void store(const Wish& wish, u64 address) {
  const PciBar& bar = wish.function->bar(wish.bar);
  u16 at = static_cast<u16>(kBar0 + 4 * wish.bar);
  wish.function->config_write(at, static_cast<u32>(address), 4);
  if (bar.kind == PciBar::Kind::Memory64)
    wish.function->config_write(static_cast<u16>(at + 4), static_cast<u32>(address >> 32), 4);
}

u16 decode_bits(const PciFunction& function) {
  u16 command = 0;
  for (unsigned bar = 0; bar < kBars; ++bar) {
    PciBar::Kind kind = function.bar(bar).kind;
    if (kind != PciBar::Kind::None) command |= kind == PciBar::Kind::Io ? kCommandIo : kCommandMemory;
  }
  return command;
}

}  // namespace

Status PciBus::assign_resources(const PciWindows& windows) {
  Lock lock(mutex_);
  Window io(windows.io_base, windows.io_size);
  Window low(windows.memory_base, windows.memory_size), high(windows.memory64_base, windows.memory64_size);
  for (auto& slot : functions_)
    for (PciFunction* function : slot)
      if (function) function->config_write(kCommand, 0, 2);
  for (const Wish& wish : collect(functions_)) {
    const PciBar& bar = wish.function->bar(wish.bar);
    Window& window = bar.kind == PciBar::Kind::Io                           ? io
                     : bar.kind == PciBar::Kind::Memory64 && !high.empty() ? high
                                                                            : low;
    auto address = window.take(bar.size);
    if (!address)
      return Error(ErrorKind::NoSpace, fmt::format("{}: no address space left for BAR {} of {} bytes",
                                                   wish.function->name(), wish.bar, bar.size));
    store(wish, *address);
  }
  for (u8 slot = 0; slot < kSlots; ++slot) {
    for (PciFunction* function : functions_[slot]) {
      if (!function) continue;
      if (u8 pin = function->byte(kInterruptPin)) function->poke(kInterruptLine, gsi_of(slot, pin), 1);
      function->config_write(kCommand, decode_bits(*function), 2);
    }
  }
  return {};
}

}  // namespace atl::devices
