// The AHCI controller of the ICH9, 8086:2922: Serial ATA AHCI 1.3.1, six ports, native mode only. Also a card ("ahci").
//
// Supported: what AhciPort does, INTx, MSI with one vector. Missing: staggered spin-up, command completion coalescing, legacy IDE mode.
//
// Threads: as AhciPort; the global registers are under a mutex of their own.
#pragma once

#include <array>

#include "devices/pci/device.h"
#include "devices/storage/ahci_port.h"

namespace atl::devices {

class Ahci final : public PciDevice, public AtaHost {
 public:
  static constexpr unsigned kPorts = 6;

  /// `type` is "ich9-ahci" or "ahci".
  static Result<std::unique_ptr<Ahci>> create(std::string type, cpu::Vm& vm, Loop& loop, memory::AddressSpace& memory);

  PciFunction& function() override { return function_; }
  std::string_view type() const override { return type_; }
  void reset() override;
  void visit(Archive& archive) override;
  void quiesce(std::function<void()> done) override;
  void resume() override;

  unsigned ata_ports() const override { return kPorts; }
  unsigned ata_units() const override { return 1; }
  AtaDevice* ata_device(unsigned port, unsigned) override { return ports_[port]->device(); }
  void attach_ata(unsigned port, unsigned, std::unique_ptr<AtaDevice> device) override { ports_[port]->attach(std::move(device)); }

 private:
  Ahci(std::string type, Loop& loop, memory::AddressSpace& memory);

  /// BAR 5.
  class Registers final : public memory::BusDevice {
   public:
    explicit Registers(Ahci& owner) : owner_(owner) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;

   private:
    Ahci& owner_;
  };

  u32 read(u32 offset);
  void write(u32 offset, u32 value);
  void update_interrupt();
  std::vector<DiskIo*> media();

  const std::string type_;
  Loop& loop_;
  Registers registers_{*this};
  PciFunction function_;
  std::array<std::unique_ptr<AhciPort>, kPorts> ports_;

  Mutex mutex_;
  u32 control_ GUARDED_BY(mutex_) = ahci::kGhcEnable;
  u32 pending_ GUARDED_BY(mutex_) = 0;  // IS
  bool asserted_ GUARDED_BY(mutex_) = false;
};

}  // namespace atl::devices
