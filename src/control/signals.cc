#include "control/signals.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <initializer_list>

#include <fmt/format.h>

#include "base/log.h"
#include "control/chardev/terminal.h"

namespace atl::control {
namespace {

std::string process_name(u32 pid) {
  auto name = read_file(fmt::format("/proc/{}/comm", pid), 256);
  if (!name || name->empty()) return "<unknown process>";
  name->pop_back();
  return *name;
}

}  // namespace

Result<std::unique_ptr<Signals>> Signals::create(Loop& loop, std::function<void()> on_end) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT}) sigaddset(&set, number);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return os_error("signalfd");
  return std::unique_ptr<Signals>(new Signals(loop, std::move(fd), std::move(on_end)));
}

Signals::Signals(Loop& loop, Fd fd, std::function<void()> on_end)
    : fd_(std::move(fd)), on_end_(std::move(on_end)), watch_(loop, fd_.get(), POLLIN, [this](u32) { read_one(); }) {}

void Signals::read_one() {
  signalfd_siginfo info;
  if (::read(fd_.get(), &info, sizeof info) != sizeof info) return;
  switch (info.ssi_signo) {
    case SIGTSTP: return Terminal::suspend();
    case SIGCONT: return Terminal::enter_again();
    default: break;
  }
  log_info("terminating on signal {} from pid {} ({})", info.ssi_signo, info.ssi_pid, process_name(info.ssi_pid));
  on_end_();
}

}  // namespace atl::control
