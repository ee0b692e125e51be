#include "machine/idle_vm.h"

#include <array>
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

constexpr u32 kLines = 24;

/// Tells of changes, not of each call.
class WatchedLine final : public cpu::IrqLine {
 public:
  void set(bool level) override {
    Lock lock(mutex_);
    below->set(level);
    if (std::exchange(level_, level) != level && listener_) (*listener_)(number, level);
  }
  void watch(const IdleVm::LineListener& listener) {
    Lock lock(mutex_);
    listener_ = &listener;
    if (level_) listener(number, true);
  }

  cpu::IrqLine* below = nullptr;
  u32 number = 0;

 private:
  Mutex mutex_;  // changes are told in their order
  bool level_ GUARDED_BY(mutex_) = false;
  const IdleVm::LineListener* listener_ GUARDED_BY(mutex_) = nullptr;
};

class IdleVmImpl final : public IdleVm {
 public:
  explicit IdleVmImpl(std::unique_ptr<cpu::Vm> below) : below_(std::move(below)) {
    for (u32 i = 0; i < kLines; ++i) {
      lines_[i].below = &below_->gsi(i);
      lines_[i].number = i;
    }
  }

  void watch_lines(LineListener listener) override {
    if (listener_) return;
    listener_ = std::move(listener);
    for (WatchedLine& line : lines_) line.watch(listener_);
  }

  std::string_view accelerator() const override { return below_->accelerator(); }
  cpu::CpuidLimits cpuid_limits() const override { return below_->cpuid_limits(); }
  Result<std::unique_ptr<cpu::Vcpu>> create_vcpu(u32 index, const cpu::CpuidTable& cpuid) override {
    return std::unique_ptr<cpu::Vcpu>(std::make_unique<IdleVcpu>(TRY(below_->create_vcpu(index, cpuid))));
  }
  cpu::IrqLine& gsi(u32 number) override { return lines_[number]; }
  void connect_pit(bool connected) override { below_->connect_pit(connected); }
  void send_msi(const cpu::MsiMessage& message) override { below_->send_msi(message); }
  Result<std::unique_ptr<cpu::MsiRoute>> create_msi_route() override { return below_->create_msi_route(); }
  bool has_smm() const override { return below_->has_smm(); }
  void raise_smi(bool all) override { below_->raise_smi(all); }
  void pause_clock() override { below_->pause_clock(); }
  void resume_clock() override { below_->resume_clock(); }
  Status reset_irqchip() override { return below_->reset_irqchip(); }
  Result<std::vector<u8>> save_irqchip() override { return below_->save_irqchip(); }
  Status restore_irqchip(std::span<const u8> state) override { return below_->restore_irqchip(state); }
  std::string describe_irqchip(std::string_view what) override { return below_->describe_irqchip(what); }
  cpu::Counters counters() const override { return below_->counters(); }

 private:
  const std::unique_ptr<cpu::Vm> below_;
  std::array<WatchedLine, kLines> lines_;
  LineListener listener_;
};

}  // namespace

std::unique_ptr<IdleVm> IdleVm::create(std::unique_ptr<cpu::Vm> below) { return std::make_unique<IdleVmImpl>(std::move(below)); }

}  // namespace atl::machine
