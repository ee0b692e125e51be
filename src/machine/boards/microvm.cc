// Board "microvm": the fewest parts that a current Linux needs, for the fastest start. No PCI, no PIC, no PIT.
//   ports  0x3f8 ... serial ports   0x70 clock   0x600, 0xafe0, 0xb2 power management   0xcf9 reset   0xe9 debug console
//   memory 0xfeb00000 + n * 512 virtio-mmio n   0xfec00000 I/O APIC   0xfee00000 local APICs
// Devices are described by ACPI; without it (-no-acpi) on the kernel's command line.
#include <array>

#include <fmt/core.h>

#include "devices/legacy/reset_ports.h"
#include "devices/virtio/mmio_transport.h"
#include "machine/acpi/dsdt.h"
#include "machine/acpi/spec.h"
#include "machine/boards/chipset.h"
#include "machine/boards/firmware.h"
#include "machine/boards/ram.h"

namespace atl::machine {
namespace {

using namespace devices;

constexpr GuestAddr kVirtioBase = 0xfeb00000;
/// One GSI a slot; 8 is the clock's, 9 the SCI, below 5 are ISA's.
constexpr std::array<u8, 17> kVirtioGsis = {5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};

class Microvm final : public Board {
 public:
  static Result<std::unique_ptr<Board>> create(const BoardContext& context);

  Result<Device*> plug(std::unique_ptr<VirtioDevice> device, const PlugRequest& request) override;
  Status request_unplug(Device&) override {
    return Error(ErrorKind::Unsupported, "Bus 'virtio-mmio-bus' does not support hotplugging");
  }
  std::unique_ptr<Device> unplug(Device& device) override;
  std::vector<Device*> devices() override;
  void reset() override;
  Result<BootEntry> load() override;
  void press_power_button() override { chipset_->pm().power_button(); }
  std::string describe() override;
  void drop_missed_ticks() override { chipset_->rtc().drop_missed_ticks(); }
  std::string place_of(const Device& device) override;
  Status add_boot_device(u32 index, std::string path) override {
    return add_to_boot_order(boot_order_, index, std::move(path));
  }

 private:
  explicit Microvm(const BoardContext& context)
      : context_(context), ram_(ram_layout(BoardKind::Microvm, context.config.ram_bytes)) {}
  std::optional<size_t> free_slot() const;
  std::optional<AcpiBlob> acpi_tables(bool handover) const;
  std::vector<MmioDevice> plugged() const;
  std::string kernel_arguments() const;

  const BoardContext context_;
  const RamLayout ram_;
  std::unique_ptr<Chipset> chipset_;
  std::unique_ptr<ResetControl> reset_control_;
  std::unique_ptr<Firmware> firmware_;
  std::optional<DirectBoot> kernel_;
  BootOrder boot_order_;
  std::array<std::unique_ptr<VirtioMmio>, kVirtioGsis.size()> slots_;
};

Result<std::unique_ptr<Board>> Microvm::create(const BoardContext& context) {
  std::unique_ptr<Microvm> board(new Microvm(context));
  board->chipset_ = TRY(Chipset::create(context));
  board->reset_control_ = std::make_unique<ResetControl>(context.system);
  const PortBlock reset_block = {"reset-control", acpi::kResetPort, 1, board->reset_control_.get()};
  TRY(map_ports(context.ports, {&reset_block, 1}));
  const BootConfig& boot = context.config.boot;
  if (!boot.kernel.empty()) board->kernel_ = TRY(DirectBoot::open(boot));
  if (!boot.firmware.empty() || boot.kernel.empty()) {
    const std::string name = boot.firmware.empty() ? "bios-microvm.bin" : boot.firmware;
    board->firmware_ = TRY(Firmware::create(context, board->ram_, name, board->kernel_));
  }
  board->chipset_->pm().start_in_acpi_mode(!board->firmware_);
  board->chipset_->pm().reset();
  return std::unique_ptr<Board>(std::move(board));
}

std::optional<size_t> Microvm::free_slot() const {
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i]) return i;
  }
  return std::nullopt;
}

