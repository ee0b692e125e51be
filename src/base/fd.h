// An owned file descriptor, and the few calls on descriptors that everyone needs.
#pragma once

#include <unistd.h>

#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "base/types.h"

namespace atl {

/// Owns one descriptor; closes it in the destructor. Move-only.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// open(2) with O_CLOEXEC; the error names the path.
Result<Fd> open_file(const std::string& path, int flags, unsigned mode = 0644);
/// A second descriptor of the same open file (F_DUPFD_CLOEXEC).
Result<Fd> duplicate(const Fd& fd);
/// An eventfd (EFD_CLOEXEC | EFD_NONBLOCK) with count 0.
Result<Fd> make_eventfd();
/// Adds 1 to an eventfd's count. Any thread; never blocks.
void signal_eventfd(const Fd& fd);
/// Reads and clears an eventfd's count; 0 if it was clear.
u64 drain_eventfd(const Fd& fd);

/// Writes all of `data` to a blocking descriptor.
Status write_all(const Fd& fd, std::span<const u8> data);
/// Reads exactly `data.size()` bytes at `offset`; an early end is an Io error that names the offset.
Status read_exact_at(const Fd& fd, std::span<u8> data, u64 offset);
/// The whole file, refused if larger than `limit_bytes`. The error names the path.
Result<std::string> read_file(const std::string& path, u64 limit_bytes);

}  // namespace atl
