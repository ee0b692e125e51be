#include "cpu/soft/native/stub.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/native/image.h"

namespace atl::soft {
namespace {

/// Runs single instructions through find_stub, without the decoder of exec/: RSI is the only base register.
class StubTest : public ::testing::Test {
 protected:
  StubTest() {
    image::init_x87(core());
    image::set_mxcsr(core(), image::kMxcsrDefault);
    core().gpr[kRsi] = TestMachine::kData;
  }
  Core& core() { return machine_.core(); }

  const NativeStub* stub(std::vector<u8> bytes, ZydisMachineMode mode = ZYDIS_MACHINE_MODE_LONG_64) {
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, mode, mode == ZYDIS_MACHINE_MODE_LONG_64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
    ZydisDecodedInstruction in;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes.data(), bytes.size(), &in, operands))) return nullptr;
    return find_stub(in, operands, bytes);
  }
  bool run(std::vector<u8> bytes) {
    const NativeStub* found = stub(bytes);
    EXPECT_NE(found, nullptr);
    core().fault_pending = false;
    Op op{.stub = found, .length = static_cast<u8>(bytes.size()), .base = kRsi};
    return found && run_native(core(), op);
  }
  u8 vector() { return core().fault_pending ? core().fault.vector : 0xff; }
  void set_xmm(unsigned i, u64 low, u64 high = 0) {
    store_le(image::xmm(core(), i), low);
    store_le(image::xmm(core(), i) + 8, high);
  }
  u64 xmm(unsigned i, unsigned half = 0) { return load_le<u64>(image::xmm(core(), i) + 8 * half); }
  u64 high(unsigned i, unsigned half = 0) { return load_le<u64>(image::ymm_high(core(), i) + 8 * half); }
  double st(unsigned i) {
    long double value = 0;
    std::memcpy(&value, image::st(core(), i), 10);
    return static_cast<double>(value);
  }

  TestMachine machine_;
};

TEST_F(StubTest, MovesBetweenMemoryAndVector) {
  machine_.poke<u64>(TestMachine::kData, 0x1122334455667788);
  machine_.poke<u64>(TestMachine::kData + 8, 0x99);
  ASSERT_TRUE(run({0x44, 0x0f, 0x10, 0x0e}));  // movups xmm9, [rsi]
  EXPECT_EQ(xmm(9), 0x1122334455667788u);
  EXPECT_EQ(xmm(9, 1), 0x99u);
  core().gpr[kRsi] += 0x20;
  ASSERT_TRUE(run({0x44, 0x0f, 0x29, 0x0e}));  // movaps [rsi], xmm9
  EXPECT_EQ(machine_.peek<u64>(TestMachine::kData + 0x20), 0x1122334455667788u);
}

TEST_F(StubTest, CrossesPages) {
  core().gpr[kRsi] = TestMachine::kData + 0xff9;
  set_xmm(1, 0x0102030405060708, 0x090a0b0c0d0e0f10);
  ASSERT_TRUE(run({0xf3, 0x0f, 0x7f, 0x0e}));  // movdqu [rsi], xmm1
  ASSERT_TRUE(run({0xf3, 0x0f, 0x6f, 0x16}));  // movdqu xmm2, [rsi]
  EXPECT_EQ(xmm(2), xmm(1));
  EXPECT_EQ(xmm(2, 1), xmm(1, 1));
}

TEST_F(StubTest, GeneralRegisterOperands) {
  core().gpr[kR11] = 0xfedcba9876543210;
  ASSERT_TRUE(run({0x66, 0x49, 0x0f, 0x6e, 0xd3}));  // movq xmm2, r11
  EXPECT_EQ(xmm(2), 0xfedcba9876543210u);
  core().gpr[kRbx] = ~u64{0};
  ASSERT_TRUE(run({0x66, 0x0f, 0xd7, 0xda}));  // pmovmskb ebx, xmm2
  EXPECT_EQ(core().gpr[kRbx], 0xf0u);
}

TEST_F(StubTest, VexClearsTheUpperHalf) {
  std::fill_n(image::ymm_high(core(), 3), 16, 0xee);
  set_xmm(1, 5, 6);
  set_xmm(2, 7, 8);
  ASSERT_TRUE(run({0xc5, 0xf1, 0xd4, 0xda}));  // vpaddq xmm3, xmm1, xmm2
  EXPECT_EQ(xmm(3), 12u);
  EXPECT_EQ(xmm(3, 1), 14u);
  EXPECT_EQ(high(3), 0u);
}

