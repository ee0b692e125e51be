// Virtio over PCI. VIRTIO 1.2 section 4.1. Supported: the modern interface in BAR 4 (common, ISR, device, notify and
// pci-cfg capabilities), the legacy interface in BAR 0 (I/O; 4.1.4.8) beside it or alone, MSI-X in BAR 1, INTx, one eventfd a
// queue. Missing: shared memory regions, ring reset, notification data.
//
// Threads: registers on vCPU threads, under VirtioControl's mutex or this one's; interrupts from the device's loop.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/pci/device.h"
#include "devices/virtio/control.h"
#include "devices/virtio/device.h"

namespace atl::devices {

/// The id under which drivers from before VIRTIO 1.0 look for a kind of device (4.1.2.1); none: they do not know it.
std::optional<u16> transitional_pci_id(u16 device_id);

struct VirtioPciOptions {
  std::string type;               // "virtio-blk-pci"
  std::optional<u32> class_code;  // in place of that of the device's kind
  bool legacy = false;            // a transitional device, which old drivers know too
  bool modern = true;             // false: the legacy interface alone
  std::optional<unsigned> vectors; // MSI-X vectors; by default one a queue and one more; 0: INTx only
};

class VirtioPci final : public PciDevice, private VirtioInterrupts {
 public:
  static Result<std::unique_ptr<VirtioPci>> create(cpu::Vm& vm, std::unique_ptr<VirtioDevice> device,
                                                   VirtioPciOptions options);
  ~VirtioPci() override;

  PciFunction& function() override { return function_; }
  VirtioDevice& device() { return *device_; }

  std::string_view type() const override { return options_.type; }
  void reset() override;
  void visit(Archive& archive) override;
  std::string describe() const override { return device_->describe(); }
  void quiesce(std::function<void()> done) override { device_->quiesce(std::move(done)); }
  void resume() override { device_->resume(); }

 private:
  /// BAR 4.
  class Registers final : public memory::BusDevice {
   public:
    explicit Registers(VirtioPci& owner) : owner_(owner) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;

   private:
    VirtioPci& owner_;
  };

  /// BAR 0, in pci_legacy.cc.
  class LegacyRegisters final : public memory::BusDevice {
   public:
    explicit LegacyRegisters(VirtioPci& owner) : owner_(owner) {}
    u64 bus_read(u64 offset, unsigned width) override;
    void bus_write(u64 offset, u64 value, unsigned width) override;
    /// The BAR's size: the header and the device's configuration.
    static u64 bar_bytes(const VirtioDevice& device, bool msix);

   private:
    /// The device's configuration begins behind the vectors, if MSI-X is on.
    u32 config_at() const;
    u64 header_read(u32 offset);
    void header_write(u32 offset, u32 value);

    VirtioPci& owner_;
  };

  VirtioPci(std::unique_ptr<VirtioDevice> device, VirtioPciOptions options);
  Status build(cpu::Vm& vm);
  void add_capabilities();
  PciBar register_bar();
  /// One field of the common configuration, named by its offset.
  u64 common_read(u32 offset);
  void common_write(u32 offset, u32 value, unsigned width);
  void queue_write(u32 offset, u32 value);
  void select_write(u32 offset, u32 value);
  u16 checked_vector(u32 value);
  u16 selected_queue();
  void select_queue(u16 queue);
  u8 take_isr();
  void raise_isr(u8 bits);
  void kick(u64 queue);
  /// The pci-cfg capability: a window into BAR 4 through configuration space.
  void window_access(bool write);
  void reset_registers();

  void queue_interrupt(u16 queue) override;
  void config_interrupt() override;
  void needs_reset() override;

  std::unique_ptr<VirtioDevice> device_;
  const VirtioPciOptions options_;
  VirtioControl control_;
  Registers registers_{*this};
  LegacyRegisters legacy_registers_{*this};
  PciFunction function_;
  u8 cfg_capability_ = 0;

  Mutex mutex_;
  u32 device_feature_select_ GUARDED_BY(mutex_) = 0, driver_feature_select_ GUARDED_BY(mutex_) = 0;
  u16 queue_select_ GUARDED_BY(mutex_) = 0;
  u8 isr_ GUARDED_BY(mutex_) = 0;
  std::atomic<u16> config_vector_{virtio::kNoVector};
  std::vector<std::atomic<u16>> queue_vectors_;
};

}  // namespace atl::devices
