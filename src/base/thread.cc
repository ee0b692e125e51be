#include "base/thread.h"

#include <csignal>

namespace atl {
namespace {

struct Start {
  std::string name;
  std::function<void()> body;
};

void* run_thread(void* argument) {
  std::unique_ptr<Start> start(static_cast<Start*>(argument));
  pthread_setname_np(pthread_self(), start->name.substr(0, 15).c_str());
  start->body();
  return nullptr;
}

}  // namespace

Result<Thread> Thread::start(std::string name, std::function<void()> body) {
  auto argument = std::make_unique<Start>(name, std::move(body));
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // inherited by the new thread
  Thread thread;
  int err = pthread_create(&thread.id_, nullptr, run_thread, argument.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (err) return os_error("start thread " + name, err);
  argument.release();
  thread.started_ = true;
  return thread;
}

void Thread::join() {
  if (std::exchange(started_, false)) pthread_join(id_, nullptr);
}

Result<std::unique_ptr<LoopThread>> LoopThread::start(std::string name) {
  std::unique_ptr<LoopThread> self(new LoopThread);
  self->loop_ = TRY(Loop::create().context(name));
  // Until the thread is inside run(), the loop takes its creator for its thread.
  std::binary_semaphore running{0};
  self->loop_->post([&running] { running.release(); });
  self->thread_ = TRY(Thread::start(name, [loop = self->loop_.get()] { loop->run(); }));
  running.acquire();
  return self;
}

void LoopThread::stop() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

}  // namespace atl
