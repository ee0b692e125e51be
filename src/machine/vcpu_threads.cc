#include "machine/vcpu_threads.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/core.h>

namespace atl::machine {

Status VcpuThreads::start(std::vector<std::unique_ptr<cpu::Vcpu>> vcpus, std::string_view accelerator) {
  for (auto& vcpu : vcpus) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->vcpu = std::move(vcpu);
  }
  for (u32 i = 0; i < count(); ++i) {
    workers_[i]->thread = TRY(Thread::start(fmt::format("CPU {}/{}", i, accelerator), [this, i] { body(i); }));
  }
  pause();  // so that thread ids are known and states may be set
  return {};
}

void VcpuThreads::body(u32 index) {
  Worker& worker = *workers_[index];
  u64 seen = 0;
  bool stuck = false;
  while (park(index, seen, stuck)) {
    const cpu::RunExit exit = worker.vcpu->run();
    stuck = exit != cpu::RunExit::Kicked;
    if (stuck) handler_(index, exit);
  }
}

bool VcpuThreads::park(u32 index, u64& seen, bool until_next_resume) {
  Worker& worker = *workers_[index];
  Lock lock(mutex_);
  worker.thread_id = ::gettid();
  while (!stopping_ && (!running_ || only_.value_or(index) != index || (until_next_resume && seen == generation_))) {
    worker.parked = true;
    changed_.notify_all();
    changed_.wait(lock);
  }
  worker.parked = false;
  seen = generation_;
  return !stopping_;
}

void VcpuThreads::request_pause() {
  {
    Lock lock(mutex_);
    running_ = false;
  }
  for (auto& worker : workers_) worker->vcpu->kick();
}

void VcpuThreads::pause() {
  request_pause();
  Lock lock(mutex_);
  while (!std::ranges::all_of(workers_, [](const auto& worker) { return worker->parked; })) changed_.wait(lock);
}

void VcpuThreads::resume(std::optional<u32> only) {
  Lock lock(mutex_);
  running_ = true;
  only_ = only;
  ++generation_;
  changed_.notify_all();
}

void VcpuThreads::stop() {
  {
    Lock lock(mutex_);
    stopping_ = true;
    running_ = false;
    changed_.notify_all();
  }
  for (auto& worker : workers_) worker->vcpu->kick();
  for (auto& worker : workers_) worker->thread.join();
}

int VcpuThreads::thread_id(u32 index) const {
  Lock lock(mutex_);
  return workers_[index]->thread_id;
}

}  // namespace atl::machine
