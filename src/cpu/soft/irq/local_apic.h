// Local APIC of one software vCPU: Intel SDM vol. 3, chapter 11 (APIC), with x2APIC and the TSC-deadline timer.
//
// Supported: xAPIC page and x2APIC MSRs, all delivery modes but SMI and remote read, logical flat, cluster and x2APIC
// destinations, timer one-shot, periodic and TSC-deadline (1 GHz bus clock), LINT0/LINT1, error status, EOI broadcast.
// Missing: SMI, performance and thermal LVTs never fire, bus arbitration (lowest priority goes by vector, as KVM does).
//
// Threads: the vCPU's own thread reads and writes registers; accept() and the destination test run on any thread, which is
// why every register is atomic. The timer has a lock of its own.
#pragma once

#include <array>
#include <atomic>
#include <optional>
#include <span>

#include "base/sync.h"
#include "cpu/soft/irq/timer_queue.h"
#include "cpu/vm.h"

namespace atl::soft {

struct Core;
struct SoftVm;

enum class Delivery : u8 { Fixed = 0, LowestPriority = 1, Smi = 2, Nmi = 4, Init = 5, Startup = 6, ExtInt = 7 };

/// An interrupt on its way to local APICs, from an IPI, the I/O APIC or an MSI.
struct Interrupt {
  u32 destination = 0;
  bool logical = false;
  Delivery delivery = Delivery::Fixed;
  bool level = false;
  u8 vector = 0;
  bool x2apic = false;  // `destination` has 32 bits: sent through an x2APIC's ICR
};

class LocalApic final : private TimerQueue::Client {
 public:
  LocalApic(Core& core, SoftVm& vm, TimerQueue& timers);
  ~LocalApic() override;

  /// Power-on state; `init`: what an INIT leaves (ID, APIC_BASE stay). Own thread, or the vCPU stopped.
  void reset(bool init);

  // -- registers, own thread -------------------------------------------------------------------------------------------
  u32 read(u32 offset);                // offset into the page, a multiple of 16
  void write(u32 offset, u32 value);
  /// x2APIC registers 0x800 to 0x8ff. Nothing or false: #GP.
  std::optional<u64> read_msr(u32 index);
  bool write_msr(u32 index, u64 value);
  u64 base_msr() const { return base_.load(std::memory_order_relaxed); }
  /// IA32_APIC_BASE; false for reserved bits and forbidden changes of mode: #GP. CPUID leaf 1 EDX bit 9 follows its bit 11.
  bool set_base_msr(u64 value);
  u64 tsc_deadline() const;            // IA32_TSC_DEADLINE
  void set_tsc_deadline(u64 tsc);
  void tsc_offset_changed();           // after core.msr.tsc_offset changed: the deadline counts in guest TSC
  u8 cr8() const;
  void set_cr8(u8 value);

  // -- delivery to the vCPU, own thread ----------------------------------------------------------------------------------
  bool pending() const;                // something that take() would return
  int take();                          // the vector to deliver now (moved to the ISR, or acknowledged at the PIC), or -1
  /// Before an NMI is delivered for kAttendNmi: whether another one came together with it, which waits until IRET.
  bool take_nmi();
  /// While NMIs are blocked all that come are one.
  void merge_nmis();
  u8 sipi_vector() const { return sipi_vector_.load(std::memory_order_acquire); }  // of the last kAttendSipi

  // -- from anywhere, any thread ------------------------------------------------------------------------------------------
  bool matches(const Interrupt& interrupt) const;
  bool enabled() const;                // in hardware (APIC_BASE) and software (SVR)
  bool requests(u8 vector) const;      // asked for and not yet delivered
  void accept(const Interrupt& interrupt);
  void pic_raised(bool rising);        // the PIC's INTR at LINT0 of the bootstrap processor is active
  void nmi_input();                    // LINT1, whatever its LVT says
  bool x2apic_mode() const;
  u32 id() const;

  /// PAUSE. A vCPU that spins for long lets others have the host's CPU: what it waits for may be one of them. Own thread.
  void note_pause();

