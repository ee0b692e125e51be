#include "cpu/soft/direct/helper.h"

#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "cpu/soft/direct/confine.h"

namespace atl::soft::direct {

Result<std::unique_ptr<Helper>> Helper::create() {
  std::unique_ptr<Helper> helper(new Helper());
  TRY(helper->start());
  return helper;
}

Status Helper::start() {
  memory_file_ = Fd(::memfd_create("atoll-direct", MFD_CLOEXEC));
  if (!memory_file_) return os_error("create a memfd");
  if (::ftruncate(memory_file_.get(), kExchangeBytes) < 0) return os_error("ftruncate");
  memory_ = TRY(Mapping::of_file(memory_file_, 0, kExchangeBytes, PROT_READ | PROT_WRITE, MAP_SHARED));
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) return os_error("socketpair");
  Fd mine(sockets[0]), its(sockets[1]);
  const pid_t parent = ::getpid();
  pid_ = static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (pid_ < 0) return os_error("fork");
  if (pid_ == 0) become_helper(memory_file_.get(), its.get(), parent);
  its.reset();
  process_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  alive_ = process_.valid();
  if (!alive_) return os_error("pidfd_open");
  TRY(receive_listener(mine.get()));
  memory_file_.reset();
  if (!receive()) return Error(ErrorKind::Unsupported, "the process for direct execution does not start");
  return {};
}

/// The child's only message: an error of its setting up, or the descriptor that its filter notifies.
Status Helper::receive_listener(int socket) {
  SetUpReport report{};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec data{&report, sizeof report};
  msghdr message{.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t size;
  do size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (size == sizeof report && report.error) return os_error(step_name(report.step), report.error);
  if (size != sizeof report || !header || header->cmsg_type != SCM_RIGHTS)
    return Error(ErrorKind::Unsupported, "the process for direct execution ended");
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  listener_ = Fd(fd);
#ifdef SECCOMP_IOCTL_NOTIF_SET_FLAGS
  ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);  // an optimization
#endif
  return {};
}

Helper::~Helper() { end(); }

void Helper::end() {
  alive_ = false;
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

void Helper::kick() const { ::syscall(SYS_pidfd_send_signal, process_.get(), kKickSignal, nullptr, 0); }

/// The helper's next system call. False: it is dead.
bool Helper::receive() {
  for (;;) {
    seccomp_notif notification{};
    if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification) == 0) {
      pending_.id = notification.id;
      pending_.from = notification.data.instruction_pointer;
      pending_.call.number = static_cast<u64>(notification.data.nr);
      std::copy_n(notification.data.args, 6, pending_.call.arguments.begin());
      return true;
    }
    if (errno == EINTR) continue;
    siginfo_t info{};
    // ENOENT without a death: a signal took the call back.
    const int r = ::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &info, WEXITED | WNOHANG | WNOWAIT);
    if (errno != ENOENT || r < 0 || info.si_pid != 0) return false;
  }
}

bool Helper::answer(u64 value, u32 flags) {
  seccomp_notif_resp response{.id = pending_.id, .val = static_cast<i64>(value), .error = 0, .flags = flags};
  return ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) == 0;
}

Helper::Exit Helper::run(std::span<const Order> orders) {
  Exit exit;
  if (!alive_ || orders.size() > Exchange::kOrders) return exit;
  std::copy(orders.begin(), orders.end(), exchange().orders.begin());
  exchange().order_count = orders.size();
  bool ok = answer(kGo, 0) && receive();
  while (ok && pending_.call.number != kHandOver) {
    const bool ordered = exit.orders_done < orders.size() && pending_.call == orders[exit.orders_done];
    ok = ordered && answer(0, SECCOMP_USER_NOTIF_FLAG_CONTINUE) && receive();
    if (ok) ++exit.orders_done;
  }
  if (!ok) end();
  exit.alive = ok;
  exit.context = pending_.call.arguments[2];
  return exit;
}

Result<int> Helper::give(const Fd& fd) {
  seccomp_notif_addfd request{.id = pending_.id, .flags = 0, .srcfd = static_cast<u32>(fd.get()), .newfd = 0, .newfd_flags = O_CLOEXEC};
  const int its = ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &request);
  if (its < 0) return os_error("give a descriptor to the process for direct execution");
  return its;
}

}  // namespace atl::soft::direct
