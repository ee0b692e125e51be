#include "machine/boards/pci_chipset.h"

#include "devices/pci/host_bridge.h"
#include "devices/pci/q35.h"
#include "machine/boards/piix4_pm.h"
#include "machine/boards/ram.h"

namespace atl::machine {
namespace {

using namespace devices;

constexpr u64 kDefaultWindow = 0xb0000000;
constexpr u8 kLpcSlot = 31;
constexpr u32 kDirectGsi = 16;

PciBus::Wiring wiring_of(const BoardContext& context) {
  return {.memory = context.memory,
          .ports = context.ports,
          .set_gsi = [&vm = context.vm](u32 gsi, bool level) { vm.gsi(gsi).set(level); },
          .request_reset = [&system = context.system] { system.request_reset(); }};
}

std::unique_ptr<Smram> smram_of(const BoardContext& context) {
  if (!context.smm) return nullptr;
  const RamLayout ram = ram_layout(context.config.board, context.config.ram_bytes);
  return std::make_unique<Smram>(context.memory, ram.low_bytes);
}

class I440fx final : public PciChipset {
 public:
  explicit I440fx(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}

  Status build(const BoardContext& context) {
    bus_ = TRY(PciBus::create(wiring_of(context)));
    host_ = std::make_unique<I440fxHostBridge>(smram_of(context));
    isa_ = std::make_unique<Piix3IsaBridge>(*bus_);
    std::function<void()> raise_smi;
    if (context.smm) raise_smi = [&vm = context.vm] { vm.raise_smi(false); };
    power_ = std::make_unique<Piix4Pm>(callbacks_.power_management_moved, std::move(raise_smi));
    TRY(bus_->add({0, 0}, host_->function()));
    TRY(bus_->add({1, 0}, isa_->function()));
    return bus_->add({1, 3}, power_->function());
  }
  void smi_command_written() override { power_->command_written(); }
  const Traits& traits() const override {
    static constexpr Traits kTraits = {.root_bus = "pci.0", .host = "i440FX-pcihost", .first_free_slot = 2, .root_hotplug = true};
    return kTraits;
  }
  PciBus& bus() override { return *bus_; }
  std::vector<Device*> devices() override { return {host_.get(), isa_.get(), power_.get()}; }

 private:
  const Callbacks callbacks_;
  std::unique_ptr<PciBus> bus_;
  std::unique_ptr<I440fxHostBridge> host_;
  std::unique_ptr<Piix3IsaBridge> isa_;
  std::unique_ptr<Piix4Pm> power_;
};

class Q35 final : public PciChipset {
 public:
  explicit Q35(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}

  Status build(const BoardContext& context) {
    PciBus::Wiring wiring = wiring_of(context);
    wiring.pirq_of = &Ich9LpcBridge::pirq_of;
    wiring.direct_gsi = kDirectGsi;
    bus_ = TRY(PciBus::create(std::move(wiring)));
    host_ = std::make_unique<MchHostBridge>(context.memory, *bus_, smram_of(context), [this](u64 base, u64 size) {
      window_ = {base, size};
      callbacks_.window_moved();
    });
    lpc_ = std::make_unique<Ich9LpcBridge>(*bus_, callbacks_.power_management_moved, callbacks_.smi_locked);
    TRY(bus_->add({0, 0}, host_->function()));
    return bus_->add({kLpcSlot, 0}, lpc_->function());
  }
  const Traits& traits() const override {
    static constexpr Traits kTraits = {.root_bus = "pcie.0", .host = "q35-pcihost", .first_free_slot = 1, .root_hotplug = false};
    return kTraits;
  }
  PciBus& bus() override { return *bus_; }
  std::vector<Device*> devices() override { return {host_.get(), lpc_.get()}; }
  EcamWindow window() const override { return window_; }
  void prepare_without_firmware() override { host_->open_window(kDefaultWindow); }

 private:
  const Callbacks callbacks_;
  EcamWindow window_;
  std::unique_ptr<PciBus> bus_;
  std::unique_ptr<MchHostBridge> host_;
  std::unique_ptr<Ich9LpcBridge> lpc_;
};

template <class T>
Result<std::unique_ptr<PciChipset>> build(const BoardContext& context, PciChipset::Callbacks callbacks) {
  auto chips = std::make_unique<T>(std::move(callbacks));
  TRY(chips->build(context));
  return std::unique_ptr<PciChipset>(std::move(chips));
}

}  // namespace

Result<std::unique_ptr<PciChipset>> create_i440fx(const BoardContext& context, PciChipset::Callbacks callbacks) {
  return build<I440fx>(context, std::move(callbacks));
}

Result<std::unique_ptr<PciChipset>> create_q35_chipset(const BoardContext& context, PciChipset::Callbacks callbacks) {
  return build<Q35>(context, std::move(callbacks));
}

}  // namespace atl::machine
