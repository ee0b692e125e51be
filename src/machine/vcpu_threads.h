// The vCPUs and their host threads: one each, named "CPU n/soft". They start parked; pause() returns once all are parked
// again, resume() lets them go on.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/sync.h"
#include "base/thread.h"
#include "cpu/vm.h"

namespace atl::machine {

class VcpuThreads {
 public:
  /// A vCPU does not go on by itself (Reset, Failed, Debug): its thread parks until the next resume(). Called on that thread.
  using ExitHandler = std::function<void(u32 index, cpu::RunExit exit)>;

  explicit VcpuThreads(ExitHandler handler) : handler_(std::move(handler)) {}
  ~VcpuThreads() { stop(); }

  /// Takes the vCPUs and starts their threads, parked. Control thread.
  Status start(std::vector<std::unique_ptr<cpu::Vcpu>> vcpus, std::string_view accelerator);
  /// Tells all vCPUs to park, without waiting. Any thread, vCPU threads too.
  void request_pause();
  /// Returns once every vCPU has parked. Control thread.
  void pause();
  /// Lets all vCPUs go on, or only one.
  void resume(std::optional<u32> only = std::nullopt);
  /// Ends the threads; the vCPUs stay.
  void stop();

  u32 count() const { return static_cast<u32>(workers_.size()); }
  cpu::Vcpu& vcpu(u32 index) { return *workers_[index]->vcpu; }
  const cpu::Vcpu& vcpu(u32 index) const { return *workers_[index]->vcpu; }
  /// Linux thread id.
  int thread_id(u32 index) const;

 private:
  struct Worker {
    std::unique_ptr<cpu::Vcpu> vcpu;
    Thread thread;
    int thread_id = 0;    // guarded by mutex_
    bool parked = false;  // guarded by mutex_
  };

  void body(u32 index);
  /// Parks while paused, and with `until_next_resume` until a resume() later than the one `seen`; false: the thread ends.
  bool park(u32 index, u64& seen, bool until_next_resume);

  const ExitHandler handler_;
  std::vector<std::unique_ptr<Worker>> workers_;  // fixed once started
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  bool running_ GUARDED_BY(mutex_) = false;
  std::optional<u32> only_ GUARDED_BY(mutex_);  // while running: who runs, if not all do
  bool stopping_ GUARDED_BY(mutex_) = false;
  u64 generation_ GUARDED_BY(mutex_) = 0;  // counts resumes
};

}  // namespace atl::machine
