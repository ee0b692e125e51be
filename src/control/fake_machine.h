// A machine without a guest, for tests and fuzzing of the monitors: it remembers what it was asked to do.
#pragma once

#include <fmt/format.h>

#include "machine/block_store.h"
#include "machine/machine.h"
#include "machine/media.h"

namespace atl::control {

class FakeMachine final : public machine::Machine {
 public:
  explicit FakeMachine(machine::Config config = {}) : config_(std::move(config)) {
    input_.add(keyboard_);
    input_.add(mouse_);
  }

  std::vector<std::string> log;
  std::function<void(const machine::Event&)> handler;
  machine::RunState run_state = machine::RunState::Running;
  std::vector<u8> memory = std::vector<u8>(4096);
  std::optional<u64> balloon;
  cpu::VcpuState cpu;
  std::vector<machine::DeviceInfo> present;

  const machine::Config& config() const override { return config_; }
  std::string_view accelerator() const override { return "soft"; }
  void set_event_handler(std::function<void(const machine::Event&)> h) override { handler = std::move(h); }
  Status start() override { return note("start"); }
  machine::RunState state() const override { return run_state; }
  Status pause() override {
    run_state = machine::RunState::Paused;
    if (handler) handler({.kind = machine::Event::Kind::Stop});
    return note("pause");
  }
  Status resume() override {
    run_state = machine::RunState::Running;
    return note("resume");
  }
  Status reset() override { return note("reset"); }
  bool can_suspend() const override { return true; }
  Status wake_up() override { return note("wake up"); }
  Status powerdown() override { return note("powerdown"); }
  void set_watchdog_action(machine::WatchdogAction) override {}
  void set_panic_action(machine::PanicAction) override {}
  Status inject_nmi() override { return note("nmi"); }
  void shut_down() override {}
  std::optional<int> exit_code() const override { return std::nullopt; }
  Status add_device(const machine::DeviceConfig& device) override {
    present.push_back({device, "/machine/peripheral/" + device.id});
    return note("add_device " + device.type + " " + device.id);
  }
  Status remove_device(const std::string& id) override { return missing(fmt::format("Device '{}' not found", id)); }
  machine::BlockStore& blocks() override { return blocks_; }
  machine::Media& media() override { return media_; }
  void report_write_threshold(std::string, u64, u64) override {}
  /// Lets the I/O thread do what is ready.
  void settle() {
    thread_->run_on([] {});
  }
  Status add_network(const machine::NetConfig& network) override { return note("add_network " + network.id); }
  Status remove_network(const std::string& id) override { return missing(fmt::format("Device '{}' not found", id)); }
  Status set_link(const std::string& name, bool up) override { return note(fmt::format("set_link {} {}", name, up)); }
  Status change_forward(const std::string& id, const net::HostForward& rule, bool add) override {
    return note(fmt::format("{} forward {} {}", add ? "add" : "remove", id, rule.host_port));
  }
  Status add_rng(const machine::RngConfig& rng) override { return note("add_rng " + rng.id); }
  Status add_iothread(const machine::IoThreadConfig& thread) override { return note("add_iothread " + thread.id); }
  Status remove_object(const std::string& id) override { return missing(fmt::format("object '{}' not found", id)); }
  Status set_balloon(u64 bytes) override {
    if (!balloon) return missing("No balloon device has been activated");
    balloon = bytes;
    return {};
  }
  Result<u64> balloon_bytes() const override {
    if (!balloon) return Error(ErrorKind::NotFound, "No balloon device has been activated");
    return *balloon;
  }
  Result<machine::MemoryStatistics> memory_statistics() const override {
    if (!balloon) return Error(ErrorKind::NotFound, "No balloon device has been activated");
    return machine::MemoryStatistics{.update_s = 1000, .values = {{4, 4096}}};
  }
  Status set_statistics_interval(u32 seconds) override { return note(fmt::format("statistics {}", seconds)); }
  std::vector<machine::DeviceInfo> devices() const override { return present; }
  const cpu::CpuidTable& cpuid() const override { return cpuid_; }
  cpu::CpuidLimits cpuid_limits() const override { return {.supported = cpuid_, .accelerator = "soft"}; }
  std::vector<machine::CpuInfo> cpus() const override { return {{.index = 0, .thread_id = 42}}; }
  std::vector<machine::BlockInfo> block_devices() const override { return {}; }
  std::vector<machine::NetworkInfo> networks() const override { return {}; }
  cpu::Counters counters() const override { return {{"exits", 7}}; }
  Result<std::string> describe(const std::string& what, u32) override { return "text of " + what; }
  Result<std::vector<u8>> read_memory(bool, u32, u64 address, u64 size_bytes) override {
    if (address > memory.size() || size_bytes > memory.size() - address)
      return Error(ErrorKind::Invalid, fmt::format("address {:#x}", address));
    return std::vector<u8>(memory.begin() + static_cast<i64>(address), memory.begin() + static_cast<i64>(address + size_bytes));
  }
  Result<cpu::VcpuState> cpu_state(u32) override { return cpu; }
  std::shared_ptr<const memory::GuestMemory> guest_memory() const override { return guest_memory_; }
  Status set_cpu_state(u32, const cpu::VcpuState& state) override {
    cpu = state;
    return {};
  }
  Status write_memory(u32, u64 address, std::span<const u8> data) override {
    if (address > memory.size() || data.size() > memory.size() - address)
      return Error(ErrorKind::Invalid, fmt::format("address {:#x}", address));
    std::copy(data.begin(), data.end(), memory.begin() + static_cast<i64>(address));
    return {};
  }
  Status set_debug_points(const std::vector<cpu::DebugRequest::Point>& points) override {
    return note(fmt::format("points {}", points.size()));
  }
  const display::ScreenList& screens() const override { return screens_; }
  display::InputRouter& input() override { return input_; }
  Status step_cpu(u32 index) override { return note(fmt::format("step {}", index)); }
  u64 read_bus(bool port, u64 address, unsigned width) override {
    static_cast<void>(note(fmt::format("read {} {:#x} {}", port ? "port" : "memory", address, width)));
    return 0x1122334455667788 & (~u64{0} >> (64 - 8 * width));
  }
  void write_bus(bool port, u64 address, u64 value, unsigned width) override {
    static_cast<void>(note(fmt::format("write {} {:#x} {} {:#x}", port ? "port" : "memory", address, width, value)));
  }
  u64 advance_clock(std::optional<u64> ns) override { return time_ns += ns.value_or(next_alarm_ns); }
  Status watch_interrupt_lines(std::function<void(u32, bool)> listener) override {
    lines = std::move(listener);
    return {};
  }
  std::function<void(u32, bool)> lines;
  u64 next_alarm_ns = 7;
  u64 time_ns = 0;

