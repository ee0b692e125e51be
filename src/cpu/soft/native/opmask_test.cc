// AVX-512 in the interpreter: masks and faults, control registers, XSAVE. (What each instruction computes is the differential
// test's subject.)
#include <gtest/gtest.h>

#include <numeric>

#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/native/image.h"
#include "cpu/soft/native/stub.h"
#include "cpu/soft/native/supported.h"
#include "cpu/soft/native/xsave.h"
#include "cpu/soft/system/control_registers.h"

namespace atl::soft {
namespace {

constexpr u64 kNowhere = u64{1} << 46;  // not mapped

class OpmaskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!host_has_avx512()) GTEST_SKIP() << "the host has no AVX-512";
    core().xcr0 = 0xe7;
    image::init_x87(core());
    image::set_mxcsr(core(), image::kMxcsrDefault);
    core().gpr[kRsi] = TestMachine::kData;
  }
  Core& core() { return machine_.core(); }

  /// One instruction, from bytes to its effect. False: it faulted.
  bool run(const std::vector<u8>& bytes) {
    machine_.load(TestMachine::kCode, bytes);
    machine_.vm().code.wrote(TestMachine::kCode, bytes.size());
    core().rip = TestMachine::kCode;
    core().fault_pending = false;
    Decoder decoder(soft_supported_cpuid());
    Op op;
    decoder.decode(bytes, {}, {}, op);
    if (!op.stub) return core().raise(kUD);
    return op.stub->run(core(), op);
  }
  void set_mask(unsigned k, u64 value) {
    core().wide_vectors = 1;
    store_le(image::opmask(core(), k), value);
  }
  u64 mask(unsigned k) { return load_le<u64>(image::opmask(core(), k)); }
  u32 lane17(unsigned i) { return load_le<u32>(image::zmm16(core(), 17) + 4 * i); }
  void fill17(u32 first) {
    core().wide_vectors = 1;
    for (unsigned i = 0; i < 16; ++i) store_le<u32>(image::zmm16(core(), 17) + 4 * i, first + i);
  }

  TestMachine machine_;
};

// vmovdqu32 zmm17{k1}, [rsi]; with {z}; vmovdqu32 [rsi]{k1}, zmm17
const std::vector<u8> kLoad = {0x62, 0xe1, 0x7e, 0x49, 0x6f, 0x0e}, kLoadZeroing = {0x62, 0xe1, 0x7e, 0xc9, 0x6f, 0x0e},
                      kStore = {0x62, 0xe1, 0x7e, 0x49, 0x7f, 0x0e};

TEST_F(OpmaskTest, MaskedOffElementsOfALoadCannotFault) {
  for (unsigned i = 0; i < 4; ++i) machine_.poke<u32>(TestMachine::kData + 4 * i, 100 + i);
  fill17(0);
  set_mask(1, 0b101);
  ASSERT_TRUE(run(kLoad));
  EXPECT_EQ(lane17(0), 100u);
  EXPECT_EQ(lane17(1), 1u);
  EXPECT_EQ(lane17(2), 102u);
  core().gpr[kRsi] = kNowhere;
  set_mask(1, 0);
  EXPECT_TRUE(run(kLoadZeroing));
  EXPECT_EQ(lane17(2), 0u);
  set_mask(1, 1 << 15);
  EXPECT_FALSE(run(kLoad));
  EXPECT_EQ(core().fault.vector, kPFault);
  EXPECT_EQ(core().fault.address, kNowhere + 60);
}

TEST_F(OpmaskTest, AStoreThatFaultsStoresNothing) {
  fill17(7);
  set_mask(1, 0xffff);
  core().gpr[kRsi] = (u64{1} << 47) - 32;  // half of it is not canonical, the other not mapped
  EXPECT_FALSE(run(kStore));
  core().gpr[kRsi] = TestMachine::kData + 4;
  set_mask(1, 0b10);
  ASSERT_TRUE(run(kStore));
  EXPECT_EQ(machine_.peek<u32>(TestMachine::kData + 4), 0u);
  EXPECT_EQ(machine_.peek<u32>(TestMachine::kData + 8), 8u);
}

TEST_F(OpmaskTest, DisplacementsOfAByteCountInOperands) {
  machine_.poke<u32>(TestMachine::kData + 64, 5);
  ASSERT_TRUE(run({0x62, 0xe1, 0x7e, 0x48, 0x6f, 0x4e, 0x01}));  // vmovdqu32 zmm17, [rsi + 64]
  EXPECT_EQ(lane17(0), 5u);
}

TEST_F(OpmaskTest, CompressedStoresReachAsMuchAsTheMaskHasBits) {
  fill17(1);
  set_mask(1, 0x8001);
  ASSERT_TRUE(run({0x62, 0xe2, 0x7d, 0x49, 0x8b, 0x0e}));  // vpcompressd [rsi]{k1}, zmm17
  EXPECT_EQ(machine_.peek<u32>(TestMachine::kData), 1u);
  EXPECT_EQ(machine_.peek<u32>(TestMachine::kData + 4), 16u);
  EXPECT_EQ(machine_.peek<u32>(TestMachine::kData + 8), 0u);
}

