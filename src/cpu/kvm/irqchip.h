// The in-kernel interrupt controllers and interval timer of one VM.
#pragma once

#include <array>
#include <string>

#include "base/archive.h"
#include "cpu/kvm/wrappers.h"
#include "cpu/vm.h"

namespace atl::cpu::kvm {

/// Calls on the control thread with the vCPUs stopped, but for the lines and messages (any thread).
class KernelIrqchip {
 public:
  static constexpr u32 kGsis = 24;

  /// Creates the chips in the kernel, and the routing of a PC: GSI 0 to 15 to the PIC pair and the I/O APIC, the timer
  /// (GSI 0) to pin 2. ApicOnly: the kernel has no way to leave the PIC out, but no line reaches it; no PIT.
  /// `make_up_ticks`: the PIT's interrupts that the guest was too slow for come later.
  static Result<std::unique_ptr<KernelIrqchip>> create(VmFd& vm, IrqChip kind, bool make_up_ticks = true);

  IrqLine& gsi(u32 number) { return lines_[number]; }
  void connect_pit(bool connected);  // any thread
  Status reset();
  Status pause_clock();
  Status resume_clock();
  Result<std::vector<u8>> save();
  Status restore(std::span<const u8> state);
  std::string describe_pic() const;
  std::string describe_io_apic() const;

 private:
  class Line final : public IrqLine {
   public:
    void set(bool level) override { (void)vm->set_irq_line(number, level); }  // only fails for numbers that do not exist
    VmFd* vm = nullptr;
    u32 number = 0;
  };
  struct State {
    std::array<kvm_irqchip, 3> chips{};
    kvm_pit_state2 pit{};
    kvm_clock_data clock{};
  };

  KernelIrqchip(VmFd& vm, IrqChip kind, bool make_up_ticks);
  Status create_chips();
  Status route();
  Result<State> read() const;
  Status write(const State& state);
  static void visit(Archive& archive, State& state);

  VmFd& vm_;
  const IrqChip kind_;
  const bool make_up_ticks_;
  std::array<Line, kGsis> lines_;
  State power_on_;
  std::optional<u64> paused_clock_ns_;
};

}  // namespace atl::cpu::kvm
