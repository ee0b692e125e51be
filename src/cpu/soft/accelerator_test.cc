// Whole vCPUs of the software CPU on bare-metal snippets: halting, kicks, interrupts, SMP start-up, saved state.
#include "cpu/soft/accelerator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/clock.h"
#include "base/endian.h"
#include "cpu/soft/native/supported.h"
#include "cpu/spec.h"

namespace atl::cpu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr u64 kRamSize = 2 * kMiB, kCode = 0x1000;
constexpr u64 kEnd = 0x1f;  // a write to this offset of the device kicks vCPU 0

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

class SoftMachineTest : public ::testing::Test {
 protected:
  SoftMachineTest() {
    ram_ = MUST(memory::RamBlock::create("ram", kRamSize, {}));
    MUST(memory_.add({.name = "ram", .size = kRamSize, .ram = ram_}));
    MUST(ports_.add({.name = "ports", .base = 0x100, .size = 0x20, .device = &device_}));
    on_write([](u64) {});
    start(1);
  }

  void start(u32 vcpus) {
    vcpus_.clear();
    vm_.reset();
    vm_ = MUST(create_soft_vm({.max_vcpus = vcpus, .memory = &memory_, .ports = &ports_}));
    for (u32 i = 0; i < vcpus; ++i) vcpus_.push_back(MUST(vm_->create_vcpu(i, soft::soft_supported_cpuid())));
    vm_->resume_clock();
  }
  void on_write(std::function<void(u64)> action) {
    device_.on_write = [this, action](u64 offset) {
      action(offset);
      if (offset == kEnd) vcpus_[0]->kick();
    };
  }
  void load(u64 at, const std::vector<u8>& code) { MUST(memory_.guest_memory()->load(at, code)); }
  static VcpuState real_mode_at(u64 rip) {
    VcpuState state = reset_state(true);
    state.seg[kCs].selector = 0;
    state.seg[kCs].base = 0;
    state.rip = rip;
    state.gpr[kRsp] = 0x7000;
    return state;
  }
  RunExit run(const std::vector<u8>& code) {
    load(kCode, code);
    MUST(vcpus_[0]->set_state(real_mode_at(kCode)));
    return vcpus_[0]->run();
  }
  /// A handler that puts 0x5a in AL.
  void handle(u8 vector) {
    store_le<u32>(ram_->data() + vector * 4, 0x1800);
    load(0x1800, {0xb0, 0x5a, 0xcf});
  }

  memory::AddressSpace memory_{"memory", u64{1} << 40};
  memory::AddressSpace ports_{"ports", 1 << 16};
  std::shared_ptr<memory::RamBlock> ram_;
  Recorder device_;
  std::unique_ptr<Vm> vm_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
};

TEST_F(SoftMachineTest, PortAccessesReachTheDevice) {
  EXPECT_EQ(run({0xba, 0x05, 0x01, 0xec, 0xef, 0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe}), RunExit::Kicked);
  ASSERT_EQ(device_.writes.size(), 2u);
  EXPECT_EQ(device_.writes[0].offset, 5u);
  EXPECT_EQ(device_.writes[0].value & 0xff, 0x45u);
}

TEST_F(SoftMachineTest, KickBeforeRunMakesRunReturn) {
  vcpus_[0]->kick();
  EXPECT_EQ(run({0xeb, 0xfe}), RunExit::Kicked);
}

TEST_F(SoftMachineTest, KickEndsALoopAndAHalt) {
  for (u8 opcode : {0xf4 /* hlt */, 0x90 /* nop */}) {
    std::thread kicker;
    on_write([&](u64) { kicker = std::thread([this] { vcpus_[0]->kick(); }); });
    EXPECT_EQ(run({0xba, 0x00, 0x01, 0xee, opcode, 0xeb, 0xfd}), RunExit::Kicked);
    kicker.join();
  }
}

TEST_F(SoftMachineTest, PicInterruptWakesFromHalt) {
  handle(0x25);
  on_write([this](u64 offset) {
    if (offset == 1) vm_->gsi(5).set(true);
  });
  run({
      0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21,
      0xb0, 0xdf, 0xe6, 0x21,              // IRQ 5 only
      0xba, 0x01, 0x01, 0xee, 0xfb, 0xf4,  // out 0x101; sti; hlt
      0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe,
  });
  ASSERT_FALSE(device_.writes.empty());
  EXPECT_EQ(device_.writes.back(), (Recorder::Write{kEnd, 0x5a, 1}));
  EXPECT_THAT(vm_->describe_irqchip("pic"), HasSubstr("isr=20"));
}

