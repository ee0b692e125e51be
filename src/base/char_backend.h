// A byte stream that a guest's serial port, a console or a monitor talks to: stdio, socket, file, pty, null.
// The drivers live in `control`; devices see this interface.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "base/types.h"

namespace atl {

enum class CharEvent : u8 { Opened, Closed, Break };

/// Reads arrive on the back end's loop. write() may be called from any thread and never blocks.
class CharBackend {
 public:
  struct Frontend {
    std::function<size_t()> can_receive;                 // bytes that receive() takes now; asked on the loop
    std::function<void(std::span<const u8>)> receive;    // on the loop
    std::function<void(CharEvent)> event;                // on the loop
    std::function<void()> writable;                      // on the loop: after a short write, there is room again
  };

  virtual ~CharBackend() = default;
  /// Connects the one user of this back end; null functions are allowed. Control thread.
  virtual void attach(Frontend frontend) = 0;
  virtual void detach() = 0;
  /// Queues bytes for output; returns how many were taken (all, or fewer when a bounded buffer is full).
  virtual size_t write(std::span<const u8> data) = 0;
  /// The user can take input again (after can_receive gave 0). Any thread.
  virtual void accept_input() = 0;
  /// The user says whether anybody in the guest listens; until then somebody does. Any thread.
  virtual void set_frontend_open(bool open) { (void)open; }
  /// Hands the connected socket over to a user that speaks a protocol of its own on it, with descriptors among the bytes. A
  /// server waits for its client first. The error says why the back end cannot. Control thread.
  virtual Result<Fd> take_connection() { return Error(ErrorKind::Unsupported, "chardev '" + id() + "' is not a socket"); }
  virtual const std::string& id() const = 0;
  /// As query-chardev shows it, e.g. "disconnected:unix:/run/x,server=on".
  virtual std::string describe() const = 0;
};

}  // namespace atl