TEST_F(StubTest, UpperHalvesOfHighRegisters) {
  set_xmm(14, 1, 2);
  store_le<u64>(image::ymm_high(core(), 14), 3);
  set_xmm(15, 10, 20);
  store_le<u64>(image::ymm_high(core(), 15), 30);
  ASSERT_TRUE(run({0xc4, 0x41, 0x0d, 0xd4, 0xff}));  // vpaddq ymm15, ymm14, ymm15
  EXPECT_EQ(xmm(15), 11u);
  EXPECT_EQ(high(15), 33u);
}

TEST_F(StubTest, ComparisonSetsFlags) {
  core().set_rflags(0x8d7);
  set_xmm(0, 0x3f800000);
  set_xmm(1, 0x40000000);
  ASSERT_TRUE(run({0x0f, 0x2e, 0xc1}));  // ucomiss xmm0, xmm1
  EXPECT_EQ(core().rflags() & kArithmeticFlags, kCF);
}

TEST_F(StubTest, StickyFlagsReachTheGuestsMxcsr) {
  set_xmm(0, 0x3f800000);
  set_xmm(1, 0x40400000);
  ASSERT_TRUE(run({0xf3, 0x0f, 0x5e, 0xc1}));  // divss: 1 / 3
  EXPECT_EQ(image::mxcsr(core()), 0x1fa0u);
  u32 host = __builtin_ia32_stmxcsr();
  EXPECT_EQ(host, 0x1f80u);
}

TEST_F(StubTest, RoundsAsTheGuestWants) {
  image::set_mxcsr(core(), 0x1f80 | 0x4000);  // up
  set_xmm(0, std::bit_cast<u32>(1.1f));
  ASSERT_TRUE(run({0xf3, 0x0f, 0x2d, 0xc0}));  // cvtss2si eax, xmm0
  EXPECT_EQ(core().gpr[kRax], 2u);
}

TEST_F(StubTest, UnmaskedExceptionLeavesTheDestination) {
  image::set_mxcsr(core(), 0x1f80 & ~0x200);  // zero divide
  set_xmm(0, 0x3f800000);
  set_xmm(1, 0);
  EXPECT_FALSE(run({0xf3, 0x0f, 0x5e, 0xc1}));
  EXPECT_EQ(vector(), kXM);
  EXPECT_EQ(xmm(0), 0x3f800000u);
  EXPECT_EQ(image::mxcsr(core()) & 0x3f, 4u);
  core().cr4 &= ~u64{kCr4OSXMMEXCPT};
  EXPECT_FALSE(run({0xf3, 0x0f, 0x5e, 0xc1}));
  EXPECT_EQ(vector(), kUD);
}

TEST_F(StubTest, MisalignedLegacyOperandIsGeneralProtection) {
  core().gpr[kRsi] = TestMachine::kData + 8;
  EXPECT_FALSE(run({0x66, 0x0f, 0x6f, 0x06}));  // movdqa
  EXPECT_EQ(vector(), kGP);
  EXPECT_FALSE(run({0x66, 0x0f, 0xfe, 0x06}));  // paddd
  EXPECT_EQ(vector(), kGP);
  EXPECT_TRUE(run({0xc5, 0xf9, 0xfe, 0x06}));  // vpaddd does not mind
}

TEST_F(StubTest, ControlRegistersDecide) {
  core().cr0 |= kCr0TS;
  EXPECT_FALSE(run({0x0f, 0x28, 0xc1}));
  EXPECT_EQ(vector(), kNM);
  core().cr0 = (core().cr0 & ~u64{kCr0TS}) | kCr0EM;
  EXPECT_FALSE(run({0x0f, 0x28, 0xc1}));
  EXPECT_EQ(vector(), kUD);
  EXPECT_FALSE(run({0xd9, 0xe8}));
  EXPECT_EQ(vector(), kNM);
  core().cr0 &= ~u64{kCr0EM};
  core().cr4 &= ~u64{kCr4OSXSAVE};
  EXPECT_TRUE(run({0x0f, 0x28, 0xc1}));
  EXPECT_FALSE(run({0xc5, 0xf8, 0x28, 0xc1}));
  EXPECT_EQ(vector(), kUD);
}

TEST_F(StubTest, FloatingPointStack) {
  ASSERT_TRUE(run({0xd9, 0xe8}));  // fld1
  ASSERT_TRUE(run({0xd9, 0xeb}));  // fldpi
  ASSERT_TRUE(run({0xde, 0xc1}));  // faddp
  EXPECT_DOUBLE_EQ(st(0), M_PI + 1);
  EXPECT_EQ(image::top(core()), 7u);
  ASSERT_TRUE(run({0xdd, 0x1e}));  // fstp qword [rsi]
  EXPECT_DOUBLE_EQ(std::bit_cast<double>(machine_.peek<u64>(TestMachine::kData)), M_PI + 1);
  EXPECT_EQ(image::top(core()), 0u);
}

