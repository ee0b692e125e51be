#include "cpu/soft/irq/interrupt_chips.h"

#include "cpu/soft/core.h"
#include "cpu/soft/soft_vm.h"

namespace atl::soft {

namespace {

constexpr u32 kPicLines = 16;

}  // namespace

InterruptChips::InterruptChips(SoftVm& vm, cpu::IrqChip kind)
    : vm_(vm), kind_(kind), timers_(vm.clock), io_apic_(vm), pic_([&vm](bool rising) {
        bool has_bootstrap = !vm.cores.empty() && vm.cores[0] && vm.cores[0]->apic;
        if (has_bootstrap) vm.cores[0]->apic->pic_raised(rising);
      }, [this] {
        if (pit_ && pit_->owes() && !timer_waits()) pit_->tick_taken();
      }) {
  for (u32 i = 0; i < lines_.size(); ++i) {
    lines_[i].chips = this;
    lines_[i].number = i;
  }
  if (kind == cpu::IrqChip::Full) {
    pit_ = std::make_unique<Pit>(vm.clock, timers_, [this](bool level) { if (pit_connected_) set_gsi(kTimerGsi, level); },
                                 [this] { return pit_connected_ && timer_waits(); });
  }
}

Result<std::unique_ptr<InterruptChips>> InterruptChips::create(SoftVm& vm, cpu::IrqChip kind) {
  std::unique_ptr<InterruptChips> chips(new InterruptChips(vm, kind));
  TRY(chips->map_registers());
  TRY(chips->timers_.start());
  vm.chips = chips.get();
  return chips;
}

InterruptChips::~InterruptChips() {
  if (vm_.chips == this) vm_.chips = nullptr;
  for (auto [space, id] : regions_) space->remove(id);
}

Status InterruptChips::map_registers() {
  TRY(map(*vm_.memory, "ioapic", IoApic::kBase, IoApic::kSize, io_apic_));
  if (kind_ != cpu::IrqChip::Full) return {};
  TRY(map(*vm_.ports, "pic", 0x20, 2, pic_.command_ports(false)));
  TRY(map(*vm_.ports, "pic", 0xa0, 2, pic_.command_ports(true)));
  TRY(map(*vm_.ports, "elcr", 0x4d0, 2, pic_.elcr_ports()));
  TRY(map(*vm_.ports, "pit", 0x40, 4, *pit_));
  return map(*vm_.ports, "pcspk", 0x61, 1, pit_->speaker_port());
}

Status InterruptChips::map(memory::AddressSpace& space, const char* name, u64 base, u64 size, memory::BusDevice& device) {
  memory::RegionId id = TRY(space.add({.name = name, .base = base, .size = size, .device = &device}));
  regions_.emplace_back(&space, id);
  return {};
}

void InterruptChips::set_gsi(u32 number, bool level) {
  if (kind_ == cpu::IrqChip::Full && number < kPicLines) pic_.set_line(number, level);
  bool override = kind_ == cpu::IrqChip::Full && number == kTimerGsi;
  io_apic_.set_pin(override ? kTimerPin : number, level);
}

void InterruptChips::connect_pit(bool connected) {
  if (pit_connected_.exchange(connected) != connected) set_gsi(kTimerGsi, false);
}

bool InterruptChips::timer_waits() const {
  return io_apic_.enabled(kTimerPin) ? io_apic_.edge_waits(kTimerPin) : pic_.waits(kTimerGsi);
}

int InterruptChips::acknowledge_pic() { return kind_ == cpu::IrqChip::Full ? pic_.acknowledge() : -1; }

void InterruptChips::reset() {
  pic_.reset();
  io_apic_.reset();
  pit_connected_ = true;
  if (pit_) pit_->reset();
}

void InterruptChips::visit(Archive& archive) {
  archive.part(1, "ioapic", [&](Archive& a) { io_apic_.visit(a); });
  if (kind_ != cpu::IrqChip::Full) return;
  archive.part(2, "pic", [&](Archive& a) { pic_.visit(a); });
  archive.part(3, "pit", [&](Archive& a) { pit_->visit(a); });
  bool connected = pit_connected_;
  archive.field(4, "pit_connected", connected);
  pit_connected_ = connected;
}

std::string InterruptChips::describe_pic() const { return kind_ == cpu::IrqChip::Full ? pic_.describe() : std::string(); }

}  // namespace atl::soft
