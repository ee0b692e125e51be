// The IDE function of the PIIX3, 8086:7010: two channels in legacy mode at 0x1f0 and 0x170, bus master registers in BAR 4.
// Intel datasheet 290550, chapters 2.7 and 2.8. IDETIM registers are stored; the channels are always decoded.
//
// Threads: as IdeChannel.
#pragma once

#include <array>

#include "devices/pci/device.h"
#include "devices/storage/ide_channel.h"

namespace atl::devices {

class PiixIde final : public PciDevice, public AtaHost {
 public:
  static constexpr unsigned kChannels = 2;
  static constexpr u16 kCommandBase[kChannels] = {0x1f0, 0x170}, kControlBase[kChannels] = {0x3f6, 0x376};
  static constexpr u8 kIrq[kChannels] = {14, 15};

  PiixIde(Loop& loop, memory::AddressSpace& memory, cpu::IrqLine& primary, cpu::IrqLine& secondary);

  IdeChannel& channel(unsigned index) { return channels_[index]; }
  PciFunction& function() override { return function_; }
  std::string_view type() const override { return "piix3-ide"; }
  void reset() override;
  void visit(Archive& archive) override;
  std::string describe() const override;
  void quiesce(std::function<void()> done) override;
  void resume() override;

  unsigned ata_ports() const override { return kChannels; }
  unsigned ata_units() const override { return IdeChannel::kUnits; }
  AtaDevice* ata_device(unsigned port, unsigned unit) override { return channels_[port].device(unit); }
  void attach_ata(unsigned port, unsigned unit, std::unique_ptr<AtaDevice> device) override;

 private:
  /// BAR 4: 8 bytes a channel.
  class MasterPorts final : public memory::BusDevice {
   public:
    explicit MasterPorts(PiixIde& owner) : owner_(owner) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;

   private:
    PiixIde& owner_;
  };

  std::vector<DiskIo*> media();

  Loop& loop_;
  std::array<IdeChannel, kChannels> channels_;
  MasterPorts master_ports_{*this};
  PciFunction function_;
};

}  // namespace atl::devices
