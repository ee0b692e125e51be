// Interrupts that a device fires from within the vCPU's own register write, as xHCI's doorbells do: each is taken, whether the
// code around it is interpreted or translated, runs on, halts, or has interrupts off at that moment.
#include <gtest/gtest.h>

#include "base/endian.h"
#include "cpu/soft/accelerator.h"
#include "cpu/soft/native/supported.h"
#include "cpu/spec.h"

namespace atl::cpu {
namespace {

constexpr u64 kRamSize = 2 * kMiB, kCode = 0x1000, kHandler = 0x1800, kGdt = 0x3000, kIdt = 0x4000, kCounter = 0x5000;
constexpr u8 kVector = 0x40;
constexpr u32 kRounds = 20'000;

/// At the end of RAM. A write fires the MSI.
class Doorbell final : public memory::BusDevice {
 public:
  u64 bus_read(u64, unsigned) override { return 0; }
  void bus_write(u64, u64, unsigned) override { vm->send_msi({.address = 0xfee00000, .data = kVector}); }
  Vm* vm = nullptr;
};

/// A port that ends the run.
class End final : public memory::BusDevice {
 public:
  u64 bus_read(u64, unsigned) override { return 0; }
  void bus_write(u64, u64, unsigned) override { vcpu->kick(); }
  Vcpu* vcpu = nullptr;
};

using Bytes = std::vector<u8>;

/// mov esp, 0x7000; local APIC on; ECX = 0; sti.
const Bytes kStart = {0xbc, 0x00, 0x70, 0, 0, 0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0, 0, 0x31, 0xc9, 0xfb};
/// The handler: inc dword [counter]; EOI; iret.
const Bytes kCount = {0xff, 0x05, 0, 0x50, 0, 0, 0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, 0xcf};
/// How a round meets its interrupt.
struct Variant {
  const char* name;
  Bytes round;  // ECX has been counted up; leaves it alone
};
const Variant kVariants[] = {
    // xor edx, edx; again: cmp [counter], ecx; je done; inc edx; cmp edx, 200000; jb again
    {"Spinning", {0x89, 0x0d, 0, 0, 0x20, 0, 0x31, 0xd2, 0x39, 0x0d, 0, 0x50, 0, 0, 0x74, 0x09, 0x42, 0x81, 0xfa, 0x40, 0x0d, 0x03, 0, 0x72, 0xef}},
    // cli; ring; sti; hlt
    {"Halting", {0xfa, 0x89, 0x0d, 0, 0, 0x20, 0, 0xfb, 0xf4}},
    // cli; ring; sti; nop; cli: the window in which firmware lets interrupts in
    {"InAWindow", {0xfa, 0x89, 0x0d, 0, 0, 0x20, 0, 0xfb, 0x90, 0xfa}},
    // pushf; cli; ring; popf; nop
    {"PoppingFlags", {0x9c, 0xfa, 0x89, 0x0d, 0, 0, 0x20, 0, 0x9d, 0x90}},
    // TPR = 0x50; ring; TPR = 0
    {"LoweringPriority", {0xc7, 0x05, 0x80, 0, 0xe0, 0xfe, 0x50, 0, 0, 0, 0x89, 0x0d, 0, 0, 0x20, 0, 0xc7, 0x05, 0x80, 0, 0xe0, 0xfe, 0, 0, 0, 0}},
};

/// inc ecx; the round; cmp [counter], ecx; jne end; cmp ecx, kRounds; jb again; end: mov dx, 0x100; out dx, al; jmp $.
Bytes program(const Bytes& round) {
  Bytes code = kStart;
  size_t again = code.size();
  auto add = [&](std::initializer_list<u8> bytes) { code.insert(code.end(), bytes); };
  add({0x41});
  code.insert(code.end(), round.begin(), round.end());
  add({0x39, 0x0d, 0, 0x50, 0, 0, 0x75, 0x08, 0x81, 0xf9, kRounds & 0xff, kRounds >> 8, 0, 0, 0x72});
  add({static_cast<u8>(again - (code.size() + 1))});
  add({0x66, 0xba, 0, 1, 0xee, 0xeb, 0xfe});
  return code;
}

class SelfInterrupt : public ::testing::TestWithParam<std::tuple<Variant, Translation>> {
 protected:
  SelfInterrupt() {
    ram_ = MUST(memory::RamBlock::create("ram", kRamSize, {}));
    MUST(memory_.add({.name = "ram", .size = kRamSize, .ram = ram_}));
    MUST(memory_.add({.name = "doorbell", .base = kRamSize, .size = kPageSize, .device = &doorbell_}));
    MUST(ports_.add({.name = "end", .base = 0x100, .size = 1, .device = &end_}));
    vm_ = MUST(create_soft_vm({.max_vcpus = 1, .memory = &memory_, .ports = &ports_}, {.translation = std::get<1>(GetParam())}));
    vcpu_ = MUST(vm_->create_vcpu(0, soft::soft_supported_cpuid()));
    doorbell_.vm = vm_.get();
    end_.vcpu = vcpu_.get();
    vm_->resume_clock();
  }

  void load(u64 at, const Bytes& bytes) { MUST(memory_.guest_memory()->load(at, bytes)); }

  /// Protected mode, flat.
  VcpuState start_state() {
    store_le<u64>(ram_->data() + kGdt + 8, 0x00cf9b000000ffff);
    store_le<u64>(ram_->data() + kGdt + 16, 0x00cf93000000ffff);
    store_le<u64>(ram_->data() + kIdt + 8 * kVector, 0x00008e0000080000 | kHandler);
    VcpuState state = reset_state(true);
    for (unsigned i = 0; i < kSegCount; ++i)
      state.seg[i] = {.selector = 16, .attributes = 0xc093, .limit = 0xffffffff, .base = 0};
    state.seg[kCs] = {.selector = 8, .attributes = 0xc09b, .limit = 0xffffffff, .base = 0};
    state.gdtr = {.base = kGdt, .limit = 23};
    state.idtr = {.base = kIdt, .limit = 0x7ff};
    state.cr0 |= kCr0PE;
    state.rip = kCode;
    return state;
  }

  memory::AddressSpace memory_{"memory", u64{1} << 40};
  memory::AddressSpace ports_{"ports", 1 << 16};
  std::shared_ptr<memory::RamBlock> ram_;
  Doorbell doorbell_;
  End end_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<Vcpu> vcpu_;
};

TEST_P(SelfInterrupt, EachOneIsTaken) {
  load(kCode, program(std::get<0>(GetParam()).round));
  load(kHandler, kCount);
  MUST(vcpu_->set_state(start_state()));
  EXPECT_EQ(vcpu_->run(), RunExit::Kicked);
  EXPECT_EQ(load_le<u32>(ram_->data() + kCounter), kRounds);
  EXPECT_EQ(MUST(vcpu_->get_state()).gpr[kRcx], kRounds);
}

std::string name_of(const ::testing::TestParamInfo<SelfInterrupt::ParamType>& info) {
  constexpr const char* kNames[] = {"Interpreted", "Translated", "AllTranslated"};
  return std::string(std::get<0>(info.param).name) + kNames[static_cast<int>(std::get<1>(info.param))];
}

INSTANTIATE_TEST_SUITE_P(Variants, SelfInterrupt,
                         ::testing::Combine(::testing::ValuesIn(kVariants),
                                            ::testing::Values(Translation::Off, Translation::On, Translation::Always)),
                         name_of);

}  // namespace
}  // namespace atl::cpu
