// The interrupt controllers and the timer chip of one VM on the software CPU, wired as on a PC: GSI 0 to 15 reach the 8259
// pair and the I/O APIC, 16 to 23 the I/O APIC only; the 8254's channel 0 is GSI 0, which is IRQ 0 of the PIC and pin 2 of
// the I/O APIC (the MADT's interrupt source override).
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "base/archive.h"
#include "cpu/soft/irq/io_apic.h"
#include "cpu/soft/irq/pic.h"
#include "cpu/soft/irq/pit.h"
#include "cpu/soft/irq/timer_queue.h"
#include "cpu/vm.h"

namespace atl::soft {

struct SoftVm;

class InterruptChips {
 public:
  /// Adds the chips' registers to vm.memory and vm.ports, and is vm.chips from then on. `kind` ApicOnly: no PIC, no PIT.
  static Result<std::unique_ptr<InterruptChips>> create(SoftVm& vm, cpu::IrqChip kind);
  ~InterruptChips();

  cpu::IrqLine& gsi(u32 number) { return lines_[number]; }
  void connect_pit(bool connected);  // any thread
  /// INTA cycle of the bootstrap processor's LINT0, -1 without a PIC. vCPU thread.
  int acknowledge_pic();
  bool pic_output() const { return pic_.output(); }
  /// A local APIC finished a level-triggered interrupt. vCPU thread.
  void end_of_interrupt(u8 vector) { io_apic_.end_of_interrupt(vector); }
  /// The same for one that was an edge. vCPU thread.
  void edge_finished(u8 vector) {
    if (pit_ && pit_->owes() && io_apic_.sends(kTimerPin, vector)) pit_->tick_taken();
  }
  TimerQueue& timers() { return timers_; }

  // Control thread, vCPUs stopped.
  void reset();
  void visit(Archive& archive);
  std::string describe_pic() const;
  std::string describe_io_apic() const { return io_apic_.describe(); }

 private:
  class Line final : public cpu::IrqLine {
   public:
    void set(bool level) override { chips->set_gsi(number, level); }
    InterruptChips* chips = nullptr;
    u32 number = 0;
  };

  InterruptChips(SoftVm& vm, cpu::IrqChip kind);
  Status map_registers();
  Status map(memory::AddressSpace& space, const char* name, u64 base, u64 size, memory::BusDevice& device);
  void set_gsi(u32 number, bool level);
  bool timer_waits() const;

  static constexpr u32 kTimerGsi = 0, kTimerPin = 2;

  SoftVm& vm_;
  const cpu::IrqChip kind_;
  TimerQueue timers_;
  IoApic io_apic_;
  PicPair pic_;
  std::unique_ptr<Pit> pit_;
  std::atomic<bool> pit_connected_ = true;
  std::array<Line, IoApic::kPins> lines_;
  std::vector<std::pair<memory::AddressSpace*, memory::RegionId>> regions_;
};

}  // namespace atl::soft
