// One PCI function: configuration space with its writable bits, base address registers, capabilities, interrupts.
// PCI Local Bus Specification 3.0, chapter 6. Supported: type 0 headers, 32- and 64-bit memory BARs, I/O BARs, vendor
// capabilities, MSI, MSI-X, INTx, expansion ROMs. Missing: power management, extended configuration space.
//
// Threads: built by the control thread. Once it is on a bus, the bus's lock guards everything here but set_intx(), the
// fire functions and bus_master(), which any thread may call.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/archive.h"
#include "base/endian.h"
#include "base/result.h"
#include "base/types.h"
#include "devices/pci/msi.h"
#include "devices/pci/msix.h"
#include "devices/pci/spec.h"
#include "memory/address_space.h"

namespace atl::devices {

class PciBus;

struct PciIdentity {
  u16 vendor = 0, device = 0;
  u8 revision = 0;
  u32 class_code = 0;  // 24 bits: base class, sub-class, interface ("020000" is an Ethernet controller)
  u16 subsystem_vendor = 0, subsystem = 0;
};

struct PciBar {
  enum class Kind : u8 { None, Io, Memory32, Memory64 };
  Kind kind = Kind::None;
  bool prefetchable = false;
  u64 size = 0;                          // a power of two; at least 16 (memory) or 4 (I/O)
  memory::BusDevice* device = nullptr;   // or
  std::shared_ptr<memory::RamBlock> ram;  // memory of the device that the guest reaches directly
  std::vector<memory::IoEvent> events;
};

class PciFunction {
 public:
  /// `name` appears in mtree and in error texts: "virtio-blk-pci".
  PciFunction(std::string name, const PciIdentity& identity);

  // Building, before the function is put on a bus.
  void set_bar(unsigned index, PciBar bar);
  /// Adds a capability of 2 + body.size() bytes; bits set in `writable` (same layout as `body`) are the guest's to change.
  /// The offset of the capability.
  u8 add_capability(u8 id, std::span<const u8> body, std::span<const u8> writable = {});
  /// MSI-X with its table as BAR `bar`.
  Status add_msix(cpu::Vm& vm, unsigned vectors, unsigned bar);
  /// MSI with 1 to 32 vectors, a power of two.
  Status add_msi(cpu::Vm& vm, unsigned vectors);
  /// 1 = INTA#.
  void set_interrupt_pin(u8 pin) { config_[pci::kInterruptPin] = pin; }
  void set_byte(u16 offset, u8 value) { config_[offset] = reset_[offset] = value; }
  void set_writable(u16 offset, u8 mask) { writable_[offset] = mask; }

  /// Called for accesses to [offset, offset + size) of configuration space, after the write or before the read, under the
  /// bus's lock: registers with a life of their own.
  struct Window {
    u16 offset = 0, size = 0;
    std::function<void(u16 offset, unsigned width)> before_read, after_write;
  };
  void set_window(Window window) { window_ = std::move(window); }

  /// An expansion ROM; its size is a power of two, at least 2 KiB.
  void set_rom(std::shared_ptr<memory::RamBlock> rom);

  /// The bus behind this function, which is a bridge. From PciBus.
  void set_secondary(PciBus* bus) { secondary_ = bus; }
  PciBus* secondary() const { return secondary_; }
  /// Makes the header one of a bridge (type 1), without bus numbers and with closed windows.
  void make_bridge();

  // Under the bus's lock.
  /// Whether a bridge's windows let [first, last] through.
  bool forwards(bool io, u64 first, u64 last) const;
  u32 config_read(u16 offset, unsigned width);
  /// True if a BAR moved.
  bool config_write(u16 offset, u32 value, unsigned width);
  /// What the guest wrote in the access that after_write is called for, before masks.
  u32 last_write() const { return last_write_; }
  u8 byte(u16 offset) const { return config_[offset]; }
  u16 word(u16 offset) const { return load_le<u16>(&config_[offset]); }
  u32 dword(u16 offset) const { return load_le<u32>(&config_[offset]); }
  /// Stores without regard to masks (for windows and the firmware pass).
  void poke(u16 offset, u32 value, unsigned width);
  const PciBar& bar(unsigned index) const { return bars_[index]; }
  u64 bar_address(unsigned index) const;
  /// Where the BAR is decoded now: nullopt if not at all.
  std::optional<u64> bar_mapped(unsigned index) const { return mapped_[index].address; }
  void reset();
  void visit(Archive& archive);

  // Any thread.
  /// Whether the guest lets the function access its memory.
  bool bus_master() const { return bus_master_.load(std::memory_order_relaxed); }
  const std::string& name() const { return name_; }
  Msix* msix() { return msix_.get(); }
  bool msix_enabled() const { return msix_ && msix_->enabled(); }
  void fire_msix(unsigned vector) {
    if (msix_) msix_->fire(vector);
  }
  bool msi_enabled() const { return msi_ && msi_->enabled(); }
  void fire_msi(unsigned vector) {
    if (msi_) msi_->fire(vector);
  }
  /// Level of the function's INTx pin; no effect while the command register disables it.
  void set_intx(bool level);

 private:
  friend class PciBus;
  static constexpr unsigned kRom = pci::kBars;  // the expansion ROM is one window more
  struct Mapped {
    std::optional<u64> address;
    memory::RegionId region = 0;
  };

  /// Maps the BARs where the registers say. True if a mapping changed.
  bool refresh_mappings();
  std::optional<u64> wanted_address(unsigned index) const;
  memory::AddressSpace& space_of(const PciBar& bar) const;
  void map(unsigned index, std::optional<u64> address);
  void refresh_msix();
  void refresh_command();
  void refresh_msi();
  void attach(PciBus& bus, u8 slot, u8 function);
  void detach();

  const std::string name_;
  std::array<u8, pci::kConfigBytes> config_{}, writable_{}, clearable_{}, reset_{};
  std::array<PciBar, pci::kBars + 1> bars_;
  std::array<Mapped, pci::kBars + 1> mapped_;
  u8 next_capability_ = pci::kFirstCapability;
  u8 last_capability_ = 0;
  std::unique_ptr<Msix> msix_;
  u8 msix_capability_ = 0;
  std::unique_ptr<Msi> msi_;
  u8 msi_capability_ = 0;
  Window window_;
  u32 last_write_ = 0;
  PciBus* bus_ = nullptr;
  PciBus* secondary_ = nullptr;
  std::atomic<bool> bus_master_ = false;
  u8 slot_ = 0, number_ = 0;
  bool intx_level_ = false, intx_disabled_ = false, intx_asserted_ = false;  // guarded by the bus's interrupt lock
};

}  // namespace atl::devices
