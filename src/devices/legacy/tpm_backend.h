// A TPM 2.0 that a device passes commands to: the interface, and the one there is, a swtpm process behind a Unix socket.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/thread.h"

namespace atl::devices {

class TpmBackend {
 public:
  virtual ~TpmBackend() = default;
  /// Runs a command; `done` gets the response on another thread, empty if the TPM failed. One at a time. Any thread.
  virtual void execute(std::vector<u8> command, std::function<void(std::vector<u8>)> done) = 0;
  /// Power-on of the machine: the TPM starts anew. Control thread; waits for a command under way.
  virtual Status restart() = 0;
};

/// swtpm's control channel (swtpm_ioctls(3), tpm_ioctl.h: numbers big-endian) over the socket, commands over a socket pair whose
/// other end it is given. Supported: start, restart, data channel. Missing: saved state, cancellation, localities but 0.
///
/// Threads: execute() hands over to a thread of its own, which waits for the TPM.
class SwtpmBackend final : public TpmBackend {
 public:
  /// Connects to the socket at `path` and powers the TPM on; the error names the path.
  static Result<std::unique_ptr<SwtpmBackend>> create(const std::string& path);
  ~SwtpmBackend() override;

  void execute(std::vector<u8> command, std::function<void(std::vector<u8>)> done) override;
  Status restart() override;

 private:
  SwtpmBackend() = default;
  Status control(u32 command, std::span<const u8> argument, int passed_fd = -1);
  std::vector<u8> exchange(std::span<const u8> command);

  std::string path_;
  Fd control_, data_;
  std::unique_ptr<LoopThread> thread_;
};

}  // namespace atl::devices
