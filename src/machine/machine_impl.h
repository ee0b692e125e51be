// The parts of one machine and how they hang together. Member functions are spread over machine.cc (birth, life cycle),
// machine_devices.cc (plugging, back ends), machine_disks.cc (disks on buses) and machine_queries.cc (what monitors ask).
//
// Threads: the control thread calls everything but the SystemControl functions, which vCPU threads call, and the reports
// of devices, which come from their loops; those only note what happened and post to the control loop.
#pragma once

#include <atomic>
#include <optional>

#include "base/vm_clock.h"
#include "devices/legacy/system_control.h"
#include "machine/back_ends.h"
#include "machine/boards/board.h"
#include "machine/console_ports.h"
#include "machine/makers/device_makers.h"
#include "machine/disk_buses.h"
#include "machine/idle_vm.h"
#include "machine/loop_clock.h"
#include "machine/machine.h"
#include "machine/media.h"
#include "machine/news.h"
#include "machine/usb_tree.h"
#include "machine/vcpu_threads.h"

namespace atl::machine {

class MachineImpl final : public Machine, public devices::SystemControl {
 public:
  static Result<std::unique_ptr<Machine>> create(const Config& config, Loop& control,
                                                 const std::map<CharId, CharBackend*>& chars);
  ~MachineImpl() override;

  const Config& config() const override { return config_; }
  std::string_view accelerator() const override { return vm_->accelerator(); }
  void set_event_handler(std::function<void(const Event&)> handler) override { handler_ = std::move(handler); }
  void tell_news(u64 count) override;
  u64 news_so_far() override { return news_.added(); }
  Status start() override;
  RunState state() const override { return state_; }
  Status pause() override;
  Status resume() override;
  Status reset() override;
  Status powerdown() override;
  bool can_suspend() const override;
  Status wake_up() override;
  Status inject_nmi() override;
  void set_watchdog_action(WatchdogAction action) override { watchdog_action_ = action; }
  void set_panic_action(PanicAction action) override { panic_action_ = action; }
  void shut_down() override;
  std::optional<int> exit_code() const override { return exit_code_; }

  Status add_device(const DeviceConfig& device) override;
  Status remove_device(const std::string& id) override;
  BlockStore& blocks() override { return back_ends_->blocks(); }
  Media& media() override { return *media_; }
  void report_write_threshold(std::string node_name, u64 exceeded, u64 threshold) override;
  Status add_network(const NetConfig& network) override { return back_ends_->add_network(network); }
  Status remove_network(const std::string& id) override { return back_ends_->remove_network(id); }
  std::optional<std::string> generation_id() const override;
  Status set_link(const std::string& name, bool up) override;
  Status change_forward(const std::string& id, const net::HostForward& rule, bool add) override {
    return back_ends_->change_forward(id, rule, add);
  }
  Status add_rng(const RngConfig& rng) override { return back_ends_->add_rng(rng); }
  Status add_iothread(const IoThreadConfig& thread) override { return back_ends_->add_iothread(thread); }
  Status remove_object(const std::string& id) override;
  Status set_balloon(u64 target_bytes) override;
  Result<u64> balloon_bytes() const override;
  Result<MemoryStatistics> memory_statistics() const override;
  Status set_statistics_interval(u32 seconds) override;

