// Going to the background, and the file that says which process is there.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace atl {

/// -daemonize. The parent process waits until the child is ready or gone, and exits with its outcome; errors of the child
/// still go to the terminal. Called before any thread, loop or file exists.
class Background {
 public:
  /// Forks; only the child returns.
  Status detach();
  /// The VM is set up: lets go of the terminal and of the parent.
  Status ready();

 private:
  Fd to_parent_;
};

/// -pidfile: created, locked, and removed at the end.
class PidFile {
 public:
  static Result<PidFile> create(const std::string& path);
  PidFile() = default;
  PidFile(PidFile&& other) noexcept = default;
  PidFile& operator=(PidFile&& other) noexcept = default;
  ~PidFile();

 private:
  PidFile(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  Fd fd_;  // holds the lock; invalid: there is no file
};

}  // namespace atl
