// Bare-metal snippets on the real /dev/kvm; skipped where there is none. Any back end will do: the code keeps to what the
// slowest one can (real mode, a few instructions).
#include "cpu/kvm/accelerator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/endian.h"
#include "cpu/spec.h"

namespace atl::cpu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr u64 kRamSize = 2 * kMiB, kCode = 0x1000, kMmio = 0x300000;

/// Remembers writes; a write to its last byte kicks the vCPU, so that snippets end without a sleep.
class Recorder final : public memory::BusDevice {
 public:
  u64 bus_read(u64 offset, unsigned) override { return 0x40 + offset; }
  void bus_write(u64 offset, u64 value, unsigned width) override {
    writes.push_back({offset, value, width});
    if (on_write) on_write(offset);
  }
  struct Write {
    u64 offset, value;
    unsigned width;
    bool operator==(const Write&) const = default;
  };
  std::vector<Write> writes;
  std::function<void(u64)> on_write;
};

/// Skips an instruction of three bytes and leaves a mark.
class SkippingStepper final : public InstructionStepper {
 public:
  Status step(VcpuState& state) override {
    state.rip += 3;
    state.gpr[kRbx] = 0x77;
    return {};
  }
};

class KvmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto usable = kvm_usable(true); !usable) GTEST_SKIP() << usable.error().text();
    ram_ = MUST(memory::RamBlock::create("ram", kRamSize, {}));
    MUST(memory_.add({.name = "ram", .size = kRamSize, .ram = ram_}));
    MUST(memory_.add({.name = "mmio", .base = kMmio, .size = 0x1000, .device = &mmio_}));
    MUST(ports_.add({.name = "ports", .base = 0x100, .size = 0x20, .device = &device_}));
    device_.on_write = [this](u64 offset) {
      if (offset == 0x1f) vcpu_->kick();
    };
    start({.max_vcpus = 1, .memory = &memory_, .ports = &ports_}, nullptr);
  }

  void start(VmOptions options, StepperFactory stepper) {
    vcpu_.reset();
    vm_.reset();
    auto vm = create_kvm_vm(options, std::move(stepper));
    ASSERT_TRUE(vm) << vm.error().text();
    vm_ = std::move(*vm);
    auto vcpu = vm_->create_vcpu(0, vm_->cpuid_limits().supported);
    ASSERT_TRUE(vcpu) << vcpu.error().text();
    vcpu_ = std::move(*vcpu);
    vm_->resume_clock();
  }

  void load(u64 at, std::initializer_list<u8> code) { std::copy(code.begin(), code.end(), ram_->data() + at); }

  VcpuState real_mode_at(u64 rip) {
    VcpuState state = reset_state(true);
    state.seg[kCs].selector = 0;
    state.seg[kCs].base = 0;
    state.rip = rip;
    return state;
  }

  RunExit run(std::initializer_list<u8> code) {
    load(kCode, code);
    MUST(vcpu_->set_state(real_mode_at(kCode)));
    return vcpu_->run();
  }

  memory::AddressSpace memory_{"memory", u64{1} << 40};
  memory::AddressSpace ports_{"ports", 1 << 16};
  std::shared_ptr<memory::RamBlock> ram_;
  Recorder device_, mmio_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Vcpu> vcpu_;
};

TEST_F(KvmTest, PortAccessesReachTheDevice) {
  RunExit exit = run({
      0xba, 0x05, 0x01,  // mov dx, 0x105
      0xec,              // in al, dx
      0xef,              // out dx, ax
      0xba, 0x1f, 0x01,  // mov dx, 0x11f
      0xee,              // out dx, al: kicks
      0xeb, 0xfe,        // jmp $
  });
  EXPECT_EQ(exit, RunExit::Kicked);
  EXPECT_THAT(device_.writes, ElementsAre(Recorder::Write{5, 0x45, 2}, Recorder::Write{0x1f, 0x45, 1}));
}

