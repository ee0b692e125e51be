#include "cpu/kvm/accelerator.h"

#include <cpuid.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "cpu/irqchip_text.h"
#include "cpu/kvm/irqchip.h"
#include "cpu/kvm/memory_slots.h"
#include "cpu/kvm/vcpu.h"
#include "cpu/spec.h"

namespace atl::cpu {

namespace kvm {

namespace {

// Three pages for Intel's real mode emulation and one for its identity map, below the BIOS at the top of 4 GiB.
constexpr u64 kIdentityMap = 0xfeffc000, kTss = 0xfeffd000;

class KvmMsiRoute final : public MsiRoute {
 public:
  explicit KvmMsiRoute(VmFd& vm) : vm_(vm) {}

  void set_message(const MsiMessage& message) override {
    Lock lock(mutex_);
    message_ = message;
  }
  void fire() override {
    MsiMessage now = message();
    (void)vm_.signal_msi(now.address, now.data);  // a message that no vCPU takes is the guest's affair
  }

 private:
  MsiMessage message() {
    Lock lock(mutex_);
    return message_;
  }

  VmFd& vm_;
  Mutex mutex_;
  MsiMessage message_ GUARDED_BY(mutex_);
};

class KvmMachine final : public Vm {
 public:
  static Result<std::unique_ptr<Vm>> create(const VmOptions& options, StepperFactory stepper);
  ~KvmMachine() override;

  std::string_view accelerator() const override { return "kvm"; }
  CpuidLimits cpuid_limits() const override { return {.supported = supported_, .accelerator = "kvm"}; }
  Result<std::unique_ptr<Vcpu>> create_vcpu(u32 index, const CpuidTable& cpuid) override;
  IrqLine& gsi(u32 number) override { return irqchip_->gsi(number); }
  void connect_pit(bool connected) override { irqchip_->connect_pit(connected); }
  void send_msi(const MsiMessage& message) override { (void)shared_.fd.signal_msi(message.address, message.data); }
  Result<std::unique_ptr<MsiRoute>> create_msi_route() override { return std::make_unique<KvmMsiRoute>(shared_.fd); }
  void pause_clock() override;
  void resume_clock() override;
  Status reset_irqchip() override { return irqchip_->reset(); }
  Result<std::vector<u8>> save_irqchip() override { return irqchip_->save(); }
  Status restore_irqchip(std::span<const u8> state) override { return irqchip_->restore(state); }
  std::string describe_irqchip(std::string_view what) override;
  Counters counters() const override { return {}; }
  std::vector<Statistic> statistics() const override { return read_kvm_statistics(shared_.fd.statistics()); }

 private:
  KvmMachine(System system, VmFd fd, const VmOptions& options, StepperFactory stepper);
  Status probe();
  void follow_maps();

