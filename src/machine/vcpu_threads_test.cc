#include "machine/vcpu_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <semaphore>

namespace atl::machine {
namespace {

/// Runs until kicked, or leaves at once with what it is told to.
class FakeVcpu final : public cpu::Vcpu {
 public:
  cpu::RunExit run() override {
    ++runs;
    entered.release();
    if (leave_with != cpu::RunExit::Kicked) return leave_with;
    while (!kicked.exchange(false)) kicked.wait(false);
    return cpu::RunExit::Kicked;
  }
  void kick() override {
    kicked = true;
    kicked.notify_all();
  }
  Result<cpu::VcpuState> get_state() override { return cpu::VcpuState{}; }
  Status set_state(const cpu::VcpuState&) override { return {}; }
  Status inject_nmi() override { return {}; }
  Status set_debug(const cpu::DebugRequest&) override { return {}; }
  std::optional<cpu::DebugRequest::Point> debug_hit() const override { return std::nullopt; }
  std::string failure() const override { return {}; }
  std::optional<GuestAddr> translate(u64) override { return std::nullopt; }
  cpu::Counters counters() const override { return {}; }

  cpu::RunExit leave_with = cpu::RunExit::Kicked;
  std::atomic<int> runs{0};
  std::atomic<bool> kicked{false};
  std::counting_semaphore<> entered{0};
};

class VcpuThreadsTest : public testing::Test {
 protected:
  void start(unsigned count, cpu::RunExit leave_with = cpu::RunExit::Kicked) {
    std::vector<std::unique_ptr<cpu::Vcpu>> vcpus;
    for (unsigned i = 0; i < count; ++i) {
      auto vcpu = std::make_unique<FakeVcpu>();
      vcpu->leave_with = leave_with;
      fakes.push_back(vcpu.get());
      vcpus.push_back(std::move(vcpu));
    }
    MUST(threads.start(std::move(vcpus), "fake"));  // threads can be had
  }

  std::vector<FakeVcpu*> fakes;
  std::counting_semaphore<> exits{0};
  std::atomic<u32> last_exit{~0u};
  VcpuThreads threads{[this](u32 index, cpu::RunExit) {
    last_exit = index;
    exits.release();
  }};
};

TEST_F(VcpuThreadsTest, NothingRunsBeforeResume) {
  start(2);
  EXPECT_EQ(fakes[0]->runs, 0);
  EXPECT_NE(threads.thread_id(0), threads.thread_id(1));
  EXPECT_NE(threads.thread_id(0), 0);
}

TEST_F(VcpuThreadsTest, PauseReturnsWithEveryVcpuParked) {
  start(2);
  for (int round = 0; round < 50; ++round) {
    threads.resume();
    if (round % 2) fakes[0]->entered.acquire();
    threads.pause();
    const int runs = fakes[0]->runs + fakes[1]->runs;
    EXPECT_EQ(fakes[0]->runs + fakes[1]->runs, runs);
  }
}

TEST_F(VcpuThreadsTest, VcpuThatCannotGoOnWaitsForTheNextResume) {
  start(1, cpu::RunExit::Reset);
  threads.resume();
  exits.acquire();
  EXPECT_EQ(last_exit, 0u);
  threads.pause();
  EXPECT_EQ(fakes[0]->runs, 1);
  threads.resume();
  exits.acquire();
  threads.pause();
  EXPECT_EQ(fakes[0]->runs, 2);
}

TEST_F(VcpuThreadsTest, StopEndsRunningThreads) {
  start(3);
  threads.resume();
  fakes[2]->entered.acquire();
  threads.stop();
  SUCCEED();
}

}  // namespace
}  // namespace atl::machine