TEST_F(KvmTest, StringOutputWritesEveryElement) {
  ram_->data()[0x2000] = 1;
  ram_->data()[0x2001] = 2;
  run({
      0xbe, 0x00, 0x20,  // mov si, 0x2000
      0xb9, 0x02, 0x00,  // mov cx, 2
      0xba, 0x00, 0x01,  // mov dx, 0x100
      0xf3, 0x6e,        // rep outsb
      0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe,
  });
  ASSERT_GE(device_.writes.size(), 2u);
  EXPECT_EQ(device_.writes[0].value, 1u);
  EXPECT_EQ(device_.writes[1].value, 2u);
}

TEST_F(KvmTest, MemoryAccessesOutsideRamReachTheDevice) {
  VcpuState state = real_mode_at(kCode);
  state.seg[kDs].base = kMmio;
  load(kCode, {
                  0xa0, 0x10, 0x00,        // mov al, [0x10]
                  0x66, 0xa3, 0x20, 0x00,  // mov [0x20], eax
                  0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe,
              });
  ASSERT_TRUE(vcpu_->set_state(state));
  vcpu_->run();
  ASSERT_EQ(mmio_.writes.size(), 1u);
  EXPECT_EQ(mmio_.writes[0].offset, 0x20u);
  EXPECT_EQ(mmio_.writes[0].value & 0xff, 0x50u);
  EXPECT_EQ(mmio_.writes[0].width, 4u);
}

TEST_F(KvmTest, KickBeforeRunMakesRunReturn) {
  load(kCode, {0xeb, 0xfe});
  ASSERT_TRUE(vcpu_->set_state(real_mode_at(kCode)));
  vcpu_->kick();
  EXPECT_EQ(vcpu_->run(), RunExit::Kicked);
}

TEST_F(KvmTest, KickEndsALoopAndAHalt) {
  for (u8 opcode : {0xf4 /* hlt */, 0x90 /* nop */}) {
    load(kCode, {0xba, 0x00, 0x01, 0xee, opcode, 0xeb, 0xfd});
    ASSERT_TRUE(vcpu_->set_state(real_mode_at(kCode)));
    std::thread kicker;
    device_.on_write = [&](u64) { kicker = std::thread([this] { vcpu_->kick(); }); };
    EXPECT_EQ(vcpu_->run(), RunExit::Kicked);
    kicker.join();
  }
}

/// hlt; then report AL to port 0x105; the handler of vector 0x20 sets AL.
void arrange_interrupt(u8* ram, u8 vector, u16 handler) {
  store_le<u16>(ram + vector * 4, handler);
  store_le<u16>(ram + vector * 4 + 2, 0);
  const u8 code[] = {0xb0, 0x5a, 0xcf};  // mov al, 0x5a; iret
  std::copy(std::begin(code), std::end(code), ram + handler);
}

TEST_F(KvmTest, PicInterruptWakesFromHalt) {
  arrange_interrupt(ram_->data(), 0x25, 0x1800);
  device_.on_write = [this](u64 offset) {
    if (offset == 1) vm_->gsi(5).set(true);
    if (offset == 0x1f) vcpu_->kick();
  };
  run({
      0xb0, 0x11, 0xe6, 0x20,  // ICW1
      0xb0, 0x20, 0xe6, 0x21,  // ICW2: vectors from 0x20
      0xb0, 0x04, 0xe6, 0x21,  // ICW3
      0xb0, 0x01, 0xe6, 0x21,  // ICW4
      0xb0, 0xdf, 0xe6, 0x21,  // IRQ 5 only
      0xbc, 0x00, 0x70,        // mov sp, 0x7000
      0xba, 0x01, 0x01, 0xee,  // out 0x101: raises the line
      0xfb, 0xf4,              // sti; hlt
      0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe,
  });
  ASSERT_FALSE(device_.writes.empty());
  EXPECT_EQ(device_.writes.back(), (Recorder::Write{0x1f, 0x5a, 1}));
  EXPECT_THAT(vm_->describe_irqchip("pic"), HasSubstr("isr=20"));
}