TEST_F(SoftMachineTest, TimerTicksEndHalts) {
  handle(0x20);
  load(0x1800, {0x66, 0x43, 0xb0, 0x20, 0xe6, 0x20, 0xcf});  // inc ebx; EOI; iret
  u64 before = monotonic_ns();
  run({
      0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21,
      0xb0, 0xfe, 0xe6, 0x21,                                      // IRQ 0 only
      0xb0, 0x34, 0xe6, 0x43, 0xb0, 0xa9, 0xe6, 0x40, 0xb0, 0x04, 0xe6, 0x40,  // 1 ms
      0x66, 0x31, 0xdb,                                            // xor ebx, ebx
      0xfb, 0xf4,                                                  // again: sti; hlt
      0x66, 0x83, 0xfb, 0x14,                                      // cmp ebx, 20
      0x72, 0xf8,                                                  // jb again
      0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe,
  });
  double ms = static_cast<double>(monotonic_ns() - before) / 1e6;
  EXPECT_GT(ms, 18);
  EXPECT_LT(ms, 5000) << "twenty ticks of 1 ms; hosts may be busy, but no tick gets lost";
}

TEST_F(SoftMachineTest, NmiIsTakenWithInterruptsOff) {
  handle(2);
  on_write([this](u64 offset) {
    if (offset == 1) MUST(vcpus_[0]->inject_nmi());
  });
  run({0xba, 0x01, 0x01, 0xee, 0xeb, 0x00, 0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe});  // events are taken at jumps
  EXPECT_EQ(device_.writes.back(), (Recorder::Write{kEnd, 0x5a, 1}));
}

TEST_F(SoftMachineTest, TripleFaultIsAReset) {
  load(kCode, {0x0f, 0x0b});
  VcpuState state = real_mode_at(kCode);
  state.idtr = {.base = 0, .limit = 0};
  ASSERT_TRUE(vcpus_[0]->set_state(state));
  EXPECT_EQ(vcpus_[0]->run(), RunExit::Reset);
}

TEST_F(SoftMachineTest, ApplicationProcessorStartsByInitAndSipi) {
  start(2);
  // The second vCPU, started at 0x2000, writes port 0x11f and halts.
  load(0x2000, {0xba, 0x1f, 0x01, 0xb0, 0x77, 0xee, 0xfa, 0xf4, 0xeb, 0xfd});
  ASSERT_TRUE(vcpus_[1]->set_state(reset_state(false)));
  std::thread second([&] { EXPECT_EQ(vcpus_[1]->run(), RunExit::Kicked); });
  VcpuState state = real_mode_at(kCode);
  state.seg[kDs].base = 0xfee00000;
  load(kCode, {
                  0x66, 0xc7, 0x06, 0x10, 0x03, 0, 0, 0, 1,           // ICR high: APIC 1
                  0x66, 0xc7, 0x06, 0x00, 0x03, 0x00, 0x45, 0, 0,     // INIT
                  0x66, 0xc7, 0x06, 0x00, 0x03, 0x02, 0x46, 0, 0,     // SIPI at 0x2000
                  0xf4, 0xeb, 0xfd,
              });
  ASSERT_TRUE(vcpus_[0]->set_state(state));
  EXPECT_EQ(vcpus_[0]->run(), RunExit::Kicked);
  EXPECT_THAT(device_.writes, ElementsAre(Recorder::Write{kEnd, 0x77, 1}));
  vcpus_[1]->kick();
  second.join();
}

/// Two vCPUs that halt until the other's interrupt comes, and answer it with one of their own.
class PingPong {
 public:
  static constexpr u32 kRounds = 20'000;
  static constexpr u64 kHandler = 0x1800;

  static std::vector<u8> handler() {
    return {0x66, 0xc7, 0x06, 0xb0, 0x00, 0, 0, 0, 0,                     // EOI
            0x66, 0x43,                                                   // inc ebx
            0x66, 0x81, 0xfb, kRounds & 0xff, kRounds >> 8, 0, 0,         // cmp ebx, kRounds
            0x74, 0x0a,                                                   // je done
            0x66, 0xc7, 0x06, 0x00, 0x03, 0x40, 0x40, 0, 0,               // ICR: vector 0x40
            0xcf,                                                         // iret
            0xba, 0x1f, 0x01, 0xee, 0xeb, 0xf0};                          // done: out 0x11f, then answer too
  }
  static std::vector<u8> main(u8 other, bool begins) {
    std::vector<u8> code = {0x66, 0xc7, 0x06, 0xf0, 0x00, 0xff, 0x01, 0, 0,    // SVR: enable
                            0x66, 0xc7, 0x06, 0x10, 0x03, 0, 0, 0, other};     // ICR high
    if (begins) code.insert(code.end(), {0x66, 0xc7, 0x06, 0x00, 0x03, 0x40, 0x40, 0, 0});
    code.insert(code.end(), {0xfb, 0xf4, 0xeb, 0xfc});  // again: sti; hlt; jmp again
    return code;
  }
};

