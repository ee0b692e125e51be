#include "cpu/soft/accelerator.h"

#include <fmt/format.h>

#include <charconv>

#include "base/archive.h"
#include "cpu/irqchip_text.h"
#include "cpu/soft/exec/run.h"
#include "cpu/soft/irq/interrupt_chips.h"
#include "cpu/soft/native/stub.h"
#include "cpu/soft/native/supported.h"
#include "cpu/soft/system/state.h"
#include "cpu/soft/vcpu.h"

namespace atl::soft {

namespace {

class SoftMsiRoute final : public MsiRoute {
 public:
  explicit SoftMsiRoute(SoftVm& vm) : vm_(vm) {}

  void set_message(const MsiMessage& message) override {
    Lock lock(mutex_);
    message_ = message;
  }
  void fire() override { route_msi(vm_, message()); }

 private:
  MsiMessage message() {
    Lock lock(mutex_);
    return message_;
  }

  SoftVm& vm_;
  Mutex mutex_;
  MsiMessage message_ GUARDED_BY(mutex_);
};

/// Tells the vCPUs of a new memory map, and sizes the table of code pages before they first run.
class MapFollower final : public memory::MapListener {
 public:
  explicit MapFollower(SoftVm& vm) : vm_(vm) {}

  void map_changed(const memory::AddressMap&, const memory::AddressMap& after) override {
    if (!started_) cover_ram(after);
    for (Core* core : vm_.cores) {
      if (core) request_attention(*core, kAttendTlb);
    }
  }
  void cover_ram(const memory::AddressMap& map) {
    GuestAddr end = 0;
    for (const auto& slot : map.slots()) {
      if (slot.region->ram) end = slot.base + slot.size;
    }
    if (end > covered_) vm_.code.resize(covered_ = end);
  }
  /// From now on vCPUs read the table, and it keeps its size.
  void set_started() { started_ = true; }
  bool started() const { return started_; }

 private:
  SoftVm& vm_;
  GuestAddr covered_ = 0;
  bool started_ = false;
};

class SoftMachine final : public Vm {
 public:
  static Result<std::unique_ptr<Vm>> create(const VmOptions& options, const SoftOptions& translate);
  ~SoftMachine() override;

  std::string_view accelerator() const override { return "soft"; }
  CpuidLimits cpuid_limits() const override { return {.supported = soft_supported_cpuid(), .accelerator = "soft"}; }
  Result<std::unique_ptr<Vcpu>> create_vcpu(u32 index, const CpuidTable& cpuid) override;
  IrqLine& gsi(u32 number) override { return chips_->gsi(number); }
  void connect_pit(bool connected) override { chips_->connect_pit(connected); }
  void send_msi(const MsiMessage& message) override { route_msi(vm_, message); }
  Result<std::unique_ptr<MsiRoute>> create_msi_route() override { return std::make_unique<SoftMsiRoute>(vm_); }
  bool has_smm() const override { return true; }
  void raise_smi(bool all) override;
  void pause_clock() override;
  void resume_clock() override;
  Status reset_irqchip() override;
  Result<std::vector<u8>> save_irqchip() override;
  Status restore_irqchip(std::span<const u8> state) override;
  std::string describe_irqchip(std::string_view what) override;
  Counters counters() const override { return translations_ ? translations_->counters() : Counters{}; }

 private:
  SoftMachine() : follower_(vm_) {}
  void visit(Archive& archive);
  void print_stats() const;

