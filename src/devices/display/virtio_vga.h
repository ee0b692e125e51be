// An adapter that is a standard VGA until a virtio driver sets a picture: one PCI function with the BARs of both.
//   BAR0 screen memory   BAR1 MSI-X   BAR2 VGA's registers   BAR4 virtio
// Threads: those of its parts.
#pragma once

#include "devices/display/vga.h"
#include "devices/virtio/pci_transport.h"

namespace atl::devices {

class VirtioVga final : public PciDevice {
 public:
  VirtioVga(std::unique_ptr<Vga> vga, std::unique_ptr<VirtioPci> gpu) : vga_(std::move(vga)), gpu_(std::move(gpu)) {
    vga_->set_bars(gpu_->function());
  }

  PciFunction& function() override { return gpu_->function(); }
  std::string_view type() const override { return gpu_->type(); }
  void reset() override {
    vga_->reset();
    gpu_->reset();
  }
  void visit(Archive& archive) override {
    archive.part(1, "vga", [&](Archive& a) { vga_->visit(a); });
    archive.part(2, "gpu", [&](Archive& a) { gpu_->visit(a); });
  }
  std::string describe() const override { return gpu_->describe(); }
  void quiesce(std::function<void()> done) override { gpu_->quiesce(std::move(done)); }
  void resume() override { gpu_->resume(); }

 private:
  std::unique_ptr<Vga> vga_;       // shown by the GPU: outlives it
  std::unique_ptr<VirtioPci> gpu_;
};

}  // namespace atl::devices
