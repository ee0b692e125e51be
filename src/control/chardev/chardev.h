// The character back ends of a VM: what -chardev creates.
#pragma once

#include <atomic>
#include <memory>

#include "base/char_backend.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/result.h"
#include "control/chardev/config.h"

namespace atl::control {

/// A back end as its owner sees it. Loop thread, but for what CharBackend allows from any.
class Chardev : public CharBackend {
 public:
  /// Whether a front end is attached and listens (query-chardev).
  bool frontend_open() const { return open_.load(std::memory_order_relaxed) && has_frontend(); }
  void set_open(bool open) final { open_.store(open, std::memory_order_relaxed); }
  virtual bool has_frontend() const = 0;
  /// Whether the VM shall not start before this server's first client has come.
  virtual bool is_waiting() const { return false; }
  /// Waits a moment for queued output to leave; for the end of the program.
  virtual void drain(u64 timeout_ns) { (void)timeout_ns; }
  /// A descriptor that came with the input of a Unix socket (SCM_RIGHTS); invalid if none.
  virtual Fd take_received_fd() { return {}; }
  /// What a ring buffer holds (ringbuf-read); Unsupported elsewhere.
  virtual Result<std::string> read_ring(u64 limit_bytes) {
    (void)limit_bytes;
    return Error(ErrorKind::Unsupported, id() + " is not a ringbuf device");
  }

  /// Takes a connected socket for a client's (add_client). The error says why that cannot be.
  virtual Status add_client(Fd fd) {
    (void)fd;
    return Error(ErrorKind::Unsupported, "chardev '" + id() + "' takes no clients");
  }
  /// Whether it stands on a connection that can be cut, and cutting it: both ends see its end.
  virtual bool has_connection() const { return false; }
  virtual void cut_connection() {}
  /// False: its user has taken the connection away and speaks over it by itself.
  virtual bool can_be_exchanged() const { return true; }

 private:
  std::atomic<bool> open_ = true;
};

/// Opens files, connects or listens. The error names the path or address. On an error nothing is left behind; a Unix server's socket file vanishes with the object.
Result<std::unique_ptr<Chardev>> create_chardev(Loop& loop, const ChardevConfig& config);

/// Opens a file for output. Of "/dev/fd/N" it is a duplicate, which keeps the descriptor's mode and place.
Result<Fd> open_output(const std::string& path, bool append, unsigned mode);

// One factory a kind; for create_chardev and tests.
Result<std::unique_ptr<Chardev>> create_stream_chardev(Loop& loop, const ChardevConfig& config);
Result<std::unique_ptr<Chardev>> create_socket_chardev(Loop& loop, const ChardevConfig& config);
Result<std::unique_ptr<Chardev>> create_pty_chardev(Loop& loop, const ChardevConfig& config);
std::unique_ptr<Chardev> create_memory_chardev(const ChardevConfig& config);
/// Output goes to config.log_path, too.
Result<std::unique_ptr<Chardev>> with_log(std::unique_ptr<Chardev> inner, const ChardevConfig& config);

}  // namespace atl::control