TEST_F(StubTest, FloatingPointErrorIsReportedByTheNextInstruction) {
  machine_.poke<u16>(TestMachine::kData, 0x37b);  // zero divide unmasked
  ASSERT_TRUE(run({0xd9, 0x2e}));                 // fldcw
  core().rip = 0x1234;
  ASSERT_TRUE(run({0xd9, 0xe8}));  // fld1
  ASSERT_TRUE(run({0xd9, 0xee}));  // fldz
  ASSERT_TRUE(run({0xde, 0xf9}));  // fdivp
  EXPECT_EQ(load_le<u64>(image::bytes(core()) + image::kFip), 0x1234u);
  EXPECT_EQ(load_le<u16>(image::bytes(core()) + image::kFop), 0x6f9u);
  EXPECT_FALSE(run({0xd9, 0xe8}));
  EXPECT_EQ(vector(), kMFault);
  EXPECT_TRUE(run({0xdb, 0xe2}));  // fnclex
  EXPECT_TRUE(run({0x9b}));
}

TEST_F(StubTest, FlagsGoInAndOutOfX87) {
  ASSERT_TRUE(run({0xd9, 0xee}));  // fldz
  ASSERT_TRUE(run({0xd9, 0xe8}));  // fld1
  ASSERT_TRUE(run({0xdb, 0xf1}));  // fcomi st1: 1 > 0
  EXPECT_EQ(core().rflags() & (kZF | kPF | kCF), 0u);
  core().set_rflags(kCF);
  ASSERT_TRUE(run({0xda, 0xc1}));  // fcmovb st, st1
  EXPECT_EQ(st(0), 0.0);
}

TEST_F(StubTest, MmxResetsTheStackTop) {
  ASSERT_TRUE(run({0xd9, 0xe8}));  // fld1: register 7
  core().gpr[kRcx] = 0x55;
  ASSERT_TRUE(run({0x0f, 0x6e, 0xd1}));  // movd mm2, ecx
  EXPECT_EQ(image::top(core()), 0u);
  EXPECT_EQ(image::bytes(core())[image::kFtw], 0xff);
  EXPECT_EQ(load_le<u64>(image::st(core(), 2)), 0x55u);
  EXPECT_EQ(load_le<u16>(image::st(core(), 2) + 8), 0xffff);
  EXPECT_EQ(st(7), 1.0);
  ASSERT_TRUE(run({0x0f, 0x77}));  // emms
  EXPECT_EQ(image::bytes(core())[image::kFtw], 0);
}

TEST_F(StubTest, EnvironmentRoundTrip) {
  ASSERT_TRUE(run({0xd9, 0xe8}));
  ASSERT_TRUE(run({0xd9, 0xee}));
  ASSERT_TRUE(run({0xdd, 0x36}));  // fnsave
  EXPECT_EQ(machine_.peek<u16>(TestMachine::kData), 0x37f);
  EXPECT_EQ(machine_.peek<u16>(TestMachine::kData + 8), 0x1fff);  // register 7 valid, 6 zero
  EXPECT_EQ(image::top(core()), 0u);
  ASSERT_TRUE(run({0xdd, 0x26}));  // frstor
  EXPECT_EQ(image::top(core()), 6u);
  EXPECT_EQ(st(0), 0.0);
  EXPECT_EQ(st(1), 1.0);
}

TEST_F(StubTest, FxsaveAndXsaveRoundTrip) {
  set_xmm(15, 0xabcdef, 1);
  store_le<u64>(image::ymm_high(core(), 4), 77);
  ASSERT_TRUE(run({0x48, 0x0f, 0xae, 0x06}));  // fxsave64
  core().gpr[kRsi] += 0x400;
  core().gpr[kRax] = 7;
  core().gpr[kRdx] = 0;
  ASSERT_TRUE(run({0x48, 0x0f, 0xae, 0x26}));  // xsave64
  EXPECT_EQ(machine_.peek<u64>(TestMachine::kData + 0x400 + 512), 7u);
  set_xmm(15, 0);
  store_le<u64>(image::ymm_high(core(), 4), 0);
  ASSERT_TRUE(run({0x48, 0x0f, 0xae, 0x2e}));  // xrstor64
  EXPECT_EQ(xmm(15), 0xabcdefu);
  EXPECT_EQ(high(4), 77u);
  set_xmm(15, 0);
  core().gpr[kRsi] -= 0x400;
  ASSERT_TRUE(run({0x48, 0x0f, 0xae, 0x0e}));  // fxrstor64
  EXPECT_EQ(xmm(15), 0xabcdefu);
}