  System system_;
  VmShared shared_;
  StepperFactory stepper_;
  CpuidTable supported_;
  std::unique_ptr<KernelIrqchip> irqchip_;
  MemoryFollower memory_follower_;
  PortFollower port_follower_;
  std::vector<KvmVcpu*> vcpus_;  // owned by the machine, which destroys them first
};

/// Saved state holds XSAVE areas of 4 KiB; the tile registers (AMX) would not fit.
void drop_amx(CpuidTable& table) {
  constexpr u32 kTileFeatures = 1u << 22 | 1u << 24 | 1u << 25, kTileComponents = 3u << 17;
  if (const CpuidEntry* found = table.find(7, 0)) {
    CpuidEntry entry = *found;
    entry.edx &= ~kTileFeatures;
    table.set(entry);
  }
  if (const CpuidEntry* found = table.find(0xd, 0)) {
    CpuidEntry entry = *found;
    entry.eax &= ~kTileComponents;
    table.set(entry);
  }
}

/// The kernel leaves out what depends on its own APIC, which every VM here has.
void add_apic_features(CpuidTable& table, bool tsc_deadline) {
  constexpr u32 kX2apic = 1u << 21, kTscDeadlineBit = 1u << 24, kHypervisor = 1u << 31;
  const CpuidEntry* found = table.find(1, 0);
  if (!found) return;
  CpuidEntry entry = *found;
  entry.ecx |= kX2apic | kHypervisor | (tsc_deadline ? kTscDeadlineBit : 0);
  table.set(entry);
}

CpuidTable to_table(const CpuidEntries& entries) {
  std::vector<CpuidEntry> out;
  for (const kvm_cpuid_entry2& e : entries) {
    out.push_back({.leaf = e.function,
                   .subleaf = e.index,
                   .has_subleaf = (e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
                   .eax = e.eax,
                   .ebx = e.ebx,
                   .ecx = e.ecx,
                   .edx = e.edx});
  }
  return CpuidTable(std::move(out));
}

KvmMachine::KvmMachine(System system, VmFd fd, const VmOptions& options, StepperFactory stepper)
    : system_(std::move(system)),
      shared_{.fd = std::move(fd), .memory = options.memory, .ports = options.ports},
      stepper_(std::move(stepper)),
      memory_follower_(shared_.fd),
      port_follower_(shared_.fd) {}

Result<std::unique_ptr<Vm>> KvmMachine::create(const VmOptions& options, StepperFactory stepper) {
  System system = TRY(System::open());
  VmFd fd = TRY(system.create_vm());
  std::unique_ptr<KvmMachine> vm(new KvmMachine(std::move(system), std::move(fd), options, std::move(stepper)));
  TRY(vm->probe());
  TRY(vm->shared_.fd.set_identity_map_address(kIdentityMap));
  TRY(vm->shared_.fd.set_tss_address(kTss));
  vm->irqchip_ = TRY(KernelIrqchip::create(vm->shared_.fd, options.irqchip, options.pit_makes_up_ticks));
  vm->follow_maps();
  return std::unique_ptr<Vm>(std::move(vm));
}

Status KvmMachine::probe() {
  VmFd& fd = shared_.fd;
  shared_.has_sregs2 = fd.extension(KVM_CAP_SREGS2) > 0;
  shared_.has_xcrs = fd.extension(KVM_CAP_XCRS) > 0;
  shared_.has_debugregs = fd.extension(KVM_CAP_DEBUGREGS) > 0;
  shared_.xsave_size = static_cast<u64>(std::max(fd.extension(KVM_CAP_XSAVE2), 4096));
  if (fd.extension(KVM_CAP_X2APIC_API) & KVM_X2APIC_API_USE_32BIT_IDS) {
    TRY(fd.enable(KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS));
  }
  shared_.msr_indices = TRY(system_.msr_indices());
  std::erase_if(shared_.msr_indices, [](u32 index) { return index == kMsrEfer || index == kMsrApicBase; });
  shared_.stepper_msrs = {kMsrTsc,        kMsrStar,        kMsrLstar,       kMsrCstar,  kMsrSfmask,
                          kMsrKernelGsBase, kMsrSysenterCs, kMsrSysenterEsp, kMsrSysenterEip, kMsrTscAux};
  supported_ = to_table(TRY(system_.supported_cpuid()));
  drop_amx(supported_);
  add_apic_features(supported_, fd.extension(KVM_CAP_TSC_DEADLINE_TIMER) > 0);
  return {};
}

void KvmMachine::follow_maps() {
  shared_.memory->set_listener(&memory_follower_);
  shared_.ports->set_listener(&port_follower_);
}

KvmMachine::~KvmMachine() {
  if (!irqchip_) return;
  shared_.memory->set_listener(nullptr);
  shared_.ports->set_listener(nullptr);
}

Result<std::unique_ptr<Vcpu>> KvmMachine::create_vcpu(u32 index, const CpuidTable& cpuid) {
  std::unique_ptr<InstructionStepper> stepper;
  // KVM hides no instruction that the host has, whatever CPUID tells the guest; nor must the interpreter.
  if (stepper_) stepper = TRY(stepper_(host_cpuid()));
  auto vcpu = TRY(KvmVcpu::create(shared_, index, cpuid, std::move(stepper)));
  vcpus_.resize(std::max<size_t>(vcpus_.size(), index + 1));
  vcpus_[index] = vcpu.get();
  return std::unique_ptr<Vcpu>(std::move(vcpu));
}

void KvmMachine::pause_clock() { (void)irqchip_->pause_clock(); }

void KvmMachine::resume_clock() {
  (void)irqchip_->resume_clock();
  for (KvmVcpu* vcpu : vcpus_) {
    if (vcpu) vcpu->notify_paused();
  }
}

/// "lapic" means the first vCPU's, "lapic 2" the third's.
std::string KvmMachine::describe_irqchip(std::string_view what) {
  if (what == "pic") return irqchip_->describe_pic();
  if (what == "ioapic") return irqchip_->describe_io_apic();
  if (!what.starts_with("lapic")) return {};
  u32 index = 0;
  size_t digits = std::min(what.find_first_of("0123456789"), what.size());
  std::from_chars(what.data() + digits, what.data() + what.size(), index);
  if (index >= vcpus_.size() || !vcpus_[index]) return {};
  auto lapic = vcpus_[index]->lapic();
  if (!lapic) return {};
  ApicPage page;
  std::memcpy(page.data(), lapic->regs, page.size());
  return describe_local_apic(index, page);
}

bool cpu_has_virtualization() {
  constexpr u32 kVmx = 1u << 5, kSvm = 1u << 2;
  u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & kVmx) return true;
  return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && ecx & kSvm;
}

}  // namespace

}  // namespace kvm

Status kvm_usable(bool any_backend) {
  TRY(kvm::System::open());
  if (any_backend || kvm::cpu_has_virtualization()) return {};
  return Error(ErrorKind::Unsupported, "the CPU has neither vmx nor svm: KVM would emulate all kernel code");
}

Result<std::unique_ptr<Vm>> create_kvm_vm(const VmOptions& options, StepperFactory stepper) {
  return kvm::KvmMachine::create(options, std::move(stepper)).context("KVM");
}

}  // namespace atl::cpu
