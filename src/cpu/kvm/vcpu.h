// One vCPU on KVM: the KVM_RUN loop, its exits, and the exchange of its state.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <string>

#include "base/sync.h"
#include "cpu/kvm/wrappers.h"
#include "cpu/vm.h"

namespace atl::cpu::kvm {

/// What all vCPUs of a VM share.
struct VmShared {
  VmFd fd;
  memory::AddressSpace* memory = nullptr;
  memory::AddressSpace* ports = nullptr;
  std::vector<u32> msr_indices;    // saved by vCPUs
  std::vector<u32> stepper_msrs;   // those an interpreted instruction may read
  u64 xsave_size = 0;
  bool has_sregs2 = false, has_xcrs = false, has_debugregs = false;
};

class KvmVcpu final : public Vcpu {
 public:
  static Result<std::unique_ptr<KvmVcpu>> create(VmShared& vm, u32 index, const CpuidTable& cpuid,
                                                 std::unique_ptr<InstructionStepper> stepper);

  RunExit run() override;
  void kick() override;
  Result<VcpuState> get_state() override;
  Status set_state(const VcpuState& state) override;
  Status inject_nmi() override;
  Status set_debug(const DebugRequest& request) override;
  std::optional<DebugRequest::Point> debug_hit() const override { return debug_hit_; }
  std::string failure() const override { return failure_; }
  std::optional<GuestAddr> translate(u64 linear) override { return fd_.translate(linear); }
  Counters counters() const override;
  std::vector<Statistic> statistics() const override { return read_kvm_statistics(fd_.statistics()); }
  /// The VM was paused and goes on. vCPU not in run().
  void notify_paused() { (void)fd_.notify_paused(); }  // a guest without kvmclock has no watchdog to tell
  /// The control thread, also while the vCPU runs: an ioctl of ours would wait until the guest leaves KVM_RUN, so run() does it.
  Result<kvm_lapic_state> lapic() EXCLUDES(request_mutex_);

 private:
  KvmVcpu(VmShared& vm, u32 index, VcpuFd fd, std::unique_ptr<InstructionStepper> stepper);

  // run.cc. Handlers return nothing to go on with KVM_RUN.
  Status prepare_thread();
  std::optional<RunExit> handle_exit();
  void handle_io();
  void handle_mmio();
  std::optional<RunExit> handle_internal_error();
  RunExit handle_debug();
  RunExit fail(std::string why);
  void drain_kick_signal();
  void interrupt_kvm_run();
  void set_running(bool running) EXCLUDES(request_mutex_);
  void serve_request() REQUIRES(request_mutex_);

  // vcpu_state.cc
  Status read_registers(VcpuState& state);
  Status write_registers(const VcpuState& state);
  Status write_sregs(const VcpuState& state);
  Status write_xsave(const XsaveArea& area);
  Status write_msrs(const MsrValues& values);
  Status step_instruction();

  struct Counts {
    std::atomic<u64> exits{0}, io_exits{0}, mmio_exits{0}, signal_exits{0}, interpreted{0};
  };
  static void count(std::atomic<u64>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

  VmShared& vm_;
  const u32 index_;
  VcpuFd fd_;
  std::unique_ptr<InstructionStepper> stepper_;
  memory::BusView memory_bus_, port_bus_;
  MsrValues power_on_msrs_;
  DebugRequest debug_;
  std::optional<DebugRequest::Point> debug_hit_;
  std::string failure_;
  Counts counts_;
  bool thread_prepared_ = false;
  std::atomic<bool> kicked_{false};
  std::atomic<int> running_thread_{0};  // the kernel's id of the thread in run(), 0 outside

  Mutex request_mutex_;
  std::condition_variable_any request_served_;
  bool running_ GUARDED_BY(request_mutex_) = false;
  std::optional<Result<kvm_lapic_state>>* lapic_request_ GUARDED_BY(request_mutex_) = nullptr;
};

}  // namespace atl::cpu::kvm
