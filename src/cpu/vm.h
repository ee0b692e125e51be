// The vCPU interface: what machine and devices know of an accelerator. cpu/kvm and cpu/soft implement it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/statistics.h"
#include "base/types.h"
#include "cpu/cpuid.h"
#include "cpu/state.h"
#include "memory/address_space.h"

namespace atl::cpu {

/// Why Vcpu::run came back.
enum class RunExit : u8 {
  Kicked,    // kick() was called
  Reset,     // triple fault or shutdown
  Debug,     // a breakpoint or single step of the debugger; Vcpu::debug_hit tells which
  Failed,    // the accelerator cannot go on; Vcpu::failure says why
};

/// What the debugger wants of a vCPU.
struct DebugRequest {
  bool single_step = false;
  struct Point {
    u64 address = 0;
    u8 length = 1;          // 1, 2, 4, 8
    enum class Kind : u8 { Execute, Write, Access } kind = Kind::Execute;
  };
  std::vector<Point> points;
};

/// Counters for kvm_stat-like views, by stable names ("exits", "io_exits", "mmio_exits", "halt_exits", "insn_emulation" ...).
using Counters = std::vector<std::pair<std::string, u64>>;
inline std::vector<Statistic> statistics_of(const Counters& counters) {
  std::vector<Statistic> list;
  for (const auto& [name, value] : counters) list.push_back({.name = name, .values = {value}});
  return list;
}

/// One virtual CPU. Created on the control thread; run() only on its own thread; get/set only while it is not in run().
class Vcpu {
 public:
  virtual ~Vcpu() = default;
  /// Executes guest code until one of RunExit. Halting, interrupts, port and memory accesses are handled inside.
  virtual RunExit run() = 0;
  /// Makes run() return Kicked soon: now if it is inside, else at the next call. Any thread, any number of times.
  virtual void kick() = 0;
  virtual Result<VcpuState> get_state() = 0;
  virtual Status set_state(const VcpuState& state) = 0;
  virtual Status inject_nmi() = 0;  // any thread
  virtual Status set_debug(const DebugRequest& request) = 0;
  /// Where and why the last Debug exit happened: the point's address, or nullopt for a step.
  virtual std::optional<DebugRequest::Point> debug_hit() const = 0;
  virtual std::string failure() const = 0;
  /// Guest linear to physical, with the vCPU's current paging; nullopt if not mapped.
  virtual std::optional<GuestAddr> translate(u64 linear) = 0;
  virtual Counters counters() const = 0;  // any thread; values may be a moment old
  /// What the accelerator measures, with its meaning. By default the counters.
  virtual std::vector<Statistic> statistics() const { return statistics_of(counters()); }
};

/// Executes one instruction on a foreign vCPU's state, for an accelerator that cannot (KVM_EXIT_INTERNAL_ERROR).
/// One a vCPU, used on that vCPU's thread.
class InstructionStepper {
 public:
  virtual ~InstructionStepper() = default;
  /// Changes `state` as the instruction at its RIP does, an exception's delivery included. Cancelled: a triple fault.
  virtual Status step(VcpuState& state) = 0;
};

/// One input of the interrupt controllers (a GSI). Any thread.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  virtual void set(bool level) = 0;
  void pulse() {
    set(true);
    set(false);
  }
};

struct MsiMessage {
  u64 address = 0;
  u32 data = 0;
  bool operator==(const MsiMessage&) const = default;
};

/// A message-signalled interrupt that an eventfd can fire too. Owned by the device's queue.
class MsiRoute {
 public:
  virtual ~MsiRoute() = default;
  /// Control thread or the vCPU that programs the MSI-X table.
  virtual void set_message(const MsiMessage& message) = 0;
  /// Fires now. Any thread.
  virtual void fire() = 0;
};

/// Which interrupt controllers a board wants.
enum class IrqChip : u8 {
  Full,      // PIC pair, I/O APIC, local APICs, PIT (pc)
  ApicOnly,  // I/O APIC and local APICs (microvm)
};

struct VmOptions {
  IrqChip irqchip = IrqChip::Full;
  u32 max_vcpus = 1;
  memory::AddressSpace* memory = nullptr;
  memory::AddressSpace* ports = nullptr;
  bool pit_makes_up_ticks = true;  // KVM's interval timer: ticks that the guest was too slow for come later
};

/// One virtual machine on one accelerator. Calls on the control thread unless said otherwise.
class Vm {
 public:
  virtual ~Vm() = default;
  virtual std::string_view accelerator() const = 0;  // "kvm" or "soft"
  virtual CpuidLimits cpuid_limits() const = 0;
  /// vCPU 0 is the bootstrap processor. APIC id = index.
  virtual Result<std::unique_ptr<Vcpu>> create_vcpu(u32 index, const CpuidTable& cpuid) = 0;
  /// GSI 0 to 23. The reference is valid for the VM's life.
  virtual IrqLine& gsi(u32 number) = 0;
  /// Whether the PIT's output reaches GSI 0: an HPET can take the line over. True at power-on and after reset_irqchip(). Any thread.
  virtual void connect_pit(bool connected) { (void)connected; }
  /// Sends one message now. Any thread.
  virtual void send_msi(const MsiMessage& message) = 0;
  virtual Result<std::unique_ptr<MsiRoute>> create_msi_route() = 0;
  /// Whether vCPUs have system management mode. Firmware and chip set must be told if not.
  virtual bool has_smm() const { return false; }
  /// A system management interrupt for the bootstrap processor, or for all. Any thread; a vCPU that causes it takes it before its next
  /// instruction.
  virtual void raise_smi(bool all) { (void)all; }
  /// Guest clocks stop and go with the VM; called with the control thread, also while vCPUs run.
  virtual void pause_clock() = 0;
  virtual void resume_clock() = 0;
  /// Interrupt controllers and timers back to power-on state; the control thread, also while vCPUs run.
  virtual Status reset_irqchip() = 0;
  /// Saved state of the interrupt controllers and the clock, opaque to the caller but versioned inside.
  virtual Result<std::vector<u8>> save_irqchip() = 0;
  virtual Status restore_irqchip(std::span<const u8> state) = 0;
  /// Text for the monitor: "pic", "ioapic", "lapic" (of vCPU 0) or "lapic 2"; the control thread, also while vCPUs run.
  virtual std::string describe_irqchip(std::string_view what) = 0;
  virtual Counters counters() const = 0;
  virtual std::vector<Statistic> statistics() const { return statistics_of(counters()); }
};


}  // namespace atl::cpu
