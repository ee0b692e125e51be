#include "client/stat_screen.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "base/strings.h"

namespace atl::client {

Screen::Screen() {
  ::tcgetattr(STDIN_FILENO, &before_);
  termios keys = before_;
  keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
  ::tcsetattr(STDIN_FILENO, TCSANOW, &keys);
  fmt::print("\x1b[?1049h\x1b[?25l");  // the other screen, without a cursor
  std::fflush(stdout);
}

Screen::~Screen() {
  fmt::print("\x1b[?25h\x1b[?1049l");
  std::fflush(stdout);
  ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
}

void Screen::show(const std::string& text) {
  winsize size{};
  const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 && size.ws_col > 0;
  const size_t rows = known ? size.ws_row : 24u, columns = known ? size.ws_col : 80u;
  std::string picture = "\x1b[H";
  size_t row = 0;
  for (std::string_view line : split(text, '\n')) {
    if (++row == rows) break;
    picture += fmt::format("{}\x1b[K\r\n", line.substr(0, columns));  // the rest of the line goes
  }
  fmt::print("{}\x1b[J", picture);  // and what is below
  std::fflush(stdout);
}

char Screen::wait_key(double seconds) {
  pollfd keyboard{STDIN_FILENO, POLLIN, 0};
  if (::poll(&keyboard, 1, static_cast<int>(seconds * 1000)) <= 0) return 0;
  char key = 0;
  return ::read(STDIN_FILENO, &key, 1) == 1 ? key : kInterruptKey;
}

}  // namespace atl::client
