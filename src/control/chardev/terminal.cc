#include "control/chardev/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <initializer_list>

namespace atl::control {
namespace {

constexpr int kCrashSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGQUIT, SIGTRAP, SIGSYS};

// The one mutable global of this folder: a crash handler has nothing else to reach the saved settings by. Written on the
// control thread, before the handlers that read it are installed.
struct Saved {
  volatile sig_atomic_t active = 0;
  bool is_terminal = false;
  termios found{};
  termios raw{};
  int flags[2] = {0, 0};
};
Saved g_saved;

void set_all(const termios& settings, bool nonblocking) {
  for (int fd : {STDIN_FILENO, STDOUT_FILENO}) {
    int flags = g_saved.flags[fd];
    if (flags >= 0) ::fcntl(fd, F_SETFL, nonblocking ? flags | O_NONBLOCK : flags);
  }
  if (g_saved.is_terminal) ::tcsetattr(STDIN_FILENO, TCSANOW, &settings);
}

// Only async-signal-safe calls: fcntl, tcsetattr, signal, raise.
void on_crash(int number) {
  Terminal::restore();
  ::signal(number, SIG_DFL);
  ::raise(number);
}

void install_crash_handlers() {
  struct sigaction action{};
  action.sa_handler = on_crash;
  action.sa_flags = SA_ONSTACK | SA_RESETHAND;
  for (int number : kCrashSignals) ::sigaction(number, &action, nullptr);
}

termios raw_settings(termios settings, bool signals) {
  // Output processing stays on, so that a bare line feed still starts a new line.
  settings.c_iflag &= ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  settings.c_oflag |= OPOST;
  settings.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN);
  if (!signals) settings.c_lflag &= ~static_cast<tcflag_t>(ISIG);
  settings.c_cflag &= ~static_cast<tcflag_t>(CSIZE | PARENB);
  settings.c_cflag |= CS8;
  settings.c_cc[VMIN] = 1;
  settings.c_cc[VTIME] = 0;
  return settings;
}

}  // namespace

Terminal::Terminal(bool signals) {
  g_saved.is_terminal = ::tcgetattr(STDIN_FILENO, &g_saved.found) == 0;
  g_saved.raw = raw_settings(g_saved.found, signals);
  for (int fd : {STDIN_FILENO, STDOUT_FILENO}) g_saved.flags[fd] = ::fcntl(fd, F_GETFL);
  g_saved.active = 1;
  install_crash_handlers();
  set_all(g_saved.raw, true);
}

Terminal::~Terminal() {
  restore();
  g_saved.active = 0;
}

void Terminal::restore() {
  if (g_saved.active) set_all(g_saved.found, false);
}

void Terminal::enter_again() {
  if (g_saved.active) set_all(g_saved.raw, true);
}

void Terminal::suspend() {
  restore();
  ::kill(::getpid(), SIGSTOP);
  enter_again();
}

}  // namespace atl::control
