// The ioctls of Linux KVM as typed calls (Documentation/virt/kvm/api.rst). Depends on base only; knows nothing of Atoll's
// machines. Errors name the ioctl. Missing: SEV, TDX, nested state, SMM, Xen and Hyper-V calls.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/mapping.h"
#include "base/result.h"
#include "base/types.h"
#include "cpu/kvm/kvm_abi.h"

namespace atl::cpu::kvm {

/// ioctl(2) that tries again after a signal. Not for KVM_RUN, where EINTR is the kick.
Result<int> call(const Fd& fd, unsigned long request, const char* name, u64 argument);
inline Result<int> call(const Fd& fd, unsigned long request, const char* name, const void* argument) {
  return call(fd, request, name, reinterpret_cast<u64>(argument));
}

/// ioctls that read or write one structure.
template <class T>
Result<T> get(const Fd& fd, unsigned long request, const char* name) {
  T value{};
  TRY(call(fd, request, name, &value));
  return value;
}
template <class T>
Status set(const Fd& fd, unsigned long request, const char* name, const T& value) {
  TRY(call(fd, request, name, &value));
  return {};
}

using CpuidEntries = std::vector<kvm_cpuid_entry2>;
using MsrEntries = std::vector<kvm_msr_entry>;

/// The counters of a VM or vCPU (KVM_GET_STATS_FD): kept open for `atoll stat`, which borrows the descriptor; only we may ask
/// KVM for it. Not valid on kernels before 5.14.
Fd open_statistics(const Fd& fd);

/// One vCPU. All calls but immediate_exit() on the thread that runs it, or while it is not running.
class VcpuFd {
 public:
  VcpuFd(Fd fd, Mapping run) : fd_(std::move(fd)), run_(std::move(run)), stats_(open_statistics(fd_)) {}

  /// KVM_RUN: 0 for an exit described in run_page(), else the errno.
  int run();
  const Fd& statistics() const { return stats_; }
  kvm_run& run_page() { return *reinterpret_cast<kvm_run*>(run_.data()); }
  const kvm_run& run_page() const { return *reinterpret_cast<const kvm_run*>(run_.data()); }
  u8* io_data() { return run_.data() + run_page().io.data_offset; }
  /// Makes the present or next KVM_RUN's entry fail with EINTR. Any thread; a thread already inside needs a signal too.
  void set_immediate_exit(bool exit);