 private:
  struct Keyboard final : display::KeySink {
    explicit Keyboard(FakeMachine& m) : machine(m) { in_use_.set_always(); }
    std::string_view name() const override { return "keyboard"; }
    void key(u8 number, bool down) override { (void)machine.note(fmt::format("key {:x} {}", number, down ? "down" : "up")); }
    FakeMachine& machine;
  };
  struct Mouse final : display::PointerSink {
    explicit Mouse(FakeMachine& m) : PointerSink(false), machine(m) { in_use_.set_always(); }
    std::string_view name() const override { return "mouse"; }
    void pointer(const display::PointerEvent& e) override {
      (void)machine.note(fmt::format("pointer {} {} {} {}", e.x, e.y, e.wheel, e.buttons));
    }
    FakeMachine& machine;
  };

  Status note(std::string text) {
    log.push_back(std::move(text));
    return {};
  }
  static Status missing(std::string text) { return Error(ErrorKind::NotFound, std::move(text)); }

  static std::unique_ptr<LoopThread> start_thread() { return MUST(LoopThread::start("IO fake")); }  // io_uring works here

  const machine::Config config_;
  const cpu::CpuidTable cpuid_;
  const std::shared_ptr<const memory::GuestMemory> guest_memory_ = std::make_shared<memory::GuestMemory>(std::vector<memory::RamRange>());
  std::unique_ptr<LoopThread> thread_ = start_thread();
  machine::BlockStore blocks_{*thread_};
  machine::Media media_{blocks_};
  Keyboard keyboard_{*this};
  Mouse mouse_{*this};
  display::InputRouter input_;
  display::ScreenList screens_;
};

}  // namespace atl::control