TEST_F(KvmTest, NmiIsTaken) {
  arrange_interrupt(ram_->data(), 2, 0x1800);
  device_.on_write = [this](u64 offset) {
    if (offset == 1) MUST(vcpu_->inject_nmi());
    if (offset == 0x1f) vcpu_->kick();
  };
  run({0xbc, 0x00, 0x70, 0xba, 0x01, 0x01, 0xee, 0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe});
  ASSERT_FALSE(device_.writes.empty());
  EXPECT_EQ(device_.writes.back(), (Recorder::Write{0x1f, 0x5a, 1}));
}

TEST_F(KvmTest, IoEventIsSignalledWithoutAnExit) {
  Fd event = MUST(make_eventfd());
  Recorder doorbell;
  auto id = MUST(ports_.add({.name = "doorbell",
                             .base = 0x200,
                             .size = 4,
                             .device = &doorbell,
                             .events = {{.offset = 0, .width = 2, .value = 7, .fd = event.get()}}}));
  run({
      0xba, 0x00, 0x02,        // mov dx, 0x200
      0xb8, 0x07, 0x00, 0xef,  // mov ax, 7; out dx, ax
      0xb8, 0x08, 0x00, 0xef,  // mov ax, 8; out dx, ax: no match
      0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe,
  });
  EXPECT_EQ(drain_eventfd(event), 1u);
  EXPECT_THAT(doorbell.writes, ElementsAre(Recorder::Write{0, 8, 2}));
  ports_.remove(id);
}

TEST_F(KvmTest, WritesToRomAreIgnored) {
  auto rom = MUST(memory::RamBlock::create("rom", kPageSize, {}));
  rom->data()[0] = 0x33;
  MUST(memory_.add({.name = "rom", .base = 0x8000, .size = kPageSize, .priority = 1, .ram = rom, .readonly = true}));
  run({
      0xb0, 0x99, 0xa2, 0x00, 0x80,  // mov al, 0x99; mov [0x8000], al
      0xa0, 0x00, 0x80,              // mov al, [0x8000]
      0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe,
  });
  ASSERT_FALSE(device_.writes.empty());
  EXPECT_EQ(device_.writes.back().value, 0x33u);
}

TEST_F(KvmTest, TripleFaultIsAReset) {
  load(kCode, {0x0f, 0x0b});  // ud2, and no interrupt table
  VcpuState state = real_mode_at(kCode);
  state.cr0 |= kCr0PE;
  for (Segment& segment : state.seg) segment = {.selector = 0x10, .attributes = 0xc093, .limit = 0xffffffff};
  state.seg[kCs] = {.selector = 8, .attributes = 0xc09b, .limit = 0xffffffff};
  state.idtr = {.base = 0, .limit = 0};
  ASSERT_TRUE(vcpu_->set_state(state));
  EXPECT_EQ(vcpu_->run(), RunExit::Reset);
}

TEST_F(KvmTest, StateComesBackEqual) {
  run({0xb8, 0x34, 0x12, 0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe});
  VcpuState first = MUST(vcpu_->get_state());
  EXPECT_EQ(first.gpr[kRax], 0x1234u);
  std::vector<u8> chips = MUST(vm_->save_irqchip());

  start({.max_vcpus = 1, .memory = &memory_, .ports = &ports_}, nullptr);
  ASSERT_TRUE(vm_->restore_irqchip(chips));
  ASSERT_TRUE(vcpu_->set_state(first));
  VcpuState second = MUST(vcpu_->get_state());
  auto drop_running_clocks = [](VcpuState& s) {
    std::erase_if(s.msrs, [](auto& msr) { return msr.first == kMsrTsc || msr.first == 0x3b; });
  };
  drop_running_clocks(first);
  drop_running_clocks(second);
  EXPECT_EQ(first.gpr, second.gpr);
  EXPECT_EQ(first.rip, second.rip);
  EXPECT_EQ(first.seg, second.seg);
  EXPECT_EQ(first.tr, second.tr);
  EXPECT_EQ(first.xsave, second.xsave);
  EXPECT_EQ(first.msrs, second.msrs);
  EXPECT_EQ(first.lapic, second.lapic);
  EXPECT_EQ(first.events, second.events);
  EXPECT_EQ(first.apic_base, second.apic_base);
}