TEST_F(SoftMachineTest, InterruptsBetweenHaltedVcpusLoseNoWakeUp) {
  start(2);
  store_le<u32>(ram_->data() + 0x40 * 4, PingPong::kHandler);
  load(PingPong::kHandler, PingPong::handler());
  on_write([this](u64) { vcpus_[1]->kick(); });
  load(0x3000, PingPong::main(0, false));
  load(kCode, PingPong::main(1, true));
  for (u32 i : {1u, 0u}) {
    VcpuState state = real_mode_at(i ? 0x3000 : kCode);
    state.gpr[kRsp] = i ? 0x6000 : 0x7000;
    state.seg[kDs].base = 0xfee00000;
    state.apic_base = i ? 0xfee00800 : 0xfee00900;
    ASSERT_TRUE(vcpus_[i]->set_state(state));
  }
  // The first message must find the second vCPU's APIC enabled, so that one runs up to its first halt.
  std::atomic<bool> go{false};
  std::thread second([&] {
    ASSERT_TRUE(vcpus_[1]->set_debug({.single_step = true}));
    for (int i = 0; i < 2; ++i) EXPECT_EQ(vcpus_[1]->run(), RunExit::Debug);
    ASSERT_TRUE(vcpus_[1]->set_debug({}));
    go = true;
    go.notify_all();
    EXPECT_EQ(vcpus_[1]->run(), RunExit::Kicked);
  });
  go.wait(false);
  EXPECT_EQ(vcpus_[0]->run(), RunExit::Kicked);
  second.join();
  EXPECT_GE(MUST(vcpus_[0]->get_state()).gpr[kRbx], PingPong::kRounds - 1) << "either may be the first to finish";
}

TEST_F(SoftMachineTest, StateComesBackEqual) {
  run({0xb8, 0x34, 0x12, 0xba, 0x1f, 0x01, 0xee, 0xeb, 0xfe});
  vm_->pause_clock();
  VcpuState first = MUST(vcpus_[0]->get_state());
  std::vector<u8> chips = MUST(vm_->save_irqchip());
  EXPECT_EQ(first.gpr[kRax], 0x1234u);

  start(1);
  vm_->pause_clock();
  ASSERT_TRUE(vm_->restore_irqchip(chips));
  ASSERT_TRUE(vcpus_[0]->set_state(first));
  VcpuState second = MUST(vcpus_[0]->get_state());
  EXPECT_EQ(first.gpr, second.gpr);
  EXPECT_EQ(first.rip, second.rip);
  EXPECT_EQ(first.seg, second.seg);
  EXPECT_EQ(first.xsave, second.xsave);
  EXPECT_EQ(first.msrs, second.msrs);
  EXPECT_EQ(first.lapic, second.lapic);
  EXPECT_EQ(chips, MUST(vm_->save_irqchip()));
}

TEST_F(SoftMachineTest, DamagedChipStateIsRefused) {
  std::vector<u8> chips = MUST(vm_->save_irqchip());
  chips.resize(chips.size() / 2);
  EXPECT_FALSE(vm_->restore_irqchip(chips));
}

TEST_F(SoftMachineTest, SingleStepReturnsAfterEachInstruction) {
  load(kCode, {0x40, 0x40, 0xeb, 0xfe});
  ASSERT_TRUE(vcpus_[0]->set_state(real_mode_at(kCode)));
  ASSERT_TRUE(vcpus_[0]->set_debug({.single_step = true}));
  EXPECT_EQ(vcpus_[0]->run(), RunExit::Debug);
  EXPECT_EQ(MUST(vcpus_[0]->get_state()).rip, kCode + 1);
}

TEST_F(SoftMachineTest, StepperExecutesOneInstruction) {
  auto stepper = MUST(create_instruction_stepper(memory_, ports_, soft::soft_supported_cpuid()));
  load(kCode, {0xf3, 0x0f, 0xb8, 0xc3});  // popcnt ax, bx
  VcpuState state = real_mode_at(kCode);
  state.gpr[kRbx] = 0x0f0f;
  ASSERT_TRUE(stepper->step(state));
  EXPECT_EQ(state.gpr[kRax], 8u);
  EXPECT_EQ(state.rip, kCode + 4);
}

TEST_F(SoftMachineTest, MonitorTextNamesTheApic) {
  EXPECT_THAT(vm_->describe_irqchip("lapic"), HasSubstr("dumping local APIC state for CPU 0"));
  EXPECT_EQ(vm_->describe_irqchip("lapic 7"), "");
}

}  // namespace
}  // namespace atl::cpu
