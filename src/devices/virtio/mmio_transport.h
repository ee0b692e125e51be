// Virtio over MMIO, version 2. VIRTIO 1.2 section 4.2. Supported: all registers of the modern interface but shared memory
// (none is offered); one eventfd a queue. Missing: the legacy interface.
//
// Threads: registers on vCPU threads, under VirtioControl's mutex or this one's; interrupts from the device's loop.
#pragma once

#include <memory>
#include <string>

#include "cpu/vm.h"
#include "devices/device.h"
#include "devices/virtio/control.h"
#include "devices/virtio/device.h"
#include "memory/address_space.h"

namespace atl::devices {

class VirtioMmio final : public Device, public memory::BusDevice, private VirtioInterrupts {
 public:
  static constexpr u64 kBytes = 0x200;
  struct Place {
    memory::AddressSpace& memory;
    GuestAddr base;
    cpu::IrqLine& irq;
  };

  /// Claims the registers at `place`. `type` is the device's: "virtio-blk-device".
  static Result<std::unique_ptr<VirtioMmio>> create(std::string type, Place place, std::unique_ptr<VirtioDevice> device);
  ~VirtioMmio() override;

  VirtioDevice& device() { return *device_; }
  std::string_view type() const override { return type_; }
  void reset() override;
  void visit(Archive& archive) override;
  std::string describe() const override { return device_->describe(); }
  void quiesce(std::function<void()> done) override { device_->quiesce(std::move(done)); }
  void resume() override { device_->resume(); }

  u64 bus_read(u64 offset, unsigned width) override;
  void bus_write(u64 offset, u64 value, unsigned width) override;

 private:
  VirtioMmio(std::string type, Place place, std::unique_ptr<VirtioDevice> device);
  Status claim();
  u32 register_read(u32 offset);
  void register_write(u32 offset, u32 value);
  void queue_write(u32 offset, u32 queue, u32 value);
  void acknowledge(u32 bits);
  void raise(u8 bits);
  void reset_registers();

  void queue_interrupt(u16 queue) override;
  void config_interrupt() override;
  void needs_reset() override;

  const std::string type_;
  Place place_;
  std::unique_ptr<VirtioDevice> device_;
  VirtioControl control_;
  memory::RegionId region_ = 0;
  Mutex mutex_;
  u32 device_feature_select_ GUARDED_BY(mutex_) = 0, driver_feature_select_ GUARDED_BY(mutex_) = 0;
  u32 queue_select_ GUARDED_BY(mutex_) = 0;
  u8 interrupt_status_ GUARDED_BY(mutex_) = 0;
};

}  // namespace atl::devices
