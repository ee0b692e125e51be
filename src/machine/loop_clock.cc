#include "machine/loop_clock.h"

#include <atomic>
#include <limits>

namespace atl::machine {

/// Setting the deadline is one atomic store from any thread; the loop is only woken to look at it.
class LoopClock::LoopAlarm final : public devices::Alarm {
 public:
  LoopAlarm(LoopClock& owner, std::function<void()> fire)
      : owner_(owner), fire_(std::move(fire)), timer_(owner.loop_, [this] { expired(); }) {
    Lock lock(owner_.mutex_);
    owner_.alarms_.push_back(this);
  }
  ~LoopAlarm() override {
    *alive_ = false;
    Lock lock(owner_.mutex_);
    std::erase(owner_.alarms_, this);
  }

  void arm_at(u64 ns) override {
    deadline_.store(ns, std::memory_order_release);
    wake();
  }
  void cancel() override { deadline_.store(kIdle, std::memory_order_release); }
  void wake() {
    if (wake_posted_.exchange(true)) return;
    owner_.loop_.post([this, alive = alive_] {
      if (*alive) look();
    });
  }

 private:
  static constexpr u64 kIdle = std::numeric_limits<u64>::max();

  void look() {
    wake_posted_ = false;
    const u64 deadline = deadline_.load(std::memory_order_acquire);
    if (deadline == kIdle || !owner_.clock_.running()) return timer_.cancel();
    timer_.arm_at(owner_.clock_.to_monotonic_ns(deadline));
  }
  void expired() {
    u64 deadline = deadline_.load(std::memory_order_acquire);
    if (deadline == kIdle || !owner_.clock_.running()) return;
    if (owner_.clock_.now_ns() < deadline) return look();
    if (deadline_.compare_exchange_strong(deadline, kIdle)) fire_();
  }

  LoopClock& owner_;
  const std::function<void()> fire_;
  Loop::Timer timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // loop thread
  std::atomic<u64> deadline_{kIdle};
  std::atomic<bool> wake_posted_{false};
};

LoopClock::LoopClock(Loop& loop, VmClock& clock) : loop_(loop), clock_(clock) {}
LoopClock::~LoopClock() = default;

std::unique_ptr<devices::Alarm> LoopClock::create_alarm(std::function<void()> fire) {
  return std::make_unique<LoopAlarm>(*this, std::move(fire));
}

void LoopClock::resumed() {
  Lock lock(mutex_);
  for (LoopAlarm* alarm : alarms_) alarm->wake();
}

}  // namespace atl::machine
