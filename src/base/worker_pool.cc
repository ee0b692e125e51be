#include "base/worker_pool.h"

#include <algorithm>
#include <thread>

namespace atl {
namespace {

constexpr unsigned kMostThreads = 8;

}  // namespace

Result<std::unique_ptr<WorkerPool>> WorkerPool::start(std::string name, unsigned threads) {
  if (threads == 0) threads = std::clamp(std::thread::hardware_concurrency(), 1u, kMostThreads);
  std::unique_ptr<WorkerPool> pool(new WorkerPool);
  for (unsigned i = 0; i < threads; ++i)
    pool->threads_.push_back(TRY(Thread::start(name, [self = pool.get()] { self->serve(); })));
  return pool;
}

WorkerPool::~WorkerPool() {
  {
    Lock lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
}

void WorkerPool::Run::await_suspend(std::coroutine_handle<> waiter) {
  waiter_ = waiter;
  // Once queued, a thread may finish it, and this be gone, at any moment.
  WorkerPool& pool = pool_;
  {
    Lock lock(pool.mutex_);
    pool.queue_.push_back(this);
  }
  pool.wake_.notify_one();
}

void WorkerPool::serve() {
  while (true) {
    Run* next = nullptr;
    {
      Lock lock(mutex_);
      while (queue_.empty() && !ending_) wake_.wait(lock);
      if (queue_.empty()) return;
      next = queue_.front();
      queue_.pop_front();
    }
    next->function_();
    next->loop_.post([waiter = next->waiter_] { waiter.resume(); });
  }
}

}  // namespace atl
