#include "machine/loop_clock.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <semaphore>

#include "base/check.h"

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

  u64 deadline() const { return deadline_.load(std::memory_order_acquire); }
  /// Rings unless the deadline has changed.
  void ring(u64 deadline) {
    if (deadline_.compare_exchange_strong(deadline, kIdle)) fire_();
  }

  static constexpr u64 kIdle = std::numeric_limits<u64>::max();

 private:
  void look() {
    wake_posted_ = false;
    const u64 due = deadline();
    if (due != kIdle && owner_.pace_ == Pace::Stepped && due <= owner_.clock_.now_ns()) return ring(due);
    if (due == kIdle || !owner_.clock_.running()) return timer_.cancel();
    timer_.arm_at(owner_.clock_.to_monotonic_ns(due));
  }
  void expired() {
    const u64 due = deadline();
    if (due == kIdle || !owner_.clock_.running()) return;
    if (owner_.clock_.now_ns() < due) return look();
    ring(due);
  }

  LoopClock& owner_;
  const std::function<void()> fire_;
  Loop::Timer timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // loop thread
  std::atomic<u64> deadline_{kIdle};
  std::atomic<bool> wake_posted_{false};
};

LoopClock::LoopClock(Loop& loop, VmClock& clock, Pace pace) : loop_(loop), clock_(clock), pace_(pace) {}
LoopClock::~LoopClock() = default;

std::unique_ptr<devices::Alarm> LoopClock::create_alarm(std::function<void()> fire) {
  return std::make_unique<LoopAlarm>(*this, std::move(fire));
}

void LoopClock::resumed() {
  Lock lock(mutex_);
  for (LoopAlarm* alarm : alarms_) alarm->wake();
}

LoopClock::LoopAlarm* LoopClock::first_alarm() {
  Lock lock(mutex_);
  const auto first = std::ranges::min_element(alarms_, {}, &LoopAlarm::deadline);
  return first == alarms_.end() || (*first)->deadline() == LoopAlarm::kIdle ? nullptr : *first;
}

std::optional<u64> LoopClock::until_next_alarm() {
  const LoopAlarm* first = first_alarm();
  if (!first) return std::nullopt;
  const u64 deadline = first->deadline(), now = clock_.now_ns();
  return deadline > now ? deadline - now : 0;
}

void LoopClock::step(u64 ns) {
  CHECK(pace_ == Pace::Stepped);
  constexpr u64 kLast_ns = std::numeric_limits<i64>::max();
  const u64 now_ns = clock_.now_ns(), end_ns = now_ns + std::min(ns, kLast_ns - now_ns);
  std::binary_semaphore done(0);
  loop_.post([&] {
    step_on_loop(end_ns);
    done.release();
  });
  done.acquire();
}

void LoopClock::step_on_loop(u64 end_ns) {
  while (LoopAlarm* next = first_alarm()) {
    const u64 deadline = next->deadline();
    if (deadline > end_ns) break;
    clock_.set_ns(std::max(clock_.now_ns(), deadline));
    next->ring(deadline);
  }
  clock_.set_ns(end_ns);
}

}  // namespace atl::machine
