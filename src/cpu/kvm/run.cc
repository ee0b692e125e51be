// KVM_RUN and its exits.
//
// A kick sets `immediate_exit` and sends kKickSignal to the thread. The signal is blocked but while KVM_RUN is inside the guest
// (KVM_SET_SIGNAL_MASK), so it needs no handler and never disturbs a system call of ours.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/core.h>

#include "base/endian.h"
#include "cpu/kvm/vcpu.h"

namespace atl::cpu::kvm {

namespace {

/// Ignored by default, should it ever reach a thread that is not a vCPU's any more.
constexpr int kKickSignal = SIGURG;

/// A bus takes 1, 2, 4 or 8 bytes; KVM also hands over the pieces of accesses that cross pages.
template <class F>
void for_each_bus_access(u64 size, F access) {
  for (u64 done = 0; done < size;) {
    unsigned width = 8;
    while (width > size - done) width /= 2;
    access(done, width);
    done += width;
  }
}

}  // namespace

void KvmVcpu::kick() {
  kicked_.store(true);
  interrupt_kvm_run();
}

void KvmVcpu::interrupt_kvm_run() {
  fd_.set_immediate_exit(true);
  if (int thread = running_thread_.load()) ::syscall(SYS_tgkill, ::getpid(), thread, kKickSignal);
}

void KvmVcpu::drain_kick_signal() {
  sigset_t kick;
  sigemptyset(&kick);
  sigaddset(&kick, kKickSignal);
  timespec now{};
  ::sigtimedwait(&kick, nullptr, &now);
}

Status KvmVcpu::prepare_thread() {
  sigset_t kick, others;
  sigemptyset(&kick);
  sigaddset(&kick, kKickSignal);
  if (int err = ::pthread_sigmask(SIG_BLOCK, &kick, &others)) return os_error("block the kick signal", err);
  u64 blocked = load_le<u64>(&others);  // glibc's sigset_t starts with the kernel's 64 signals
  TRY(fd_.set_signal_mask(blocked & ~(u64{1} << (kKickSignal - 1))));
  thread_prepared_ = true;
  return {};
}

RunExit KvmVcpu::run() {
  if (!thread_prepared_) {
    if (Status prepared = prepare_thread(); !prepared) return fail(prepared.error().text());
  }
  running_thread_ = static_cast<int>(::syscall(SYS_gettid));
  set_running(true);
  std::optional<RunExit> exit;
  while (!exit) {
    switch (int err = fd_.run()) {
      case 0:
        count(counts_.exits);
        exit = handle_exit();
        break;
      case EINTR:
        count(counts_.signal_exits);
        // In this order a kick that comes between the lines is seen now or makes the next KVM_RUN return at once.
        fd_.set_immediate_exit(false);
        drain_kick_signal();
        set_running(true);
        if (kicked_.exchange(false)) exit = RunExit::Kicked;
        break;
      case EAGAIN: break;  // an application processor has got its SIPI
      default: exit = fail(os_error("KVM_RUN", err).text());
    }
  }
  set_running(false);
  running_thread_ = 0;
  return *exit;
}

void KvmVcpu::set_running(bool running) {
  Lock lock(request_mutex_);
  running_ = running;
  serve_request();
}

void KvmVcpu::serve_request() {
  if (!lapic_request_) return;
  lapic_request_->emplace(fd_.lapic());
  lapic_request_ = nullptr;
  request_served_.notify_all();
}

Result<kvm_lapic_state> KvmVcpu::lapic() {
  Lock lock(request_mutex_);
  if (!running_) return fd_.lapic();
  std::optional<Result<kvm_lapic_state>> answer;
  lapic_request_ = &answer;
  interrupt_kvm_run();
  while (!answer) request_served_.wait(lock);
  return *std::move(answer);
}

RunExit KvmVcpu::fail(std::string why) {
  failure_ = std::move(why);
  return RunExit::Failed;
}

std::optional<RunExit> KvmVcpu::handle_exit() {
  const kvm_run& run = fd_.run_page();
  switch (run.exit_reason) {
    case KVM_EXIT_IO: handle_io(); return std::nullopt;
    case KVM_EXIT_MMIO: handle_mmio(); return std::nullopt;
    case KVM_EXIT_INTR:
    case KVM_EXIT_HLT:  // handled by the in-kernel APIC; one that got here goes on waiting there
    case KVM_EXIT_IRQ_WINDOW_OPEN: return std::nullopt;
    case KVM_EXIT_SHUTDOWN:
    case KVM_EXIT_SYSTEM_EVENT: return RunExit::Reset;
    case KVM_EXIT_DEBUG: return handle_debug();
    case KVM_EXIT_INTERNAL_ERROR: return handle_internal_error();
    case KVM_EXIT_FAIL_ENTRY:
      return fail(fmt::format("KVM cannot enter the guest: hardware reason {:#x}",
                              static_cast<u64>(run.fail_entry.hardware_entry_failure_reason)));
    default: return fail(fmt::format("KVM exit {} is unknown", run.exit_reason));
  }
}

void KvmVcpu::handle_io() {
  count(counts_.io_exits);
  const auto io = fd_.run_page().io;
  u8* data = fd_.io_data();
  for (u32 i = 0; i < io.count; ++i, data += io.size) {
    if (io.direction == KVM_EXIT_IO_OUT) {
      port_bus_.write(io.port, load_le_n(data, io.size), io.size);
    } else {
      store_le_n(data, port_bus_.read(io.port, io.size), io.size);
    }
  }
}

void KvmVcpu::handle_mmio() {
  count(counts_.mmio_exits);
  auto& mmio = fd_.run_page().mmio;
  for_each_bus_access(std::min<u32>(mmio.len, sizeof mmio.data), [&](u64 offset, unsigned width) {
    u8* data = &mmio.data[offset];
    if (mmio.is_write) {
      memory_bus_.write(mmio.phys_addr + offset, load_le_n(data, width), width);
    } else {
      store_le_n(data, memory_bus_.read(mmio.phys_addr + offset, width), width);
    }
  });
}

/// KVM's emulator knows few instructions; the interpreter executes the one it stopped at.
std::optional<RunExit> KvmVcpu::handle_internal_error() {
  const kvm_run& run = fd_.run_page();
  u32 suberror = run.internal.suberror;
  if (suberror != KVM_INTERNAL_ERROR_EMULATION) return fail(fmt::format("KVM internal error, suberror {}", suberror));
  if (!stepper_) return fail("KVM cannot emulate an instruction, and there is no interpreter to help out");
  Status stepped = step_instruction();
  if (!stepped) {
    if (stepped.error().kind() == ErrorKind::Cancelled) return RunExit::Reset;
    return fail("interpret what KVM cannot emulate: " + stepped.error().text());
  }
  count(counts_.interpreted);
  return std::nullopt;
}

RunExit KvmVcpu::handle_debug() {
  const auto& arch = fd_.run_page().debug.arch;
  debug_hit_.reset();
  for (size_t i = 0; i < debug_.points.size() && i < 4; ++i) {
    if (arch.dr6 >> i & 1) debug_hit_ = debug_.points[i];
  }
  return RunExit::Debug;
}

Status KvmVcpu::set_debug(const DebugRequest& request) {
  using Kind = DebugRequest::Point::Kind;
  if (request.points.size() > 4) return Error(ErrorKind::Unsupported, "the processor has four breakpoint registers");
  kvm_guest_debug debug{};
  if (request.single_step) debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
  if (!request.points.empty()) debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
  u64 dr7 = 0x400;
  for (size_t i = 0; i < request.points.size(); ++i) {
    const auto& point = request.points[i];
    if (point.length != 1 && point.length != 2 && point.length != 4 && point.length != 8) {
      return Error(ErrorKind::Invalid, "a breakpoint covers 1, 2, 4 or 8 bytes");
    }
    // SDM vol. 3, figure 18-1: R/W and LEN fields; an execution breakpoint has length field 0.
    u64 access = point.kind == Kind::Execute ? 0 : point.kind == Kind::Write ? 1 : 3;
    u64 length = point.kind == Kind::Execute ? 0 : point.length == 8 ? 2 : point.length - 1u;
    dr7 |= u64{2} << (2 * i) | (access | length << 2) << (16 + 4 * i);
    debug.arch.debugreg[i] = point.address;
  }
  debug.arch.debugreg[7] = dr7;
  debug_ = request;
  return fd_.set_guest_debug(debug);
}

/// By a message to its local APIC: a vCPU ioctl would wait until the guest leaves.
Status KvmVcpu::inject_nmi() {
  constexpr u32 kNmiDelivery = 4 << 8;
  TRY(vm_.fd.signal_msi(0xfee00000 | u64{index_} << 12, kNmiDelivery));
  return {};
}

Counters KvmVcpu::counters() const {
  auto read = [](const std::atomic<u64>& counter) { return counter.load(std::memory_order_relaxed); };
  return {{"exits", read(counts_.exits)},
          {"io_exits", read(counts_.io_exits)},
          {"mmio_exits", read(counts_.mmio_exits)},
          {"signal_exits", read(counts_.signal_exits)},
          {"insn_emulation_by_interpreter", read(counts_.interpreted)}};
}

}  // namespace atl::cpu::kvm
