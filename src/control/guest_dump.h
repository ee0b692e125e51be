// dump-guest-memory: the VM stands still while its memory goes into a file, on a thread of its own if the client does not wait.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>

#include "base/loop.h"
#include "base/thread.h"
#include "control/core_dump.h"
#include "machine/machine.h"

namespace atl::control {

/// Control thread.
class GuestDump {
 public:
  enum class State : u8 { None, Active, Completed, Failed };
  struct Request {
    Fd file;
    DumpRange range;
    bool detach = false;
  };
  /// How a dump ended: bytes written and all there were, and the error, if there is one.
  using Report = std::function<void(u64 completed, u64 total, const Status& status)>;

  GuestDump(Loop& loop, Report report) : loop_(loop), report_(std::move(report)) {}
  ~GuestDump() { thread_.join(); }

  /// Pauses the machine; it goes on at the end if it ran. Without `detach` the result is the dump's.
  Status start(machine::Machine& machine, Request request);
  State state() const { return state_; }
  u64 completed() const { return progress_.completed.load(); }
  u64 total() const { return progress_.total.load(); }

 private:
  Status write(const Request& request);
  Status finish(machine::Machine& machine, const Status& written);

  Loop& loop_;
  const Report report_;
  State state_ = State::None;
  bool was_running_ = false;
  DumpProgress progress_;
  std::vector<cpu::VcpuState> states_;
  std::shared_ptr<const memory::GuestMemory> memory_;
  Thread thread_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace atl::control
