// Order matters: the listener has to be sent after the first filter is in force, and all else forbidden after that. The address space is
// emptied by the VMM's first orders.
#include "cpu/soft/direct/confine.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <iterator>

#include "cpu/soft/direct/exchange.h"
#include "cpu/soft/direct/stub.h"

namespace atl::soft::direct {
namespace {

enum Step : u32 { kParent, kThreadState, kMemory, kSignals, kPrivileges, kTsc, kListener, kFilter, kSteps };

constexpr std::array<const char*, kSteps> kNames = {
    "direct execution: follow the parent's death", "direct execution: give up what the C library registered",
    "direct execution: map the stub (vm.mmap_min_addr above 64 KiB?)", "direct execution: install signal handlers",
    "direct execution: give up privileges", "direct execution: trap RDTSC", "direct execution: seccomp user notification",
    "direct execution: install the filter"};

struct Failure {
  int socket;
  void check(bool ok, Step step) const {
    if (ok) return;
    SetUpReport report{step, errno};
    ::write(socket, &report, sizeof report);
    ::_exit(1);
  }
};

/// Or the kernel would write to memory that is the guest's.
bool unregister_thread() {
  ::syscall(SYS_set_robust_list, nullptr, 24);
  ::syscall(SYS_set_tid_address, nullptr);
  if (__rseq_size == 0) return true;
  auto* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  for (unsigned size = 20; size <= 1024; ++size)  // that of the registration is not told
    if (::syscall(SYS_rseq, area, size, 1, RSEQ_SIG) == 0) return true;
  return false;
}

bool map_fixed(u64 at, u64 size, int protection, int file) {
  const int flags = MAP_FIXED_NOREPLACE | (file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
  return ::mmap(reinterpret_cast<void*>(at), size, protection, flags, file, 0) == reinterpret_cast<void*>(at);
}

bool map_stub(int exchange_file) {
  if (!map_fixed(kStub, kStubBytes, PROT_READ | PROT_WRITE, -1)) return false;
  auto* stub = reinterpret_cast<u8*>(kStub);
  asm volatile("" : "+r"(stub));
  const auto code = stub_code();
  for (size_t i = 0; i < code.size(); ++i) stub[i] = code[i];
  return ::mprotect(stub, kStubBytes, PROT_READ | PROT_EXEC) == 0 &&
         map_fixed(kExchange, kExchangeBytes, PROT_READ | PROT_WRITE, exchange_file);
}

/// The kernel's, without the C library's restorer, which lies in memory that goes away. The stub never returns by sigreturn.
struct KernelAction {
  u64 handler, flags, restorer, mask;
};

bool set_up_signals() {
  stack_t stack{};
  stack.ss_sp = reinterpret_cast<void*>(kExchange + offsetof(Exchange, stack));
  stack.ss_size = sizeof(Exchange::stack);
  if (::syscall(SYS_sigaltstack, &stack, nullptr) != 0) return false;
  constexpr u64 kRestorer = 0x04000000;
  for (int number = 1; number < 65; ++number) {
    const bool ours = number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE || number == SIGTRAP ||
                      number == SIGSYS || number == kKickSignal;
    KernelAction action{};
    if (ours) action = {kStub + stub_handler(), SA_SIGINFO | SA_ONSTACK | SA_NODEFER | kRestorer, kStub, 0};
    const bool fixed = number == SIGKILL || number == SIGSTOP;
    if (!fixed && ::syscall(SYS_rt_sigaction, number, &action, nullptr, 8) != 0) return false;
  }
  const u64 none = 0;
  return ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, 8) == 0;
}

bool give_up_privileges() {
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::prctl(PR_SET_NAME, "atoll-direct");
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

/// The calls that the stub makes get `asked`, all others `otherwise`.
int install_filter(u32 asked, u32 otherwise, unsigned flags) {
  constexpr u32 kNumber = offsetof(seccomp_data, nr), kArch = offsetof(seccomp_data, arch),
                kIp = offsetof(seccomp_data, instruction_pointer);
  const sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kArch),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 9),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIp + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 7),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIp),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kStub, 0, 5),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, kStub + kStubBytes, 4, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kHandOver, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, otherwise),
      BPF_STMT(BPF_RET | BPF_K, asked),
  };
  const sock_fprog program{std::size(filter), const_cast<sock_filter*>(filter)};
  return static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

bool send_listener(int socket, int listener) {
  SetUpReport report{};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec data{&report, sizeof report};
  msghdr message{.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &listener, sizeof listener);
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0;
}

}  // namespace

const char* step_name(u32 step) { return step < kSteps ? kNames[step] : "direct execution"; }

void become_helper(int exchange_file, int socket, pid_t parent) {
  const Failure failure{socket};
  failure.check(::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::getppid() == parent, kParent);
  failure.check(unregister_thread(), kThreadState);
  failure.check(map_stub(exchange_file), kMemory);
  failure.check(set_up_signals(), kSignals);
  failure.check(give_up_privileges(), kPrivileges);
  failure.check(::prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0, kTsc);
  const int listener = install_filter(SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ALLOW,
                                      SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  failure.check(listener >= 0, kListener);
  failure.check(send_listener(socket, listener), kListener);
  ::syscall(SYS_close_range, 0U, ~0U, 0U);
  if (install_filter(SECCOMP_RET_ALLOW, SECCOMP_RET_TRAP, 0) == 0) reinterpret_cast<void (*)()>(kStub + stub_entry())();
  __builtin_trap();
}

}  // namespace atl::soft::direct