TEST_F(KvmTest, ResetLeavesNoRegisterBehind) {
  VcpuState state = reset_state(true);
  state.msrs = {{kMsrStar, 0x1234}};
  ASSERT_TRUE(vcpu_->set_state(state));
  ASSERT_TRUE(vcpu_->set_state(reset_state(true)));
  MsrValues msrs = MUST(vcpu_->get_state()).msrs;
  EXPECT_THAT(msrs, ::testing::Contains(std::pair<u32, u64>(kMsrStar, 0)));
  EXPECT_TRUE(vm_->reset_irqchip());
}

TEST_F(KvmTest, StepperExecutesWhatTheKernelCannot) {
  start({.max_vcpus = 1, .memory = &memory_, .ports = &ports_},
        [](const CpuidTable&) -> Result<std::unique_ptr<InstructionStepper>> { return std::make_unique<SkippingStepper>(); });
  VcpuState state = real_mode_at(kCode);
  state.seg[kDs].base = kMmio;
  // No KVM emulates x87 on MMIO: fisttp word [0x10] fails on every back end.
  load(kCode, {0xdf, 0x4f, 0x10, 0x88, 0xd8, 0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe});
  ASSERT_TRUE(vcpu_->set_state(state));
  EXPECT_EQ(vcpu_->run(), RunExit::Kicked) << vcpu_->failure();
  ASSERT_FALSE(device_.writes.empty());
  EXPECT_EQ(device_.writes.back().value, 0x77u);
  EXPECT_THAT(vcpu_->counters(), ::testing::Contains(std::pair<std::string, u64>("insn_emulation_by_interpreter", 1)));
}

TEST_F(KvmTest, MissingStepperIsAFailureThatSaysSo) {
  VcpuState state = real_mode_at(kCode);
  state.seg[kDs].base = kMmio;
  load(kCode, {0xdf, 0x4f, 0x10});
  ASSERT_TRUE(vcpu_->set_state(state));
  EXPECT_EQ(vcpu_->run(), RunExit::Failed);
  EXPECT_THAT(vcpu_->failure(), HasSubstr("interpreter"));
}

TEST_F(KvmTest, ApicOfARunningVcpuCanBeDescribed) {
  load(kCode, {0xba, 0x00, 0x01, 0xee, 0xf4, 0xeb, 0xfd});  // out, then halts for good
  ASSERT_TRUE(vcpu_->set_state(real_mode_at(kCode)));
  std::atomic<bool> running{false};
  device_.on_write = [&](u64) {
    running = true;
    running.notify_all();
  };
  std::thread guest([this] { EXPECT_EQ(vcpu_->run(), RunExit::Kicked); });
  running.wait(false);
  EXPECT_THAT(vm_->describe_irqchip("lapic 0"), HasSubstr("APIC disabled"));
  vcpu_->kick();
  guest.join();
}

TEST_F(KvmTest, MonitorTextNamesTheApic) {
  ASSERT_TRUE(vcpu_->set_state(reset_state(true)));
  EXPECT_THAT(vm_->describe_irqchip("lapic"), HasSubstr("dumping local APIC state for CPU 0"));
  EXPECT_THAT(vm_->describe_irqchip("ioapic"), HasSubstr("pin 23"));
}

}  // namespace
}  // namespace atl::cpu