TEST_F(StubTest, RestoreRefusesBadImages) {
  core().gpr[kRax] = 7;
  core().gpr[kRdx] = 0;
  machine_.poke<u64>(TestMachine::kData + 512, 8);  // a component that XCR0 does not have
  EXPECT_FALSE(run({0x0f, 0xae, 0x2e}));
  EXPECT_EQ(vector(), kGP);
  machine_.poke<u64>(TestMachine::kData + 512, 7);
  machine_.poke<u32>(TestMachine::kData + 24, 0x10000);
  EXPECT_FALSE(run({0x0f, 0xae, 0x2e}));
  EXPECT_EQ(vector(), kGP);
  EXPECT_FALSE(run({0x0f, 0xae, 0x16}) && machine_.peek<u32>(TestMachine::kData) > 0xffff);
  core().gpr[kRsi] += 16;
  EXPECT_FALSE(run({0x0f, 0xae, 0x2e}));  // misaligned
  EXPECT_EQ(vector(), kGP);
}

TEST_F(StubTest, MaskedStoreTouchesOnlyChosenElements) {
  core().gpr[kRsi] = (u64{1} << 30) - 8;  // the last mapped bytes
  machine_.poke<u64>(TestMachine::kData, 0);
  set_xmm(1, 0x80000000'80000000, 0);
  set_xmm(2, 0x1111111122222222, 0x3333333344444444);
  core().gpr[kRsi] = TestMachine::kData;
  ASSERT_TRUE(run({0xc4, 0xe2, 0x71, 0x2e, 0x16}));  // vmaskmovps [rsi], xmm1, xmm2
  EXPECT_EQ(machine_.peek<u64>(TestMachine::kData), 0x1111111122222222u);
  EXPECT_EQ(machine_.peek<u64>(TestMachine::kData + 8), 0u);
}

TEST_F(StubTest, MaskedMovesOfDifferentElementsAreDifferentStubs) {
  EXPECT_NE(stub({0xc4, 0xe2, 0x7d, 0x2c, 0x19}), stub({0xc4, 0xe2, 0x7d, 0x2d, 0x19}));  // vmaskmovps, vmaskmovpd
}

TEST_F(StubTest, GatherStopsAtAFaultAndKeepsWhatIsDone) {
  core().gpr[kRsi] = TestMachine::kData;
  machine_.poke<u64>(TestMachine::kData, 0x1111);
  set_xmm(1, 0, 0x4000000000000000);  // the second index leads to a non-canonical address
  set_xmm(2, ~u64{0}, ~u64{0});
  set_xmm(3, 0xaa, 0xbb);
  EXPECT_FALSE(run({0xc4, 0xe2, 0xe9, 0x91, 0x1c, 0x0e}));  // vpgatherqq xmm3, [rsi+xmm1], xmm2
  EXPECT_EQ(xmm(3), 0x1111u);
  EXPECT_EQ(xmm(3, 1), 0xbbu);
  EXPECT_EQ(xmm(2), 0u);
  EXPECT_EQ(xmm(2, 1), ~u64{0});
}

TEST_F(StubTest, LoadingAnEnvironmentMovesTheTopNotTheRegisters) {
  ASSERT_TRUE(run({0xd9, 0xe8}));  // fld1: register 7 is ST0
  ASSERT_TRUE(run({0xdb, 0xe3}));  // fninit: top 0
  EXPECT_EQ(st(7), 1.0);
}

TEST_F(StubTest, MisalignmentComesBeforeTheSegment) {
  core().gpr[kRsi] = 0x0000800000000001;  // not canonical, and not aligned
  const NativeStub* andps = stub({0x0f, 0x54, 0x06});
  Op op{.stub = andps, .length = 3, .base = kRsi, .seg = kSs};
  EXPECT_FALSE(run_native(core(), op));
  EXPECT_EQ(vector(), kGP);
  core().gpr[kRsi] = 0x0000800000000000;
  EXPECT_FALSE(run_native(core(), op));
  EXPECT_EQ(vector(), kSSFault);
}

TEST_F(StubTest, UnknownAndForeignInstructionsAreRefused) {
  EXPECT_EQ(stub({0x01, 0xc0}), nullptr);                          // add
  EXPECT_EQ(stub({0x0f, 0xc3, 0x06}), nullptr);                    // movnti
  EXPECT_EQ(stub({0x62, 0xf2, 0x7d, 0x48, 0xc8, 0xc1}), nullptr);  // AVX-512 ER: vexp2ps
  EXPECT_EQ(stub({0xf2, 0x0f, 0x38, 0xf1, 0xc1}), nullptr);        // crc32
}

TEST_F(StubTest, SameInstructionSharesOneStub) {
  EXPECT_EQ(stub({0x0f, 0x10, 0x0e}), stub({0x0f, 0x10, 0x48, 0x10}));  // only the addresses differ
  EXPECT_NE(stub({0x0f, 0x10, 0x0e}), stub({0x0f, 0x10, 0x16}));
}

}  // namespace
}  // namespace atl::soft
