// PCI buses: the root behind the type 1 configuration ports 0xcf8 and 0xcfc (PCI 3.0 section 3.2.2.3.2), and those behind
// bridges (PCI-to-PCI Bridge 1.2), which answer to the number and the windows that the guest gives their bridge.
//
// Threads: vCPU threads access configuration space; the control thread adds, removes and looks. One lock serializes them
// all buses; it is held while BARs are mapped into the address spaces, which call nothing above them. Interrupt pins have a
// lock of their own, so that I/O loops never wait for configuration.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/archive.h"
#include "base/result.h"
#include "base/sync.h"
#include "cpu/vm.h"
#include "devices/pci/function.h"
#include "devices/pci/info.h"
#include "memory/address_space.h"

namespace atl::devices {

struct PciAddress {
  u8 slot = 0;
  u8 function = 0;
  bool operator==(const PciAddress&) const = default;
};

/// What BARs may be given: guest physical stretches that nothing else uses.
struct PciWindows {
  u64 memory_base = 0, memory_size = 0;      // below 4 GiB
  u64 memory64_base = 0, memory64_size = 0;  // 0: 64-bit BARs go below 4 GiB too
  u16 io_base = 0xc000, io_size = 0x3000;
};

class PciBus final : public memory::BusDevice {
 public:
  struct Wiring {
    memory::AddressSpace& memory;
    memory::AddressSpace& ports;
    /// Level of a GSI; called with the interrupt lock held, so it must be a leaf (IrqLine::set).
    std::function<void(u32 gsi, bool level)> set_gsi;
    /// A write to the reset control register 0xcf9 asks for a machine reset. On a vCPU thread; must not wait.
    std::function<void()> request_reset;
    /// PIRQ A to H (0 to 7) of a slot's pin: 1 = INTA#.
    unsigned (*pirq_of)(u8 slot, u8 pin) = &PciBus::pirq_of;
    /// GSIs that PIRQs have besides the routed one: PIRQ n drives `direct_gsi` + n. 0: none.
    u32 direct_gsi = 0;
  };

  /// Claims ports 0xcf8 to 0xcff.
  static Result<std::unique_ptr<PciBus>> create(Wiring wiring);
  /// The bus behind `bridge`, a function with a type 1 header that is, or will be, on `parent`. It ends before `parent`.
  static std::unique_ptr<PciBus> create_behind(PciBus& parent, PciFunction& bridge);
  ~PciBus() override;

  /// Puts a function on the bus; `function` must stay until remove(). Works while the guest runs: its BARs are unassigned
  /// and the guest assigns them. Fails if the place is taken.
  Status add(PciAddress at, PciFunction& function);
  /// Takes a function (or, with all of its functions, a slot) off the bus and unmaps its BARs. With the vCPUs stopped.
  void remove(PciAddress at);
  /// The lowest free slot at or after `first`.
  std::optional<u8> free_slot(u8 first = 1) const;
  /// Bit n: slot n holds something.
  u32 occupied_slots() const;
  PciFunction* find(PciAddress at) const;

  /// What firmware does before it starts a system: gives every BAR an address, sets interrupt lines and the decode bits.
  /// The error names the function that did not fit.
  Status assign_resources(const PciWindows& windows);

  /// GSI of a slot's interrupt pin (1 = INTA#) as the PIRQ routing stands now.
  u32 gsi_of(u8 slot, u8 pin) const;
  /// Which GSI PIRQ A to H (0 to 7) drives; 0xff: none. From the ISA bridge's PIRQRC registers.
  void set_pirq_route(unsigned pirq, u8 gsi);
  /// PIRQ of a slot's pin: pins rotate by slot, as the PIIX boards wire them.
  static unsigned pirq_of(u8 slot, u8 pin) { return (slot + pin + 2u) & 3; }

  /// Configuration space by number, as the ports see it: all ones where nobody is.
  u32 config_read(PciAddress at, u16 offset, unsigned width);
  void config_write(PciAddress at, u16 offset, u32 value, unsigned width);

  /// The same through a flat window of 1 MiB a bus, 4 KiB a function (PCI Express 3.0, section 7.2.2).
  u32 window_read(u64 offset, unsigned width);
  void window_write(u64 offset, u32 value, unsigned width);

  void reset();
  void visit(Archive& archive);
  /// By slot and function.
  std::vector<PciFunctionInfo> functions() const;

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;

 private:
  friend class PciFunction;
  struct Assigner;
  struct Locks {
    Mutex config, intx;
  };
  PciBus(Wiring wiring, PciBus* parent, PciFunction* bridge);

  /// The function that the latch at 0xcf8 names, or nullptr.
  u16 register_at(u64 offset) const REQUIRES(mutex_);
  PciFunction* selected() const REQUIRES(mutex_);
  /// Where a function answers that the guest calls by bus number, slot and function.
  PciFunction* route(u8 bus, unsigned slot, unsigned function) const REQUIRES(mutex_);
  PciFunction* window_function(u64 offset) const REQUIRES(mutex_);
  void write_function(PciFunction& function, u16 offset, u32 value, unsigned width) REQUIRES(mutex_);
  void refresh_all() REQUIRES(mutex_);
  std::vector<PciFunctionInfo> functions_locked() const REQUIRES(mutex_);
  /// Whether the bridges above let accesses to [first, last] through.
  bool is_reachable(bool io, u64 first, u64 last) const;
  void write_reset_control(u8 value);
  /// Changes what a function says about its pin. Takes the interrupt lock.
  void update_intx(PciFunction& function, std::optional<bool> level, std::optional<bool> disabled);
  bool intx_level(const PciFunction& function) const;
  std::optional<unsigned> pirq_of_function(const PciFunction& function, u8 pin);
  void add_pirq(unsigned pirq, int delta) REQUIRES(intx_mutex_);
  void drive_gsi(u8 gsi) REQUIRES(intx_mutex_);

  Wiring wiring_;
  PciBus& root_;
  PciFunction* const bridge_;  // nullptr: the root
  const std::shared_ptr<Locks> locks_;
  memory::RegionId ports_region_ = 0;
  Mutex& mutex_;
  std::array<std::array<PciFunction*, pci::kFunctions>, pci::kSlots> functions_ GUARDED_BY(mutex_){};
  u32 address_ GUARDED_BY(mutex_) = 0;  // the latch at 0xcf8
  u8 reset_control_ GUARDED_BY(mutex_) = 0;
  Mutex& intx_mutex_;
  // Of the root.
  std::array<u8, 8> pirq_route_ GUARDED_BY(intx_mutex_) = {10, 10, 11, 11, 10, 10, 11, 11};
  std::array<int, 8> pirq_level_ GUARDED_BY(intx_mutex_){};  // functions that assert it
};

}  // namespace atl::devices
