#include "base/background.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <initializer_list>

#include <fmt/format.h>

namespace atl {
namespace {

// The parent's whole life after the fork.
[[noreturn]] void wait_for_child(const Fd& from_child) {
  char byte = 0;
  ssize_t n;
  do n = ::read(from_child.get(), &byte, 1);
  while (n < 0 && errno == EINTR);
  ::_exit(n == 1 ? 0 : 1);
}

}  // namespace

Status Background::detach() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return os_error("daemonize: create a pipe");
  Fd from_child(ends[0]);
  Fd to_parent(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return os_error("daemonize: fork");
  if (child > 0) {
    to_parent.reset();
    wait_for_child(from_child);
  }
  ::setsid();
  // The session leader could get a terminal again by opening one: its child cannot.
  pid_t grandchild = ::fork();
  if (grandchild < 0) return os_error("daemonize: fork");
  if (grandchild > 0) ::_exit(0);
  ::umask(027);
  to_parent_ = std::move(to_parent);
  return {};
}

Status Background::ready() {
  if (!to_parent_) return {};
  if (::chdir("/") < 0) return os_error("not able to chdir to /");
  Fd null = TRY(open_file("/dev/null", O_RDWR));
  for (int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), standard);
  u8 byte = 0;
  TRY(write_all(to_parent_, std::span<const u8>(&byte, 1)));
  to_parent_.reset();
  return {};
}

Result<PidFile> PidFile::create(const std::string& path) {
  auto file = open_file(path, O_RDWR | O_CREAT, 0600);
  if (!file) return os_error(fmt::format("cannot create PID file: Could not create '{}'", path), file.error().os_errno());
  if (::flock(file->get(), LOCK_EX | LOCK_NB) < 0) return os_error(fmt::format("cannot create PID file: Cannot lock '{}'", path));
  std::string text = fmt::format("{}\n", ::getpid());
  if (::ftruncate(file->get(), 0) < 0) return os_error(fmt::format("cannot create PID file: Failed to truncate '{}'", path));
  TRY(write_all(*file, std::span<const u8>(reinterpret_cast<const u8*>(text.data()), text.size()))
          .context(fmt::format("cannot create PID file: {}", path)));
  // The daemon changes its directory before it removes the file.
  char* absolute = ::realpath(path.c_str(), nullptr);
  PidFile pid_file(absolute ? absolute : path, std::move(*file));
  ::free(absolute);
  return pid_file;
}

PidFile::~PidFile() {
  if (fd_) ::unlink(path_.c_str());
}

}  // namespace atl
