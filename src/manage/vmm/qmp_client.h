// The daemon's side of a VM's QMP monitor (QEMU's docs/interop/qmp-spec): commands that wait for their reply with a time-out,
// and events as they come.
//
// One loop thread reads all monitors, so a VM that hangs costs nobody else anything. execute() may be called from any thread but
// the loop's. The callbacks run on the loop's thread and must not wait.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/sync.h"
#include "base/thread.h"
#include "manage/error.h"

namespace atl::manage {

class QmpClient {
 public:
  struct Callbacks {
    /// Name, data (an object or null) and time, seconds and microseconds.
    std::function<void(const std::string& name, const nlohmann::json& data, i64 seconds, u32 microseconds)> event;
    /// The monitor is gone; no call back comes after this one.
    std::function<void()> closed;
  };

  /// Connects to the socket at `path`, waits for the greeting and negotiates.
  static Result<std::unique_ptr<QmpClient>> connect(LoopThread& thread, const std::string& path, Callbacks callbacks, u64 timeout_ns);
  ~QmpClient();
  QmpClient(const QmpClient&) = delete;
  QmpClient& operator=(const QmpClient&) = delete;

  /// What "return" holds. An error of the VM is InternalError with its text, as libvirt gives it; a time-out OperationTimeout. `fd`, if not -1, is passed along.
  Result<nlohmann::json> execute(std::string_view command, nlohmann::json arguments, u64 timeout_ns, int fd = -1);
  /// Any message as a client wrote it; gives the whole reply as text, errors too.
  Result<std::string> pass_through(std::string_view message, u64 timeout_ns, int fd = -1);
  /// Ends all waiting calls with an error; nothing can be asked any more. No callback runs after it. Not from the loop's thread.
  void close();

 private:
  explicit QmpClient(LoopThread& thread, Fd fd, Callbacks callbacks);
  Result<nlohmann::json> exchange(nlohmann::json message, u64 timeout_ns, int fd);
  Result<nlohmann::json> wait_for(u64 id, u64 deadline_ns);
  Status send(const std::string& line, int fd, u64 deadline_ns);
  void read_some();
  void take_line(std::string_view line);
  void lose();

  LoopThread& thread_;
  Fd fd_;
  Callbacks callbacks_;
  std::unique_ptr<Loop::Watch> watch_;  // loop thread
  std::string input_;                   // loop thread
  Mutex send_mutex_;                    // one message at a time
  Mutex mutex_;
  std::condition_variable_any changed_;
  bool greeted_ GUARDED_BY(mutex_) = false;
  bool lost_ GUARDED_BY(mutex_) = false;
  u64 next_id_ GUARDED_BY(mutex_) = 1;
  std::map<u64, std::unique_ptr<nlohmann::json>> replies_ GUARDED_BY(mutex_);  // null until it has come
};

}  // namespace atl::manage
