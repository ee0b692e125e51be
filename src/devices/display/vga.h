// The standard VGA of QEMU's boards: PCI function 1234:1111 with the Bochs VBE extensions.
//   BAR0  screen memory, mapped as RAM       BAR2  registers: 0x400 VGA ports 0x3c0 to 0x3df, 0x500 VBE by number
//   ports 0x1ce, 0x1cf VBE; 0x3b0 to 0x3df VGA       memory 0xa0000 to 0xbffff the legacy window
// QEMU docs/specs/standard-vga.txt. Supported: all of the above, 1 to 256 MiB, EDID at the start of BAR2; as second adapter
// without the legacy places ("secondary-vga"), or with the VBE registers alone ("bochs-display"). Missing: the byte order
// register.
//
// Threads: registers and window from vCPU threads, pictures from the control thread; one mutex.
#pragma once

#include <array>
#include <memory>

#include "base/sync.h"
#include "devices/device.h"
#include "devices/display/vga_memory.h"
#include "devices/display/vga_picture.h"
#include "devices/legacy/byte_ports.h"
#include "devices/pci/device.h"
#include "display/edid.h"
#include "display/screen.h"
#include "memory/guest_memory.h"

namespace atl::devices {

enum class VgaKind : u8 { Primary, Secondary, Bochs };

struct VgaOptions {
  VgaKind kind = VgaKind::Primary;
  u64 memory_bytes = 16 * kMiB;         // a power of two
  u32 width = 1280, height = 800;       // preferred, for EDID
  bool edid = true;
};

class Vga final : public PciDevice, public display::Screen {
 public:
  static constexpr u64 kWindowBase = 0xa0000, kWindowBytes = 0x20000;

  static Result<std::unique_ptr<Vga>> create(const VgaOptions& options);

  std::string_view type() const override { return function_.name(); }
  void reset() override;
  void visit(Archive& archive) override;

  PciFunction& function() override { return function_; }
  /// Screen memory and registers as BARs of a function, its own or that of an adapter that this one is a part of.
  void set_bars(PciFunction& function);
  /// What a primary adapter has besides: ports 0x3b0 to 0x3df, 0x1ce to 0x1d0, and the legacy window.
  memory::BusDevice& ports() { return ports_; }
  memory::BusDevice& vbe_ports() { return vbe_ports_; }
  memory::BusDevice& window() { return window_; }
  static constexpr u16 kFirstPort = 0x3b0, kPorts = 0x30, kFirstVbePort = 0x1ce, kVbePorts = 3;

  void draw(display::Surface& surface) override;
  std::string text() override;

 private:
  struct Ports final : BytePorts {
    explicit Ports(Vga& v) : vga(v) {}
    u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    Vga& vga;
  };
  struct VbePorts final : memory::BusDevice {
    explicit VbePorts(Vga& v) : vga(v) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;
    Vga& vga;
  };
  struct Window final : BytePorts {
    explicit Window(Vga& v) : vga(v) {}
    u8 read_byte(u64 offset) override;
    void write_byte(u64 offset, u8 value) override;
    Vga& vga;
  };
  struct Registers final : memory::BusDevice {
    explicit Registers(Vga& v) : vga(v) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;
    Vga& vga;
  };

  Vga(const VgaOptions& options, std::shared_ptr<memory::RamBlock> ram);
  void write_vbe(u16 index, u16 value) REQUIRES(mutex_);

  const VgaOptions options_;
  const std::shared_ptr<memory::RamBlock> ram_;
  std::array<u8, display::kEdidBytes> edid_{};
  Mutex mutex_;
  VgaRegisters registers_ GUARDED_BY(mutex_);
  VgaMemory memory_ GUARDED_BY(mutex_);
  VgaPicture picture_ GUARDED_BY(mutex_);
  Ports ports_{*this};
  VbePorts vbe_ports_{*this};
  Window window_{*this};
  Registers mmio_{*this};
  PciFunction function_;
};

}  // namespace atl::devices