  Result<kvm_regs> regs() const { return get<kvm_regs>(fd_, KVM_GET_REGS, "KVM_GET_REGS"); }
  Status set_regs(const kvm_regs& v) { return set(fd_, KVM_SET_REGS, "KVM_SET_REGS", v); }
  Result<kvm_sregs> sregs() const { return get<kvm_sregs>(fd_, KVM_GET_SREGS, "KVM_GET_SREGS"); }
  Status set_sregs(const kvm_sregs& v) { return set(fd_, KVM_SET_SREGS, "KVM_SET_SREGS", v); }
  Result<kvm_sregs2> sregs2() const { return get<kvm_sregs2>(fd_, KVM_GET_SREGS2, "KVM_GET_SREGS2"); }
  Status set_sregs2(const kvm_sregs2& v) { return set(fd_, KVM_SET_SREGS2, "KVM_SET_SREGS2", v); }
  Result<kvm_xcrs> xcrs() const { return get<kvm_xcrs>(fd_, KVM_GET_XCRS, "KVM_GET_XCRS"); }
  Status set_xcrs(const kvm_xcrs& v) { return set(fd_, KVM_SET_XCRS, "KVM_SET_XCRS", v); }
  Result<kvm_debugregs> debugregs() const { return get<kvm_debugregs>(fd_, KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS"); }
  Status set_debugregs(const kvm_debugregs& v) { return set(fd_, KVM_SET_DEBUGREGS, "KVM_SET_DEBUGREGS", v); }
  Result<kvm_vcpu_events> events() const { return get<kvm_vcpu_events>(fd_, KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS"); }
  Status set_events(const kvm_vcpu_events& v) { return set(fd_, KVM_SET_VCPU_EVENTS, "KVM_SET_VCPU_EVENTS", v); }
  Result<kvm_lapic_state> lapic() const { return get<kvm_lapic_state>(fd_, KVM_GET_LAPIC, "KVM_GET_LAPIC"); }
  Status set_lapic(const kvm_lapic_state& v) { return set(fd_, KVM_SET_LAPIC, "KVM_SET_LAPIC", v); }
  Result<kvm_mp_state> mp_state() const { return get<kvm_mp_state>(fd_, KVM_GET_MP_STATE, "KVM_GET_MP_STATE"); }
  Status set_mp_state(const kvm_mp_state& v) { return set(fd_, KVM_SET_MP_STATE, "KVM_SET_MP_STATE", v); }

  /// The XSAVE area in standard format. The size is what the kernel uses (KVM_CAP_XSAVE2), at least 4096.
  Result<std::vector<u8>> xsave(u64 size_bytes) const;
  Status set_xsave(std::span<const u8> area);
  /// Reads the listed registers; those that this vCPU lacks are left out.
  Result<MsrEntries> msrs(std::span<const u32> indices) const;
  /// Writes in order; the error names the first register that was refused.
  Status set_msrs(std::span<const kvm_msr_entry> entries);
  Status set_cpuid(std::span<const kvm_cpuid_entry2> entries);
  Status set_guest_debug(const kvm_guest_debug& v) { return set(fd_, KVM_SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG", v); }
  /// The signals that are blocked while the guest runs.
  Status set_signal_mask(u64 blocked);
  /// Linear to physical, nullopt if not mapped.
  std::optional<u64> translate(u64 linear) const;
  /// Tells a guest with kvmclock that it was paused, so that its watchdogs keep quiet. Fails without kvmclock.
  Status notify_paused() {
    TRY(call(fd_, KVM_KVMCLOCK_CTRL, "KVM_KVMCLOCK_CTRL", u64{0}));
    return {};
  }

 private:
  Fd fd_;
  Mapping run_;
  Fd stats_;
};

/// One virtual machine.
class VmFd {
 public:
  VmFd() = default;
  VmFd(Fd fd, u64 run_size) : fd_(std::move(fd)), run_size_(run_size), stats_(open_statistics(fd_)) {}

  const Fd& statistics() const { return stats_; }
  int extension(int capability) const;  // 0 if missing
  Status enable(u32 capability, u64 argument);
  Result<VcpuFd> create_vcpu(u32 id);

  Status set_tss_address(u64 gpa);
  Status set_identity_map_address(u64 gpa);
  Status set_memory_region(const kvm_userspace_memory_region& v) {
    return set(fd_, KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION", v);
  }
  /// A bit per page written since the last call.
  Status dirty_log(u32 slot, std::span<u64> bitmap) const;
  Status ioeventfd(const kvm_ioeventfd& v) { return set(fd_, KVM_IOEVENTFD, "KVM_IOEVENTFD", v); }
  Status irqfd(const kvm_irqfd& v) { return set(fd_, KVM_IRQFD, "KVM_IRQFD", v); }

  Status create_irqchip();
  Status create_pit(u32 flags);
  Status drop_late_pit_ticks();
  Status set_gsi_routing(std::span<const kvm_irq_routing_entry> entries);
  Status set_irq_line(u32 gsi, bool level);
  /// Sends one message; true if a vCPU took it.
  Result<bool> signal_msi(u64 address, u32 data);

  Result<kvm_irqchip> irqchip(u32 id) const;  // KVM_IRQCHIP_*
  Status set_irqchip(const kvm_irqchip& v) { return set(fd_, KVM_SET_IRQCHIP, "KVM_SET_IRQCHIP", v); }
  Result<kvm_pit_state2> pit() const { return get<kvm_pit_state2>(fd_, KVM_GET_PIT2, "KVM_GET_PIT2"); }
  Status set_pit(const kvm_pit_state2& v) { return set(fd_, KVM_SET_PIT2, "KVM_SET_PIT2", v); }
  Result<kvm_clock_data> clock() const { return get<kvm_clock_data>(fd_, KVM_GET_CLOCK, "KVM_GET_CLOCK"); }
  Status set_clock(const kvm_clock_data& v) { return set(fd_, KVM_SET_CLOCK, "KVM_SET_CLOCK", v); }

 private:
  Fd fd_;
  u64 run_size_ = 0;
  Fd stats_;
};

/// /dev/kvm itself.
class System {
 public:
  /// Opens /dev/kvm and checks that its API version is 12.
  static Result<System> open();
  /// The same with a descriptor that somebody handed over.
  static Result<System> adopt(Fd fd);

  int extension(int capability) const;
  Result<VmFd> create_vm() const;
  Result<CpuidEntries> supported_cpuid() const;
  /// Registers that saved state must hold.
  Result<std::vector<u32>> msr_indices() const;

 private:
  System(Fd fd, u64 run_size) : fd_(std::move(fd)), run_size_(run_size) {}

  Fd fd_;
  u64 run_size_;
};

}  // namespace atl::cpu::kvm