  SoftVm vm_;
  MapFollower follower_;
  std::unique_ptr<translate::CodeCache> translations_;
  std::unique_ptr<InterruptChips> chips_;
  std::vector<std::unique_ptr<CoreParts>> cores_;
  bool stats_ = false;
  bool direct_ = false;
};

Result<std::unique_ptr<Vm>> SoftMachine::create(const VmOptions& options, const SoftOptions& translate) {
  std::unique_ptr<SoftMachine> machine(new SoftMachine());
  SoftVm& vm = machine->vm_;
  vm.memory = options.memory;
  vm.ports = options.ports;
  vm.cores.resize(options.max_vcpus);
  machine->cores_.resize(options.max_vcpus);
  machine->stats_ = translate.stats;
  machine->direct_ = translate.direct;
  machine->chips_ = TRY(InterruptChips::create(vm, options.irqchip));
  if (translate.translation != Translation::Off) {
    machine->translations_ = TRY(translate::CodeCache::create(vm, translate));
    vm.translations = machine->translations_.get();
  }
  options.memory->set_listener(&machine->follower_);
  options.memory->set_write_observer(&vm.code);
  return std::unique_ptr<Vm>(std::move(machine));
}

void SoftMachine::print_stats() const {
  auto print = [](std::string_view owner, const Counters& counters) {
    for (const auto& [name, value] : counters) fmt::print(stderr, "{} {} {}\n", owner, name, value);
  };
  print("vm", counters());
  for (const auto& parts : cores_)
    if (parts) print(fmt::format("vcpu{}", parts->core.index), SoftVcpu(parts->core).counters());
}

SoftMachine::~SoftMachine() {
  if (stats_) print_stats();
  vm_.memory->set_listener(nullptr);
  vm_.memory->set_write_observer(nullptr);
  if (chips_) chips_->timers().stop();
}

Result<std::unique_ptr<Vcpu>> SoftMachine::create_vcpu(u32 index, const CpuidTable& cpuid) {
  if (index >= cores_.size()) return Error(ErrorKind::Invalid, "vCPU index past the VM's maximum");
  if (cores_[index]) return Error(ErrorKind::Exists, "vCPU exists already");
  auto parts = make_core(vm_, index, cpuid);
  parts->apic = std::make_unique<LocalApic>(parts->core, vm_, chips_->timers());
  parts->core.apic = parts->apic.get();
  reset_core(parts->core, index == 0);
  // Later the process is confined, and may have secrets: vCPUs that are plugged in do without.
  if (direct_ && !follower_.started()) {
    parts->direct = TRY(direct::Tier::create(parts->core));
    parts->core.direct = parts->direct.get();
  }
  vm_.cores[index] = &parts->core;
  cores_[index] = std::move(parts);
  return std::make_unique<SoftVcpu>(cores_[index]->core);
}

void SoftMachine::raise_smi(bool all) {
  for (Core* core : vm_.cores)
    if (core && (all || core->index == 0)) request_attention(*core, kAttendSmi);
}

void SoftMachine::pause_clock() {
  vm_.tsc.stop();
  vm_.clock.pause();
  chips_->timers().clock_changed();
}

void SoftMachine::resume_clock() {
  follower_.set_started();
  vm_.clock.resume();
  chips_->timers().clock_changed();
}

Status SoftMachine::reset_irqchip() {
  chips_->reset();
  for (auto& parts : cores_) {
    if (parts) parts->apic->reset(false);
  }
  return {};
}

void SoftMachine::visit(Archive& archive) {
  u64 now_ns = vm_.clock.now_ns();
  archive.field(1, "clock_ns", now_ns);
  if (archive.loading()) {
    vm_.clock.pause();
    vm_.clock.set_ns(now_ns);
  }
  archive.part(2, "chips", [this](Archive& a) { chips_->visit(a); });
}

Result<std::vector<u8>> SoftMachine::save_irqchip() {
  Archive archive;
  visit(archive);
  return archive.take();
}

Status SoftMachine::restore_irqchip(std::span<const u8> state) {
  bool was_running = vm_.clock.running();
  Archive archive(state);
  visit(archive);
  if (was_running) vm_.clock.resume();
  chips_->timers().clock_changed();
  return archive.status();
}

/// "lapic" means the first vCPU's, "lapic 2" the third's.
std::string SoftMachine::describe_irqchip(std::string_view what) {
  if (what == "pic") return chips_->describe_pic();
  if (what == "ioapic") return chips_->describe_io_apic();
  if (!what.starts_with("lapic")) return {};
  u32 index = 0;
  size_t digits = std::min(what.find_first_of("0123456789"), what.size());
  std::from_chars(what.data() + digits, what.data() + what.size(), index);
  if (index >= cores_.size() || !cores_[index]) return {};
  ApicPage page;
  cores_[index]->apic->export_page(page);
  return describe_local_apic(index, page);
}

/// Holds a core that is given a foreign state for each step.
class SoftStepper final : public InstructionStepper {
 public:
  SoftStepper(memory::AddressSpace& memory, memory::AddressSpace& ports, const CpuidTable& cpuid) {
    vm_.memory = &memory;
    vm_.ports = &ports;
    parts_ = make_core(vm_, 0, cpuid);
    vm_.clock.resume();
  }

  Status step(VcpuState& state) override {
    Core& core = parts_->core;
    TRY(import_state(core, state));
    core.attention = 0;
    if (!step_one(core)) return Error(ErrorKind::Cancelled, "triple fault");
    export_state(core, state);
    return {};
  }

 private:
  SoftVm vm_;
  std::unique_ptr<CoreParts> parts_;
};

}  // namespace

std::unique_ptr<CoreParts> make_core(SoftVm& vm, u32 index, const CpuidTable& cpuid) {
  auto parts = std::make_unique<CoreParts>();
  parts->cpuid = cpuid;
  Core& core = parts->core;
  core.index = index;
  core.vm = &vm;
  core.cpuid = &parts->cpuid;
  core.memory_bus = std::make_unique<memory::BusView>(*vm.memory);
  core.other_bus = std::make_unique<memory::BusView>(*vm.memory, memory::View::Smm);
  core.port_bus = std::make_unique<memory::BusView>(*vm.ports);
  parts->blocks = attach_block_cache(core);
  if (vm.translations) parts->translation = translate::attach_runtime(core, *vm.translations);
  return parts;
}

}  // namespace atl::soft

namespace atl::cpu {

Result<std::unique_ptr<Vm>> create_soft_vm(const VmOptions& options, const SoftOptions& translate) {
  TRY(soft::prepare_stubs());
  return soft::SoftMachine::create(options, translate);
}

Result<std::unique_ptr<InstructionStepper>> create_instruction_stepper(memory::AddressSpace& memory,
                                                                       memory::AddressSpace& ports, const CpuidTable& cpuid) {
  TRY(soft::prepare_stubs());
  return std::make_unique<soft::SoftStepper>(memory, ports, cpuid);
}

}  // namespace atl::cpu