  std::vector<CpuInfo> cpus() const override;
  std::vector<DeviceInfo> devices() const override { return present_; }
  const cpu::CpuidTable& cpuid() const override { return cpuid_.front(); }
  cpu::CpuidLimits cpuid_limits() const override { return vm_->cpuid_limits(); }
  std::vector<BlockInfo> block_devices() const override;
  std::vector<NetworkInfo> networks() const override;
  std::vector<CardInfo> receive_filters() const override;
  void announce_cards(const std::vector<std::string>& ids) override;
  std::vector<devices::PciFunctionInfo> pci_functions() const override { return board_->pci_functions(); }
  std::vector<std::string> board_parts() const override;
  std::vector<IoThreadInfo> iothreads() const override { return back_ends_->iothreads(); }
  std::vector<Statistic> statistics(std::optional<u32> cpu) const override;
  Result<std::optional<GuestAddr>> translate(u32 cpu, u64 linear) override;
  Status set_boot_order(const std::string& order) override { return board_->set_boot_order(order); }
  void drop_missed_ticks() override { board_->drop_missed_ticks(); }
  cpu::Counters counters() const override;
  Result<std::string> describe(const std::string& what, u32 arg) override;
  Result<std::vector<u8>> read_memory(bool physical, u32 cpu_index, u64 address, u64 size_bytes) override;
  Result<cpu::VcpuState> cpu_state(u32 index) override;
  std::shared_ptr<const memory::GuestMemory> guest_memory() const override { return memory_.guest_memory(); }
  const display::ScreenList& screens() const override { return screens_; }
  display::InputRouter& input() override { return input_; }
  Status set_cpu_state(u32 index, const cpu::VcpuState& state) override;
  Status write_memory(u32 cpu_index, u64 address, std::span<const u8> data) override;
  Status set_debug_points(const std::vector<cpu::DebugRequest::Point>& points) override;
  Status step_cpu(u32 index) override;
  u64 read_bus(bool port, u64 address, unsigned width) override { return memory::BusView(port ? ports_ : memory_).read(address, width); }
  void write_bus(bool port, u64 address, u64 value, unsigned width) override {
    memory::BusView(port ? ports_ : memory_).write(address, value, width);
  }
  u64 advance_clock(std::optional<u64> ns) override;
  Status watch_interrupt_lines(std::function<void(u32 gsi, bool level)> listener) override;

  // SystemControl: any thread.
  void request_reset() override;
  void request_power_off() override;
  void request_suspend() override;
  void request_hibernate() override;
  void report_alarm() override;
  void request_exit(int status) override;
  void report_panic(bool crash_kernel) override;
  void report_watchdog() override;

 private:
  /// A device that -device or device_add brought.
  struct Plugged {
    DeviceConfig config;
    std::string user;                       // name towards the back ends: the id, or a path
    devices::Device* device = nullptr;
    devices::VirtioBalloon* balloon = nullptr;
    devices::VirtioConsole* console = nullptr;
    LoopThread* thread = nullptr;
    bool leaving = false;                   // the guest was asked to let go
    std::function<void(bool up)> set_link = {};
    std::function<void()> announce = {};
    std::function<devices::ReceiveFilter()> receive_filter = {};
  };

  MachineImpl(const Config& config, Loop& control, const std::map<CharId, CharBackend*>& chars)
      : config_(config), control_(control), chars_(chars) {}

  // Birth.
  Status build();
  Status create_vm();
  void make_idle();
  Result<std::unique_ptr<cpu::Vm>> try_accelerator(const AcceleratorChoice& choice);
  Status create_back_ends();
  Status create_board();
  Status create_vcpus();
  Status add_cold_devices();
  Status prepare_boot();
  BoardContext board_context();
  Result<std::vector<FlashDrive>> claim_flash();
  MakerContext maker_context();

  // Life cycle.
  void set_state(RunState state);
  void emit(Event event);
  void post(std::function<void()> function);
  /// Any thread: emitted on the control loop soon, or by tell_news() before.
  void announce(Event event);
  /// Stops vCPUs, then devices; the clock stands still.
  /// Devices work: only those of a machine that sleeps do so without processors.
  bool devices_run() const { return state_ == RunState::Running || state_ == RunState::Suspended; }
  void fall_asleep();
  void wake(devices::WakeReason reason);
  Status stop_everything();
  /// Starts what stop_everything() stopped; of the vCPUs, one alone if told so.
  void run_everything(std::optional<u32> only = std::nullopt);
  Status go_on(std::optional<u32> only);
  void guest_panicked();
  void watchdog_expired();
  void stop_in(RunState state);
  Status check_cpu(u32 index) const;
  Status quiesce_devices();
  Status reset_all();
  Status power_on();
  void enter_shutdown(bool guest, std::string reason);
  void on_vcpu_exit(u32 index, cpu::RunExit exit);
  void vcpu_failed(u32 index);
  void debug_stopped(u32 index);
  void handle_requests();
  void on_block_error(const std::string& drive, const std::string& device, const devices::BlockError& error);
  void block_error(const std::string& drive, const std::string& device, const devices::BlockError& error);