TEST_F(OpmaskTest, VexInstructionsClearTheUpperHalfOfZmm) {
  core().wide_vectors = 1;
  std::fill_n(image::zmm_high(core(), 3), 32, 0xee);
  ASSERT_TRUE(run({0xc5, 0xf1, 0xd4, 0xda}));  // vpaddq xmm3, xmm1, xmm2
  EXPECT_EQ(load_le<u64>(image::zmm_high(core(), 3)), 0u);
  EXPECT_EQ(load_le<u64>(image::zmm_high(core(), 3) + 24), 0u);
}

TEST_F(OpmaskTest, StateThatIsNotEnabledIsUndefined) {
  core().xcr0 = 7;
  EXPECT_FALSE(run(kLoad));
  EXPECT_EQ(core().fault.vector, kUD);
  EXPECT_FALSE(run({0xc5, 0xf8, 0x92, 0xc8}));  // kmovw k1, eax
  EXPECT_EQ(core().fault.vector, kUD);
  core().xcr0 = 0xe7;
  core().cr0 |= kCr0TS;
  EXPECT_FALSE(run(kLoad));
  EXPECT_EQ(core().fault.vector, kNM);
}

TEST_F(OpmaskTest, TheThreeComponentsComeTogether) {
  EXPECT_TRUE(consistent_xcr0(0xe7));
  EXPECT_FALSE(consistent_xcr0(0xe3));
  for (u64 one : {0x20, 0x40, 0x80}) {
    EXPECT_FALSE(consistent_xcr0(7 | one));
    EXPECT_FALSE(consistent_xcr0(0xe7 ^ one));
  }
}

class XsaveTest : public OpmaskTest {
 protected:
  static constexpr u64 kArea = TestMachine::kData;

  void fill() {
    core().wide_vectors = 1;
    std::iota(image::bytes(core()) + image::kOpmask, image::bytes(core()) + image::kEnd, u8{1});
    core().gpr[kRax] = ~u64{0}, core().gpr[kRdx] = ~u64{0};
  }
  bool kept() {
    for (unsigned at = image::kOpmask; at < image::kEnd; ++at)
      if (image::bytes(core())[at] != static_cast<u8>(at - image::kOpmask + 1)) return false;
    return true;
  }
  void clear() {
    std::fill(image::bytes(core()) + image::kOpmask, image::bytes(core()) + image::kEnd, 0);
    core().wide_vectors = 0;
  }
};

const std::vector<u8> kXsave = {0x48, 0x0f, 0xae, 0x26}, kXsavec = {0x48, 0x0f, 0xc7, 0x26}, kXrstor = {0x48, 0x0f, 0xae, 0x2e};

TEST_F(XsaveTest, StandardFormatHasTheComponentsWhereCpuidSays) {
  fill();
  ASSERT_TRUE(run(kXsave));
  EXPECT_EQ(machine_.peek<u64>(kArea + 512), 0xe3u);
  EXPECT_EQ(machine_.peek<u8>(kArea + core().cpuid->query(0xd, 5).ebx), *image::opmask(core(), 0));
  EXPECT_EQ(machine_.peek<u8>(kArea + core().cpuid->query(0xd, 6).ebx), *image::zmm_high(core(), 0));
  EXPECT_EQ(machine_.peek<u8>(kArea + core().cpuid->query(0xd, 7).ebx), *image::zmm16(core(), 16));
  clear();
  ASSERT_TRUE(run(kXrstor));
  EXPECT_TRUE(kept());
  EXPECT_TRUE(core().wide_vectors);
}

TEST_F(XsaveTest, CompactedFormatLeavesNoGap) {
  fill();
  std::fill_n(image::ymm_high(core(), 0), 256, 0x77);
  ASSERT_TRUE(run(kXsavec));
  EXPECT_EQ(machine_.peek<u64>(kArea + 520), 0x80000000000000e7u);
  EXPECT_EQ(machine_.peek<u8>(kArea + 832), 1u);  // the opmasks follow AVX
  clear();
  std::fill_n(image::ymm_high(core(), 0), 256, 0);
  ASSERT_TRUE(run(kXrstor));
  EXPECT_TRUE(kept());
  EXPECT_EQ(*image::ymm_high(core(), 0), 0x77);
}

TEST_F(XsaveTest, WhatIsNotInTheAreaBecomesZeroAndOutOfUse) {
  fill();
  clear();
  ASSERT_TRUE(run(kXsavec));
  EXPECT_EQ(machine_.peek<u64>(kArea + 512) & 0xe0, 0u);
  fill();
  ASSERT_TRUE(run(kXrstor));
  EXPECT_FALSE(core().wide_vectors);
  EXPECT_EQ(mask(3), 0u);
  EXPECT_EQ(lane17(5), 0u);
}

TEST_F(XsaveTest, SavedMachinesKeepTheWideState) {
  fill();
  XsaveArea area;
  export_xsave(core(), area);
  clear();
  import_xsave(core(), area);
  EXPECT_TRUE(kept());
  EXPECT_TRUE(core().wide_vectors);
}

}  // namespace
}  // namespace atl::soft
