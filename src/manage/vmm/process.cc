#include "manage/vmm/process.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/strings.h"

namespace atl::manage {
namespace {

/// What the child tells if it fails before it becomes the program: a step and errno.
struct ChildFailure {
  char step[32];
  int error;
};

/// Everything that the child needs, made before fork(): behind it, in a process with threads, nothing may allocate.
struct Prepared {
  const ProcessRequest& request;
  std::vector<char*> arguments, environment;
  std::vector<int> keep;     // sorted
  std::vector<int> waiting;  // sorted: what is needed until it becomes the program
  int go = -1;            // read end: the parent lets the child go on
  int report = -1;        // write end: ChildFailure
};

[[noreturn]] void give_up(const Prepared& p, const char* step) {
  ChildFailure failure{};
  std::strncpy(failure.step, step, sizeof failure.step - 1);
  failure.error = errno;
  [[maybe_unused]] ssize_t ignored = ::write(p.report, &failure, sizeof failure);
  ::_exit(127);
}

void close_all_but(const std::vector<int>& keep) {
  unsigned from = 3;
  for (int fd : keep) {
    const auto kept = static_cast<unsigned>(fd);
    if (kept > from) ::syscall(SYS_close_range, from, kept - 1, 0);
    from = std::max(from, kept + 1);
  }
  ::syscall(SYS_close_range, from, ~0U, 0);
}

void set_standard_files(const Prepared& p) {
  const int null = ::open("/dev/null", O_RDWR);
  if (null < 0) give_up(p, "open /dev/null");
  const int log = p.request.log >= 0 ? p.request.log : null;
  if (::dup2(null, 0) < 0 || ::dup2(log, 1) < 0 || ::dup2(log, 2) < 0) give_up(p, "standard files");
}

void give_up_privileges(const Prepared& p) {
  const ProcessRequest& r = p.request;
  if (r.user == 0) return;
  // By system calls: the C library's functions wait for threads that exist in the parent only.
  if (::syscall(SYS_setgroups, r.more_groups.size(), r.more_groups.data()) < 0) give_up(p, "setgroups");
  if (::syscall(SYS_setresgid, r.group, r.group, r.group) < 0) give_up(p, "setgid");
  if (::syscall(SYS_setresuid, r.user, r.user, r.user) < 0) give_up(p, "setuid");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) give_up(p, "prctl");
}

[[noreturn]] void run_child(const Prepared& p) {
  ::setsid();
  sigset_t none;
  ::sigemptyset(&none);
  for (int signal = 1; signal < 32; ++signal) ::signal(signal, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::umask(077);
  // The daemon's lock, and the other end of this pipe and of other children's: held on to, nobody would ever learn that the daemon is gone.
  close_all_but(p.waiting);
  char byte;
  if (::read(p.go, &byte, 1) != 1) ::_exit(127);  // the parent gave up, or is gone
  if (::chdir("/") < 0) give_up(p, "chdir");
  set_standard_files(p);
  for (int fd : p.request.descriptors)
    if (::fcntl(fd, F_SETFD, 0) < 0) give_up(p, "descriptors");
  if (p.request.locked_memory_bytes) {
    rlimit limit{p.request.locked_memory_bytes, p.request.locked_memory_bytes};
    if (::setrlimit(RLIMIT_MEMLOCK, &limit) < 0) give_up(p, "setrlimit");
  }
  give_up_privileges(p);
  close_all_but(p.keep);
  ::execve(p.request.program.c_str(), p.arguments.data(), p.environment.data());
  give_up(p, "execve");
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (const auto& text : texts) list.push_back(const_cast<char*>(text.c_str()));
  return list;
}

struct Pipe {
  Fd read, write;
};
Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return os_error("pipe");
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

/// Nothing if the program runs, else what the child says.
Status await_exec(const ProcessRequest& request, const Fd& report) {
  ChildFailure failure{};
  ssize_t got;
  do got = ::read(report.get(), &failure, sizeof failure); while (got < 0 && errno == EINTR);
  if (got == 0) return {};
  if (got != sizeof failure) return atl::Error(ErrorKind::Io, "the new process ended");
  return os_error(fmt::format("{}: {}", request.program, failure.step), failure.error);
}

void collect(pid_t pid) {
  int status;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
}

}  // namespace

Result<ProcessId> start_process(const ProcessRequest& request, const std::function<Status(pid_t)>& before_exec) {
  Pipe go = TRY(make_pipe()), report = TRY(make_pipe());
  Prepared prepared{.request = request, .arguments = pointers(request.arguments), .environment = pointers(request.environment),
                    .keep = request.descriptors, .go = go.read.get(), .report = report.write.get()};
  prepared.arguments.insert(prepared.arguments.begin(), const_cast<char*>(request.program.c_str()));
  prepared.arguments.push_back(nullptr);
  prepared.environment.push_back(nullptr);
  prepared.keep.push_back(prepared.report);
  prepared.waiting = prepared.keep;
  prepared.waiting.push_back(prepared.go);
  if (request.log >= 0) prepared.waiting.push_back(request.log);
  std::sort(prepared.keep.begin(), prepared.keep.end());
  std::sort(prepared.waiting.begin(), prepared.waiting.end());
  const pid_t pid = ::fork();
  if (pid < 0) return os_error("fork");
  if (pid == 0) run_child(prepared);
  report.write.reset();
  go.read.reset();
  Status ready = before_exec ? before_exec(pid) : Status{};
  if (ready && ::write(go.write.get(), "g", 1) != 1) ready = os_error("start the new process");
  go.write.reset();
  if (ready) ready = await_exec(request, report.read);
  auto identity = identify_process(pid);
  if (ready && identity) return *identity;
  ::kill(pid, SIGKILL);
  collect(pid);
  if (!ready) return std::move(ready).error();
  return std::move(identity).error();
}

namespace {

struct Stat {
  char state = '?';
  u64 start_ticks = 0;
};

/// proc(5): the fields behind the name, which may hold anything, in parentheses.
Result<Stat> read_stat(pid_t pid) {
  auto text = read_file(fmt::format("/proc/{}/stat", pid), kPageSize);
  if (!text) return atl::Error(ErrorKind::NotFound, fmt::format("there is no process {}", pid));
  const size_t end = text->rfind(')');
  if (end == std::string::npos) return atl::Error(ErrorKind::Io, "/proc/PID/stat is malformed");
  auto fields = split(std::string_view(*text).substr(end + 2), ' ');
  constexpr size_t kStartTime = 22 - 3;  // the first of them is field 3
  if (fields.size() <= kStartTime) return atl::Error(ErrorKind::Io, "/proc/PID/stat is malformed");
  return Stat{fields[0].empty() ? '?' : fields[0][0], parse_u64(fields[kStartTime]).value_or(0)};
}

}  // namespace

Result<ProcessId> identify_process(pid_t pid) {
  Stat stat = TRY(read_stat(pid));
  return ProcessId{pid, stat.start_ticks};
}

bool is_alive(const ProcessId& process) {
  if (process.pid <= 0) return false;
  auto stat = read_stat(process.pid);
  return stat && stat->start_ticks == process.start_ticks && stat->state != 'Z' && stat->state != 'X';
}

Result<Fd> open_process(const ProcessId& process) {
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  // Looked at after opening: the descriptor stands for whoever has the number now.
  if (!fd || !is_alive(process)) return atl::Error(ErrorKind::NotFound, fmt::format("process {} has ended", process.pid));
  return fd;
}

Status signal_process(const ProcessId& process, int signal) {
  Fd fd = TRY(open_process(process));
  if (::syscall(SYS_pidfd_send_signal, fd.get(), signal, nullptr, 0) < 0) return os_error(fmt::format("signal process {}", process.pid));
  return {};
}

bool wait_for_end(const ProcessId& process, u64 timeout_ns) {
  auto collect_child = [&] { ::waitpid(process.pid, nullptr, WNOHANG); };
  auto fd = open_process(process);
  const u64 deadline = monotonic_ns() + timeout_ns;
  while (fd) {
    const u64 now = monotonic_ns();
    const u64 left_ms = now >= deadline ? 0 : (deadline - now) / 1'000'000 + 1;
    pollfd wait{fd->get(), POLLIN, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(std::min<u64>(left_ms, 60'000)));
    if (ready > 0) break;
    if (ready == 0 && monotonic_ns() >= deadline) return false;
  }
  collect_child();
  return true;
}

}  // namespace atl::manage