  // Devices.
  Status plug(const DeviceConfig& device, bool hotplugged);
  Status plug_into_place(const DeviceInfo& info, bool hotplugged);
  void device_gone(const std::string& user);
  devices::VirtioBalloon* balloon() const;
  Status plug_isa(const DeviceConfig& device);
  Status plug_tpm(const DeviceConfig& device);
  Status plug_generation(const DeviceConfig& device);
  Status plug_ramfb(const DeviceConfig& device);
  /// Those of the board and those that -device put on the ISA bus.
  std::vector<devices::Device*> all_devices();
  Status plug_test_device();
  Status plug_disk(const DeviceInfo& info, bool hotplugged);
  Status plug_floppy(const DeviceInfo& info);
  Status plug_usb_disk(const DeviceInfo& info, bool hotplugged);
  struct DiskPlace {
    const DiskBuses::Bus* bus = nullptr;
    unsigned unit = 0;             // ATA
    devices::ScsiAddress address;  // SCSI
  };
  Status attach_disk(const DiskPlace& place, MadeDisk made, LoopThread& thread, bool announce);
  Status plug_console_port(const DeviceInfo& info);
  Plugged* find_plugged(const std::string& id);
  void on_ejected(devices::Device& device);
  void finish_unplug(devices::Device* device);
  void destroy(std::unique_ptr<devices::Device> device, LoopThread& thread);

  Result<std::string> describe_page_tables(u32 index, bool each);
  /// Runs `body` with all vCPUs stopped.
  template <class F>
  auto while_paused(F body);

  const Config config_;
  Loop& control_;
  const std::map<CharId, CharBackend*>& chars_;  // grows with what monitors add
  std::function<void(const Event&)> handler_;
  RunState state_ = RunState::Prelaunch;
  std::optional<int> exit_code_;
  bool started_ = false, ended_ = false;
  WatchdogAction watchdog_action_ = config_.watchdog_action;
  PanicAction panic_action_ = config_.panic_action;
  News news_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // control thread: posted functions look first

  // In the order in which they depend on each other.
  memory::AddressSpace memory_{"memory", u64{1} << 52};
  memory::AddressSpace ports_{"I/O", u64{1} << 16};
  VmClock clock_;
  display::InputRouter input_;
  UsbTree usb_;
  ConsolePorts console_ports_;
  display::ScreenList screens_;
  std::unique_ptr<BackEnds> back_ends_;
  std::unique_ptr<Media> media_;
  std::unique_ptr<cpu::Vm> vm_;
  IdleVm* idle_vm_ = nullptr;  // vm_, if its vCPUs run nothing
  std::vector<cpu::CpuidTable> cpuid_;
  std::unique_ptr<LoopClock> device_clock_;
  std::unique_ptr<Board> board_;
  std::vector<std::unique_ptr<devices::Device>> isa_devices_;
  std::vector<Plugged> plugged_;
  std::vector<DeviceInfo> present_;
  unsigned unnamed_devices_ = 0;
  DiskBuses disk_buses_;
  std::vector<cpu::VcpuState> power_on_states_;
  std::vector<cpu::DebugRequest::Point> debug_points_;
  std::unique_ptr<VcpuThreads> threads_;

  std::atomic<bool> reset_requested_{false}, power_off_requested_{false}, suspend_requested_{false}, hibernate_requested_{false};
  std::atomic<int> exit_requested_{-1};
};

template <class F>
auto MachineImpl::while_paused(F body) {
  const bool running = state_ == RunState::Running;
  if (running) threads_->pause();
  auto result = body();
  if (running) threads_->resume();
  return result;
}

}  // namespace atl::machine
