// Birth and life cycle of a machine.
#include "machine/machine.h"

#include <chrono>
#include <semaphore>

#include <fmt/core.h>

#include "base/log.h"
#include "cpu/kvm/accelerator.h"
#include "cpu/soft/accelerator.h"
#include "machine/block_exports.h"
#include "machine/idle_vm.h"
#include "machine/machine_impl.h"

namespace atl::machine {
namespace {

constexpr auto kQuiesceDeadline = std::chrono::seconds(30);

}  // namespace

std::string_view run_state_name(RunState state) {
  switch (state) {
    case RunState::Prelaunch: return "prelaunch";
    case RunState::Running: return "running";
    case RunState::Paused: return "paused";
    case RunState::Debug: return "debug";
    case RunState::Shutdown: return "shutdown";
    case RunState::IoError: return "io-error";
    case RunState::InternalError: return "internal-error";
    case RunState::GuestPanicked: return "guest-panicked";
    case RunState::Watchdog: return "watchdog";
    case RunState::Suspended: return "suspended";
  }
  return "unknown";
}

Result<std::unique_ptr<Machine>> Machine::create(const Config& config, Loop& control,
                                                 const std::map<CharId, CharBackend*>& chars) {
  return MachineImpl::create(config, control, chars);
}

Result<std::unique_ptr<Machine>> MachineImpl::create(const Config& config, Loop& control,
                                                     const std::map<CharId, CharBackend*>& chars) {
  std::unique_ptr<MachineImpl> machine(new MachineImpl(config, control, chars));
  TRY(machine->build());
  return std::unique_ptr<Machine>(std::move(machine));
}

Status MachineImpl::build() {
  TRY(map_ram(config_, memory_));
  TRY(create_vm());
  TRY(create_back_ends());
  TRY(create_board());
  TRY(add_cold_devices());
  TRY(create_vcpus());
  return prepare_boot();
}

/// Tries the accelerators in the order given; a fallback says so in one line.
Status MachineImpl::create_vm() {
  std::string reason = "no accelerator was asked for";
  for (const AcceleratorChoice& choice : config_.accelerators) {
    auto vm = try_accelerator(choice);
    if (vm) {
      if (&choice != &config_.accelerators.front()) log_info("{}; using the software CPU", reason);
      vm_ = *std::move(vm);
      if (choice.kind == AcceleratorKind::Idle) make_idle();
      return {};
    }
    reason = vm.error().text();
  }
  return Error(ErrorKind::Unsupported, reason);
}

/// Nothing happens by itself: guest time goes forward only when it is told to.
void MachineImpl::make_idle() {
  auto idle = IdleVm::create(std::move(vm_));
  idle_vm_ = idle.get();
  vm_ = std::move(idle);
}

Result<std::unique_ptr<cpu::Vm>> MachineImpl::try_accelerator(const AcceleratorChoice& choice) {
  const cpu::VmOptions options = {.irqchip = irqchip_of(config_.board),
                                  .max_vcpus = std::max(config_.topology.cpus, config_.topology.max_cpus),
                                  .memory = &memory_,
                                  .ports = &ports_,
                                  .pit_makes_up_ticks = config_.pit_makes_up_ticks};
  if (choice.kind != AcceleratorKind::Kvm) return cpu::create_soft_vm(options, choice.translate);
  TRY(cpu::kvm_usable(choice.any_kvm_backend));
  return cpu::create_kvm_vm(options, [this](const cpu::CpuidTable& cpuid) {
    return cpu::create_instruction_stepper(memory_, ports_, cpuid);
  });
}

Status MachineImpl::create_back_ends() {
  back_ends_ = TRY(BackEnds::create());
  device_clock_ = std::make_unique<LoopClock>(back_ends_->default_thread().loop(), clock_, idle_vm_ ? LoopClock::Pace::Stepped : LoopClock::Pace::Host);
  for (const IoThreadConfig& thread : config_.iothreads) TRY(back_ends_->add_iothread(thread));
  for (const RngConfig& rng : config_.rngs) TRY(back_ends_->add_rng(rng));
  BlockStore& blocks = back_ends_->blocks();
  media_ = std::make_unique<Media>(blocks);
  blocks.set_job_listener([this](const block::JobEvent& job) {
    announce({.kind = Event::Kind::BlockJob, .job = std::make_shared<block::JobEvent>(job)});
  });
  blocks.exports().on_removed([this](const std::string& id) { emit({.kind = Event::Kind::BlockExportDeleted, .device = id}); });
  for (const SecretConfig& secret : config_.secrets) blocks.add_secret(secret);
  for (const ThrottleGroupConfig& group : config_.throttle_groups) TRY(blocks.add_throttle_group(group));
  for (const DriveConfig& drive : config_.drives) TRY(blocks.add(drive));
  for (const NetConfig& network : config_.networks) TRY(back_ends_->add_network(network));
  return {};
}

BoardContext MachineImpl::board_context() {
  return {.config = config_,
          .vm = *vm_,
          .memory = memory_,
          .ports = ports_,
          .clock = *device_clock_,
          .io_loop = back_ends_->default_thread().loop(),
          .system = *this,
          .input = input_,
          .screens = screens_,
          .chars = chars_,
          .rtc_changed = [this](i64 seconds) {
            announce({.kind = Event::Kind::RtcChange, .value = seconds});
          },
          .ejected = [this](devices::Device& device) { on_ejected(device); }};
}

/// The drives of the flash chips stay on the default I/O thread.
Result<std::vector<FlashDrive>> MachineImpl::claim_flash() {
  std::vector<FlashDrive> flash;
  LoopThread& thread = back_ends_->default_thread();
  for (const std::string& id : config_.boot.flash) {
    if (id.empty()) continue;
    const auto drive = TRY(back_ends_->blocks().claim(id, fmt::format("system.flash{}", flash.size()), thread, false));
    flash.push_back({id, drive.root, &thread, drive.config->mode.readonly && !drive.config->snapshot});
  }
  return flash;
}

Status MachineImpl::create_board() {
  BoardContext context = board_context();
  if (config_.smm.value_or(false) && !vm_->has_smm())
    return Error(ErrorKind::Unsupported, fmt::format("System Management Mode is not supported by the accelerator '{}'", vm_->accelerator()));
  context.smm = config_.smm.value_or(vm_->has_smm());
  context.flash = TRY(claim_flash());
  switch (config_.board) {
    case BoardKind::Pc:
    case BoardKind::Q35: board_ = TRY(create_pc(context)); break;
    case BoardKind::Microvm: board_ = TRY(create_microvm(context)); break;
    case BoardKind::None: board_ = TRY(create_empty_board(context)); break;
  }
  if (auto controller = board_->disk_controller()) disk_buses_.add("", *controller->device, controller->ata, nullptr, back_ends_->default_thread());
  return {};
}

Status MachineImpl::create_vcpus() {
  cpuid_ = TRY(cpu::build_cpuid(config_.cpu, vm_->cpuid_limits(), config_.topology));
  std::vector<std::unique_ptr<cpu::Vcpu>> vcpus;
  const u32 count = config_.board == BoardKind::None ? 0 : config_.topology.cpus;
  for (u32 i = 0; i < count; ++i) {
    vcpus.push_back(TRY(vm_->create_vcpu(i, cpuid_[i]).context(fmt::format("create vCPU {}", i))));
    power_on_states_.push_back(TRY(vcpus.back()->get_state()));
  }
  threads_ = std::make_unique<VcpuThreads>([this](u32 index, cpu::RunExit exit) { on_vcpu_exit(index, exit); });
  return threads_->start(std::move(vcpus), vm_->accelerator());
}

/// Loads what boots and puts the first processor at its entry.
Status MachineImpl::prepare_boot() {
  const BootEntry entry = TRY(board_->load());
  if (entry.mode == BootEntry::Mode::Reset) return {};
  cpu::VcpuState state = power_on_states_[0];
  TRY(enter(entry, *memory_.guest_memory(), state));
  return threads_->vcpu(0).set_state(state);
}

MachineImpl::~MachineImpl() {
  *alive_ = false;
  shut_down();
  // The I/O threads have ended: devices may be destroyed here, before what they use.
  board_.reset();
  isa_devices_.clear();
}

Status MachineImpl::start() {
  CHECK(!started_);
  started_ = true;
  return config_.start_paused ? Status{} : resume();
}

void MachineImpl::set_state(RunState state) { state_ = state; }

void MachineImpl::emit(Event event) {
  if (handler_) handler_(event);
}

void MachineImpl::announce(Event event) {
  news_.add(std::move(event));
  post([this] { tell_news(~u64{0}); });
}

void MachineImpl::tell_news(u64 count) {
  while (std::optional<Event> event = news_.take(count)) emit(std::move(*event));
}

void MachineImpl::post(std::function<void()> function) {
  control_.post([alive = alive_, function = std::move(function)] {
    if (*alive) function();
  });
}

Status MachineImpl::stop_everything() {
  threads_->pause();
  vm_->pause_clock();
  clock_.pause();
  return quiesce_devices();
}

void MachineImpl::run_everything(std::optional<u32> only) {
  if (!idle_vm_) clock_.resume();
  device_clock_->resumed();
  vm_->resume_clock();
  for (devices::Device* device : all_devices()) device->resume();
  if (state_ != RunState::Suspended) threads_->resume(only);
}

std::vector<devices::Device*> MachineImpl::all_devices() {
  std::vector<devices::Device*> all = board_->devices();
  for (auto& device : isa_devices_) all.push_back(device.get());
  for (devices::Device* disk : media_->pausable()) all.push_back(disk);
  return all;
}

/// Waits for every device's loop to say that nothing is in flight.
Status MachineImpl::quiesce_devices() {
  for (devices::Device* device : all_devices()) {
    auto done = std::make_shared<std::binary_semaphore>(0);
    device->quiesce([done] { done->release(); });
    if (!done->try_acquire_for(kQuiesceDeadline)) {
      return Error(ErrorKind::Busy, fmt::format("{}: requests in flight did not end", device->type()));
    }
  }
  return {};
}

Status MachineImpl::pause() {
  if (state_ != RunState::Running) return {};  // one that sleeps has stopped by itself
  if (Status stopped = stop_everything(); !stopped) {
    run_everything();
    return stopped;
  }
  set_state(RunState::Paused);
  emit({.kind = Event::Kind::Stop});
  return {};
}

Status MachineImpl::resume() { return go_on(std::nullopt); }

Status MachineImpl::go_on(std::optional<u32> only) {
  if (devices_run()) return {};
  if (state_ == RunState::Shutdown || state_ == RunState::InternalError || state_ == RunState::GuestPanicked) {
    return Error(ErrorKind::Invalid, "Resetting the Virtual Machine is required");
  }
  for (auto& drive : back_ends_->blocks().drives()) drive.io_error = drive.no_space = false;
  set_state(RunState::Running);
  emit({.kind = Event::Kind::Resume});
  run_everything(only);
  post([this] { handle_requests(); });  // what the guest asked for while the machine was being paused
  return {};
}

/// Processors and devices to their state at power-on; they are stopped.
Status MachineImpl::reset_all() {
  board_->reset();
  for (auto& device : isa_devices_) device->reset();
  TRY(vm_->reset_irqchip());
  for (u32 i = 0; i < threads_->count(); ++i) TRY(threads_->vcpu(i).set_state(power_on_states_[i]));
  return {};
}

Status MachineImpl::power_on() {
  TRY(reset_all());
  return prepare_boot();
}

Status MachineImpl::reset() {
  const bool was_running = devices_run();
  if (was_running) TRY(stop_everything());
  reset_requested_ = false;
  TRY(power_on().context("reset"));
  emit({.kind = Event::Kind::Reset, .reason = "host-qmp-system-reset"});
  if (was_running) {
    set_state(RunState::Running);
    run_everything();
  }
  else if (state_ != RunState::Prelaunch) set_state(RunState::Paused);
  return {};
}

Status MachineImpl::powerdown() {
  if (state_ == RunState::Suspended) wake(devices::WakeReason::Button);
  else board_->press_power_button();
  emit({.kind = Event::Kind::Powerdown});
  return {};
}

bool MachineImpl::can_suspend() const { return board_->can_suspend(); }

Status MachineImpl::wake_up() {
  if (!can_suspend()) return Error(ErrorKind::Unsupported, "wake-up from suspend is not supported by this machine");
  if (state_ != RunState::Suspended) return Error(ErrorKind::Invalid, "Unable to wake up: guest is not in suspended state");
  wake(devices::WakeReason::Button);
  return {};
}

/// The processors stop; devices and clocks go on, for one of them may have to wake the machine.
void MachineImpl::fall_asleep() {
  threads_->pause();
  set_state(RunState::Suspended);
  emit({.kind = Event::Kind::Suspend});
}

/// Back to power-on but for memory: firmware finds there where the guest goes on.
void MachineImpl::wake(devices::WakeReason reason) {
  Status done = stop_everything();
  if (done) done = reset_all();
  if (!done) {
    log_error("wake-up: {}", done.error().text());
    set_state(RunState::InternalError);
    return emit({.kind = Event::Kind::Stop});
  }
  board_->wake(reason);
  set_state(RunState::Running);
  emit({.kind = Event::Kind::Wakeup});
  run_everything();
}

Status MachineImpl::inject_nmi() {
  for (u32 i = 0; i < threads_->count(); ++i) TRY(threads_->vcpu(i).inject_nmi());
  return {};
}

void MachineImpl::shut_down() {
  if (ended_) return;
  ended_ = true;
  if (threads_) {
    if (devices_run()) {
      if (auto stopped = stop_everything(); !stopped) log_warning("{}", stopped.error().text());
    }
    threads_->stop();
  }
  if (!back_ends_) return;
  if (auto flushed = back_ends_->flush(); !flushed) log_error("{}", flushed.error().text());
  back_ends_->stop_threads();
}

u64 MachineImpl::advance_clock(std::optional<u64> ns) {
  const u64 step = ns ? *ns : device_clock_->until_next_alarm().value_or(0);
  if (idle_vm_) {
    device_clock_->step(step);
    return clock_.now_ns();
  }
  const bool running = clock_.running();
  clock_.pause();
  clock_.set_ns(clock_.now_ns() + step);
  if (running) clock_.resume();
  device_clock_->resumed();
  return clock_.now_ns();
}

Status MachineImpl::watch_interrupt_lines(std::function<void(u32, bool)> listener) {
  if (!idle_vm_) return Error(ErrorKind::Unsupported, "interrupt lines can be watched with -accel qtest only");
  idle_vm_->watch_lines(std::move(listener));
  return {};
}

}  // namespace atl::machine