  // -- HLT: the own thread waits for its timer itself ----------------------------------------------------------------------
  void set_asleep(bool asleep) { asleep_.store(asleep, std::memory_order_seq_cst); }
  bool asleep() const { return asleep_.load(std::memory_order_seq_cst); }
  u64 timer_deadline_ns() const;       // guest time, TimerQueue::kNever if not armed
  void fire_timer_if_due();

  // -- saved state: the register page as KVM_GET_LAPIC has it; vCPU stopped ----------------------------------------------------
  void export_page(std::span<u8, 1024> page) const;
  void import_page(std::span<const u8, 1024> page);

 private:
  static constexpr u32 kWords = 64;  // 32-bit registers, 16 bytes apart
  using Words = std::array<std::atomic<u32>, kWords>;

  void timer_due(u64 now_ns) override;

  u32 reg(u32 offset) const { return regs_[offset >> 4].load(std::memory_order_relaxed); }
  void set_reg(u32 offset, u32 value) { regs_[offset >> 4].store(value, std::memory_order_relaxed); }
  int highest(u32 bank) const;
  bool test_bit(u32 bank, u8 vector) const;
  void set_bit(u32 bank, u8 vector);
  void clear_bit(u32 bank, u8 vector);
  u8 ppr() const;
  bool is_valid_base(u64 value) const;
  bool pic_waits() const;
  bool accepts_pic() const;
  void accept_fixed(u8 vector, bool level);
  void deliver_local(u32 lvt_offset);
  void report_error(u32 bit);
  void write_register(u32 offset, u32 value);
  void write_lvt(u32 offset, u32 value);
  void write_svr(u32 value);
  void write_icr(u32 low, u32 destination);
  void broadcast(const Interrupt& interrupt, bool including_self);
  void set_cr8_and_low_bits(u8 value);
  void end_of_interrupt();
  int highest_request();
  void look_again();                   // kAttendInterrupt to the own core if pending()

  // local_apic_timer.cc
  u32 timer_mode() const;
  u64 count_to_ns(u32 count) const;
  u64 period_ns() const;
  u64 tsc_to_ns(u64 tsc) const;
  u32 current_count() const EXCLUDES(timer_mutex_);
  void start_timer() EXCLUDES(timer_mutex_);
  void start_timer_at_count(u32 count) EXCLUDES(timer_mutex_);
  void change_divider(u32 value) EXCLUDES(timer_mutex_);
  void timer_mode_changed(u32 lvt_before) EXCLUDES(timer_mutex_);
  void set_deadline(u64 deadline_ns) REQUIRES(timer_mutex_);
  bool expire(u64 now_ns) EXCLUDES(timer_mutex_);  // false: not due

  Core& core_;
  SoftVm& vm_;
  TimerQueue& timers_;
  TimerQueue::Id timer_id_;
  Words regs_{};
  std::atomic<bool> irr_hint_{false};  // false: the IRR is empty
  std::atomic<u64> base_{0};
  std::atomic<u32> pending_errors_{0};
  std::atomic<u8> sipi_vector_{0};
  std::atomic<u32> nmis_{0};           // that came since one was delivered last
  std::atomic<bool> asleep_{false};
  u32 pauses_ = 0;

  mutable Mutex timer_mutex_;
  u64 deadline_ns_ GUARDED_BY(timer_mutex_) = TimerQueue::kNever;  // guest time of the next expiry
  u64 tsc_deadline_ GUARDED_BY(timer_mutex_) = 0;
};

/// The mmu offers every access outside RAM here first; true if it was to the vCPU's own APIC page. False for a core without
/// an APIC (an instruction stepper's).
bool apic_read(Core& core, GuestAddr gpa, unsigned width, u64& value);
bool apic_write(Core& core, GuestAddr gpa, unsigned width, u64 value);

/// For the run loop: whether take_interrupt() would return a vector. RFLAGS.IF and the interrupt shadow are the caller's.
bool interrupt_pending(const Core& core);
/// The next vector to deliver, or -1. Own thread.
int take_interrupt(Core& core);

/// Hands `interrupt` to every local APIC that its destination means. Any thread.
void route_interrupt(SoftVm& vm, const Interrupt& interrupt);
/// Decodes a write to 0xfeexxxxx (SDM vol. 3, 11.11). Messages to other addresses are dropped.
void route_msi(SoftVm& vm, const cpu::MsiMessage& message);

}  // namespace atl::soft
