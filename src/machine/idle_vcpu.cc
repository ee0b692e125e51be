#include "machine/idle_vcpu.h"

#include <condition_variable>

#include "base/sync.h"

namespace atl::machine {
namespace {

class IdleVcpu final : public cpu::Vcpu {
 public:
  explicit IdleVcpu(std::unique_ptr<cpu::Vcpu> below) : below_(std::move(below)) {}

  cpu::RunExit run() override {
    Lock lock(mutex_);
    while (!kicked_) changed_.wait(lock);
    kicked_ = false;
    return cpu::RunExit::Kicked;
  }
  void kick() override {
    Lock lock(mutex_);
    kicked_ = true;
    changed_.notify_all();
  }
  Result<cpu::VcpuState> get_state() override { return below_->get_state(); }
  Status set_state(const cpu::VcpuState& state) override { return below_->set_state(state); }
  Status inject_nmi() override { return below_->inject_nmi(); }
  Status set_debug(const cpu::DebugRequest& request) override { return below_->set_debug(request); }
  std::optional<cpu::DebugRequest::Point> debug_hit() const override { return below_->debug_hit(); }
  std::string failure() const override { return below_->failure(); }
  std::optional<GuestAddr> translate(u64 linear) override { return below_->translate(linear); }
  cpu::Counters counters() const override { return below_->counters(); }

 private:
  const std::unique_ptr<cpu::Vcpu> below_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  bool kicked_ GUARDED_BY(mutex_) = false;
};

}  // namespace

std::unique_ptr<cpu::Vcpu> make_idle_vcpu(std::unique_ptr<cpu::Vcpu> below) { return std::make_unique<IdleVcpu>(std::move(below)); }

}  // namespace atl::machine