Result<Device*> Microvm::plug(std::unique_ptr<VirtioDevice> device, const PlugRequest& request) {
  if (request.hotplugged) return Error(ErrorKind::Unsupported, "Bus 'virtio-mmio-bus' does not support hotplugging");
  if (!request.address.empty()) {
    return Error(ErrorKind::Invalid, fmt::format("Property '{}.addr' not found", request.type));
  }
  const auto slot = free_slot();
  if (!slot) {
    return Error(ErrorKind::NoSpace, fmt::format("No 'virtio-bus' bus found for device '{}': all {} are taken",
                                                 request.type, slots_.size()));
  }
  const VirtioMmio::Place place = {context_.memory, kVirtioBase + *slot * VirtioMmio::kBytes,
                                   context_.vm.gsi(kVirtioGsis[*slot])};
  TRY(add_to_boot_order(boot_order_, request.boot_index, fmt::format("/virtio-mmio@{:016x}/disk@0,0", place.base)));
  slots_[*slot] = TRY(VirtioMmio::create(request.type, place, std::move(device)));
  return static_cast<Device*>(slots_[*slot].get());
}

std::unique_ptr<Device> Microvm::unplug(Device& device) {
  for (auto& slot : slots_) {
    if (slot.get() == &device) return std::move(slot);
  }
  return nullptr;
}

std::vector<Device*> Microvm::devices() {
  std::vector<Device*> all = chipset_->devices();
  all.push_back(reset_control_.get());
  if (firmware_) {
    for (Device* device : firmware_->devices()) all.push_back(device);
  }
  for (auto& slot : slots_) {
    if (slot) all.push_back(slot.get());
  }
  return all;
}

void Microvm::reset() {
  for (Device* device : devices()) device->reset();
}

std::vector<MmioDevice> Microvm::plugged() const {
  std::vector<MmioDevice> list;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i]) list.push_back({static_cast<u32>(kVirtioBase + i * VirtioMmio::kBytes), VirtioMmio::kBytes, kVirtioGsis[i]});
  }
  return list;
}

std::optional<AcpiBlob> Microvm::acpi_tables(bool handover) const {
  if (!context_.config.acpi) return std::nullopt;
  const u32 cpus = context_.config.topology.cpus;
  const std::vector<MmioDevice> virtio = plugged();
  return build_acpi({.dsdt = microvm_dsdt({.cpus = cpus, .serial_ports = chipset_->serial_ports(), .virtio = virtio}),
                     .cpus = cpus,
                     .has_pic = false,
                     .handover = handover});
}

/// Documentation/admin-guide/kernel-parameters: virtio_mmio.device=size@base:irq.
std::string Microvm::kernel_arguments() const {
  std::string out;
  if (context_.config.acpi) return out;
  for (const MmioDevice& d : plugged()) {
    out += fmt::format("{}virtio_mmio.device={}@{:#x}:{}", out.empty() ? "" : " ", d.size, d.base, d.gsi);
  }
  return out;
}

Result<BootEntry> Microvm::load() {
  if (firmware_) {
    firmware_->offer_boot_order(boot_order_);
    return firmware_->load(acpi_tables(true));
  }
  kernel_->set_board_arguments(kernel_arguments());
  return start_kernel(context_, *kernel_, ram_, acpi_tables(false));
}

std::string Microvm::describe() {
  std::string out = "bus: main-system-bus\n";
  for (Device* device : devices()) {
    out += fmt::format("  dev: {}, {}\n", device->type(), place_of(*device));
    if (std::string more = device->describe(); !more.empty()) out += "    " + more + "\n";
  }
  return out;
}

std::string Microvm::place_of(const Device& device) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].get() == &device) return fmt::format("virtio-mmio {:#x}, irq {}", kVirtioBase + i * VirtioMmio::kBytes, kVirtioGsis[i]);
  }
  return "on board";
}

}  // namespace

Result<std::unique_ptr<Board>> create_microvm(const BoardContext& context) { return Microvm::create(context); }

}  // namespace atl::machine
