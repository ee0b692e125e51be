#include "base/fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <fmt/format.h>

namespace atl {

Result<Fd> open_file(const std::string& path, int flags, unsigned mode) {
  int fd;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return os_error("open " + path);
  return Fd(fd);
}

Result<Fd> duplicate(const Fd& fd) {
  int copy = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return os_error("duplicate a descriptor");
  return Fd(copy);
}

Result<Fd> make_eventfd() {
  int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return os_error("eventfd");
  return Fd(fd);
}

void signal_eventfd(const Fd& fd) {
  u64 one = 1;
  // A full counter (EAGAIN) means that the reader has yet to wake up: nothing is lost.
  [[maybe_unused]] ssize_t n = ::write(fd.get(), &one, sizeof one);
}

u64 drain_eventfd(const Fd& fd) {
  u64 count = 0;
  return ::read(fd.get(), &count, sizeof count) == sizeof count ? count : 0;
}

Status write_all(const Fd& fd, std::span<const u8> data) {
  while (!data.empty()) {
    ssize_t n = ::write(fd.get(), data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error("write");
    data = data.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status read_exact_at(const Fd& fd, std::span<u8> data, u64 offset) {
  while (!data.empty()) {
    ssize_t n = ::pread(fd.get(), data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error(fmt::format("read at offset {}", offset));
    if (n == 0) return Error(ErrorKind::Io, fmt::format("the file ends at offset {}", offset));
    data = data.subspan(static_cast<size_t>(n));
    offset += static_cast<u64>(n);
  }
  return {};
}

Result<std::string> read_file(const std::string& path, u64 limit_bytes) {
  Fd fd = TRY(open_file(path, O_RDONLY));
  std::string text;
  char chunk[65536];
  while (true) {
    ssize_t n = ::read(fd.get(), chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error("read " + path);
    if (n == 0) return text;
    text.append(chunk, static_cast<size_t>(n));
    if (text.size() > limit_bytes)
      return Error(ErrorKind::Invalid, fmt::format("{} is larger than {} bytes", path, limit_bytes));
  }
}

}  // namespace atl
