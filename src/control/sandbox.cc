#include "control/sandbox.h"

#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include <cerrno>
#include <memory>
#include <span>

#include <fmt/format.h>

namespace atl::control {
namespace {

struct FilterDeleter {
  void operator()(void* filter) const { ::seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, FilterDeleter>;

/// Changing the host, its kernel or its clock, and reaching into other processes.
constexpr int kSystem[] = {
    SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(syslog), SCMP_SYS(mount), SCMP_SYS(umount2),
    SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen), SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(pivot_root),
    SCMP_SYS(chroot), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(init_module), SCMP_SYS(finit_module),
    SCMP_SYS(delete_module), SCMP_SYS(acct), SCMP_SYS(quotactl), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime),
    SCMP_SYS(adjtimex), SCMP_SYS(clock_adjtime), SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(vhangup),
    SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise), SCMP_SYS(kcmp), SCMP_SYS(pidfd_getfd), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
    SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(keyctl), SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at),
    SCMP_SYS(fanotify_init), SCMP_SYS(lookup_dcookie), SCMP_SYS(userfaultfd), SCMP_SYS(unshare), SCMP_SYS(setns),
    SCMP_SYS(personality), SCMP_SYS(mknod), SCMP_SYS(mknodat), SCMP_SYS(move_pages), SCMP_SYS(migrate_pages),
};

/// What no program has used for many years.
constexpr int kObsolete[] = {
    SCMP_SYS(uselib), SCMP_SYS(ustat), SCMP_SYS(sysfs), SCMP_SYS(_sysctl), SCMP_SYS(create_module), SCMP_SYS(get_kernel_syms),
    SCMP_SYS(query_module), SCMP_SYS(nfsservctl), SCMP_SYS(getpmsg), SCMP_SYS(putpmsg), SCMP_SYS(afs_syscall), SCMP_SYS(tuxcall),
    SCMP_SYS(security), SCMP_SYS(vserver), SCMP_SYS(epoll_ctl_old), SCMP_SYS(epoll_wait_old), SCMP_SYS(modify_ldt),
    SCMP_SYS(remap_file_pages), SCMP_SYS(get_thread_area), SCMP_SYS(set_thread_area),
};

constexpr int kElevation[] = {
    SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid), SCMP_SYS(setresuid), SCMP_SYS(setresgid),
    SCMP_SYS(setfsuid), SCMP_SYS(setfsgid), SCMP_SYS(setgroups), SCMP_SYS(capset),
};

constexpr int kSpawn[] = {SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(execve), SCMP_SYS(execveat)};

constexpr int kResources[] = {
    SCMP_SYS(setpriority), SCMP_SYS(ioprio_set), SCMP_SYS(sched_setparam), SCMP_SYS(sched_setscheduler), SCMP_SYS(sched_setattr),
    SCMP_SYS(sched_setaffinity), SCMP_SYS(setrlimit), SCMP_SYS(set_mempolicy), SCMP_SYS(mbind),
};

Error failed(const char* what, int r) { return os_error(fmt::format("sandbox: {}", what), -r); }

Status deny(const Filter& filter, std::span<const int> calls) {
  for (int call : calls) {
    int r = ::seccomp_rule_add(filter.get(), SCMP_ACT_KILL_PROCESS, call, 0);
    if (r < 0 && r != -EDOM) return failed("add a rule", r);  // EDOM: not a call of this architecture
  }
  return {};
}

// Threads are made by clone with CLONE_THREAD; without it, it is a new process. The flags of clone3 are out of a filter's
// sight, so it does not exist: the C library falls back to clone.
Status deny_new_processes(const Filter& filter) {
  TRY(deny(filter, kSpawn));
  int r = ::seccomp_rule_add(filter.get(), SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
  if (r == 0) r = ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  return r == 0 ? Status() : failed("deny new processes", r);
}

// Reading limits is fine (the C library does it for stacks), setting them is not.
Status deny_resource_control(const Filter& filter) {
  TRY(deny(filter, kResources));
  int r = ::seccomp_rule_add(filter.get(), SCMP_ACT_KILL_PROCESS, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_NE, 0));
  return r == 0 ? Status() : failed("deny resource control", r);
}

// Pushing characters into a terminal's input would let the process type commands into its user's shell.
Status deny_typing(const Filter& filter) {
  int r = ::seccomp_rule_add(filter.get(), SCMP_ACT_KILL_PROCESS, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, TIOCSTI));
  return r == 0 ? Status() : failed("deny TIOCSTI", r);
}

}  // namespace

Status install_sandbox(const SandboxConfig& config) {
  if (!config.enabled) return {};
  Filter filter(::seccomp_init(SCMP_ACT_ALLOW));
  if (!filter) return Error(ErrorKind::Unsupported, "sandbox: libseccomp does not work here");
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  TRY(deny(filter, kSystem));
  TRY(deny_typing(filter));
  if (!config.allow_obsolete) TRY(deny(filter, kObsolete));
  if (config.elevation == SandboxConfig::Elevation::Deny) TRY(deny(filter, kElevation));
  if (config.elevation != SandboxConfig::Elevation::Allow && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
    return os_error("sandbox: give up new privileges");
  if (!config.allow_spawn) TRY(deny_new_processes(filter));
  if (!config.allow_resource_control) TRY(deny_resource_control(filter));
  if (int r = ::seccomp_load(filter.get()); r < 0) return failed("load the filter", r);
  return {};
}

}  // namespace atl::control
