#include "cpu/kvm/irqchip.h"

#include <cstring>

#include "cpu/irqchip_text.h"

namespace atl::cpu::kvm {

namespace {

constexpr u32 kTimerGsi = 0, kTimerPin = 2, kPicLines = 16;

kvm_irq_routing_entry chip_route(u32 gsi, u32 chip, u32 pin) {
  return {.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u = {.irqchip = {.irqchip = chip, .pin = pin}}};
}

std::span<u8> bytes_of(auto& object) { return {reinterpret_cast<u8*>(&object), sizeof object}; }

PicRegisters registers_of(const kvm_pic_state& pic) {
  return {.request = pic.irr,
          .mask = pic.imr,
          .service = pic.isr,
          .highest_priority = pic.priority_add,
          .vector_base = pic.irq_base,
          .edge_level = pic.elcr,
          .read_service = pic.read_reg_select != 0,
          .special_nested = pic.special_fully_nested_mode != 0};
}

}  // namespace

KernelIrqchip::KernelIrqchip(VmFd& vm, IrqChip kind, bool make_up_ticks) : vm_(vm), kind_(kind), make_up_ticks_(make_up_ticks) {
  for (u32 i = 0; i < kGsis; ++i) {
    lines_[i].vm = &vm;
    lines_[i].number = i;
  }
}

Result<std::unique_ptr<KernelIrqchip>> KernelIrqchip::create(VmFd& vm, IrqChip kind, bool make_up_ticks) {
  std::unique_ptr<KernelIrqchip> chips(new KernelIrqchip(vm, kind, make_up_ticks));
  TRY(chips->create_chips());
  TRY(chips->route());
  chips->power_on_ = TRY(chips->read());
  return chips;
}

Status KernelIrqchip::create_chips() {
  TRY(vm_.create_irqchip());
  if (kind_ != IrqChip::Full) return {};
  TRY(vm_.create_pit(KVM_PIT_SPEAKER_DUMMY));  // port 0x61 too
  return make_up_ticks_ ? Status{} : vm_.drop_late_pit_ticks();
}

Status KernelIrqchip::route() {
  std::vector<kvm_irq_routing_entry> routes;
  bool full = kind_ == IrqChip::Full;
  for (u32 gsi = 0; gsi < kGsis; ++gsi) {
    if (full && gsi < kPicLines) {
      u32 chip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
      routes.push_back(chip_route(gsi, chip, gsi % 8));
    }
    routes.push_back(chip_route(gsi, KVM_IRQCHIP_IOAPIC, full && gsi == kTimerGsi ? kTimerPin : gsi));
  }
  return vm_.set_gsi_routing(routes);
}

Result<KernelIrqchip::State> KernelIrqchip::read() const {
  State state;
  for (u32 id = 0; id < state.chips.size(); ++id) state.chips[id] = TRY(vm_.irqchip(id));
  if (kind_ == IrqChip::Full) state.pit = TRY(vm_.pit());
  state.clock = TRY(vm_.clock());
  return state;
}

Status KernelIrqchip::write(const State& state) {
  for (u32 id = 0; id < state.chips.size(); ++id) {
    kvm_irqchip chip = state.chips[id];
    chip.chip_id = id;
    TRY(vm_.set_irqchip(chip));
  }
  if (kind_ == IrqChip::Full) TRY(vm_.set_pit(state.pit));
  return {};
}

/// Only fails where the kernel has no PIT.
void KernelIrqchip::connect_pit(bool connected) {
  auto pit = vm_.pit();
  if (kind_ != IrqChip::Full || !pit) return;
  pit->flags = connected ? pit->flags & ~KVM_PIT_FLAGS_HPET_LEGACY : pit->flags | KVM_PIT_FLAGS_HPET_LEGACY;
  (void)vm_.set_pit(*pit);
}

Status KernelIrqchip::reset() { return write(power_on_); }

Status KernelIrqchip::pause_clock() {
  paused_clock_ns_ = TRY(vm_.clock()).clock;
  return {};
}

Status KernelIrqchip::resume_clock() {
  if (!paused_clock_ns_) return {};
  kvm_clock_data clock{.clock = *paused_clock_ns_};
  paused_clock_ns_.reset();
  return vm_.set_clock(clock);
}

/// The kernel's structures are its stable interface, so their bytes are a format; sizes are checked by the archive.
void KernelIrqchip::visit(Archive& archive, State& state) {
  u64 clock_ns = state.clock.clock;
  archive.field(1, "clock_ns", clock_ns);
  archive.bytes(2, "pic_master", bytes_of(state.chips[KVM_IRQCHIP_PIC_MASTER].chip));
  archive.bytes(3, "pic_slave", bytes_of(state.chips[KVM_IRQCHIP_PIC_SLAVE].chip));
  archive.bytes(4, "ioapic", bytes_of(state.chips[KVM_IRQCHIP_IOAPIC].chip));
  archive.bytes(5, "pit", bytes_of(state.pit));
  state.clock = {.clock = clock_ns};
}

Result<std::vector<u8>> KernelIrqchip::save() {
  State state = TRY(read());
  if (paused_clock_ns_) state.clock.clock = *paused_clock_ns_;
  Archive archive;
  visit(archive, state);
  return archive.take();
}

Status KernelIrqchip::restore(std::span<const u8> saved) {
  State state = power_on_;
  Archive archive(saved);
  visit(archive, state);
  TRY(archive.status());
  TRY(write(state));
  if (!paused_clock_ns_) return vm_.set_clock(state.clock);
  paused_clock_ns_ = state.clock.clock;  // set when the VM goes on
  return {};
}

std::string KernelIrqchip::describe_pic() const {
  auto master = vm_.irqchip(KVM_IRQCHIP_PIC_MASTER), slave = vm_.irqchip(KVM_IRQCHIP_PIC_SLAVE);
  if (kind_ != IrqChip::Full || !master || !slave) return {};
  return cpu::describe_pic(1, registers_of(slave->chip.pic)) + cpu::describe_pic(0, registers_of(master->chip.pic));
}

std::string KernelIrqchip::describe_io_apic() const {
  auto chip = vm_.irqchip(KVM_IRQCHIP_IOAPIC);
  if (!chip) return {};
  const kvm_ioapic_state& ioapic = chip->chip.ioapic;
  IoApicRegisters registers{.id = static_cast<u8>(ioapic.id),
                            .select = static_cast<u8>(ioapic.ioregsel),
                            .version = 0x11,
                            .requests = ioapic.irr};
  for (u32 pin = 0; pin < kGsis; ++pin) registers.redirection[pin] = ioapic.redirtbl[pin].bits;
  return cpu::describe_io_apic(registers);
}

}  // namespace atl::cpu::kvm
