// Bridges that -device brings: a PCI-to-PCI bridge (PCI-to-PCI Bridge 1.2), a PCI Express root port with one hot-plug slot
// (PCI Express Base 3.0, sections 6.7 and 7.8), and a bridge from PCI Express to PCI.
// Supported: bus numbers, I/O, memory and 64-bit prefetchable windows; of the slot: presence, attention button, power
//   control, command-completed and their interrupt by MSI or INTx.
// Missing: secondary reset, error reporting, power management events, VGA forwarding.
//
// Threads: registers under the bus's lock; the slot's events from the control thread take a mutex of their own.
#pragma once

#include <memory>

#include "base/sync.h"
#include "devices/pci/bus.h"
#include "devices/pci/device.h"

namespace atl::devices {

class PciBridge final : public PciDevice {
 public:
  enum class Kind : u8 { Conventional, RootPort, ExpressToPci };
  struct Options {
    std::string type;             // "pcie-root-port"
    Kind kind = Kind::Conventional;
    u16 slot = 0;                 // number of the slot as the guest shows it, or of a conventional bridge's chassis
    u8 port = 0;                  // number of the link
    bool hotplug = true;
  };
  static Result<std::unique_ptr<PciBridge>> create(cpu::Vm& vm, Options options);

  /// Makes the bus behind it; `parent` is where the bridge will be put.
  PciBus& attach_to(PciBus& parent);
  PciBus* secondary() { return secondary_.get(); }
  PciFunction& function() override { return function_; }
  std::string_view type() const override { return options_.type; }
  bool is_express() const { return options_.kind == Kind::RootPort; }
  bool has_hotplug_slot() const { return options_.kind == Kind::RootPort && options_.hotplug; }
  void reset() override;
  void visit(Archive& archive) override;

  // The slot of a root port. Control thread.
  /// `power_off`: the guest has let go of what is in the slot; vCPU thread, under the bus's lock.
  void on_power_off(std::function<void()> power_off) { power_off_ = std::move(power_off); }
  void set_occupied(bool occupied, bool hotplugged);
  void press_attention_button();

 private:
  PciBridge(Options options, const PciIdentity& identity);
  void add_express();
  void write_slot(u16 offset, unsigned width);
  void raise(u16 events);
  void update_interrupt();
  void power_slot(bool on);

  const Options options_;
  PciFunction function_;
  std::unique_ptr<PciBus> secondary_;
  std::function<void()> power_off_;
  u8 express_ = 0;                 // offset of the capability; 0: none
  Mutex mutex_;                    // a leaf
  bool occupied_ GUARDED_BY(mutex_) = false;
  u16 status_ GUARDED_BY(mutex_) = 0;   // slot status: the events
  u16 control_ GUARDED_BY(mutex_) = 0;  // slot control as of the last write
  bool pending_ GUARDED_BY(mutex_) = false;
};

}  // namespace atl::devices
