// Integer instructions against results worked out by hand; the differential test compares them with the host at length.
#include <gtest/gtest.h>

#include "cpu/soft/exec/test_machine.h"

namespace atl::soft {
namespace {

struct Flags {
  bool cf, zf, sf, of;
  bool operator==(const Flags&) const = default;
};

Flags flags(const Core& core) {
  u64 f = core.rflags();
  return {(f & kCF) != 0, (f & kZF) != 0, (f & kSF) != 0, (f & kOF) != 0};
}

TEST(Arithmetic, AddCarriesAndOverflows) {
  TestMachine m;
  m.core().gpr[kRax] = 0x80000000;
  m.core().gpr[kRbx] = 0x80000000;
  m.code({0x01, 0xd8});  // add eax, ebx
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.core().gpr[kRax], 0u);
  EXPECT_EQ(flags(m.core()), (Flags{true, true, false, true}));
}

TEST(Arithmetic, IncKeepsCarry) {
  TestMachine m;
  m.core().gpr[kRax] = 0xff;
  m.code({0xf9, 0xfe, 0xc0});  // stc; inc al
  ASSERT_TRUE(m.step(2));
  EXPECT_EQ(m.core().gpr[kRax], 0u);
  EXPECT_TRUE(m.core().rflags() & kCF);
}

TEST(Arithmetic, HighByteRegistersNeedNoRex) {
  TestMachine m;
  m.core().gpr[kRax] = 0x1234;
  m.core().gpr[kRsp] = 0x56;
  m.code({0x88, 0xe0, 0x40, 0x88, 0xe3});  // mov al, ah; mov bl, spl
  ASSERT_TRUE(m.step(2));
  EXPECT_EQ(m.core().gpr[kRax], 0x1212u);
  EXPECT_EQ(m.core().gpr[kRbx] & 0xff, 0x56u);
}

TEST(Arithmetic, ByteRegisterWithPlaceOfNoRegIsNoMemoryOperand) {
  TestMachine m;
  m.core().gpr[kRdx] = 1;
  m.core().gpr[kRcx] = 2;
  m.code({0x0f, 0xc0, 0xca});  // xadd dl, cl
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.core().gpr[kRdx], 3u);
  EXPECT_EQ(m.core().gpr[kRcx], 1u);
}

TEST(Arithmetic, ShiftByZeroKeepsFlags) {
  TestMachine m;
  m.core().gpr[kRax] = 5;
  m.core().gpr[kRcx] = 32;
  m.core().set_rflags(kCF | kOF | kZF | 2);
  m.code({0xd3, 0xe0});  // shl eax, cl
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.core().gpr[kRax], 5u);
  EXPECT_EQ(m.core().rflags(), kCF | kOF | kZF | 2u);
}

TEST(Arithmetic, DivideErrorLeavesRegisters) {
  TestMachine m;
  Core& core = m.core();
  core.gpr[kRax] = 0;
  core.gpr[kRdx] = 5;
  core.gpr[kRcx] = 5;
  m.code({0xf7, 0xf1});  // div ecx: the quotient needs 33 bits
  step_one(core);        // no IDT: the exception's delivery ends in a triple fault
  EXPECT_EQ(core.gpr[kRdx], 5u);
  EXPECT_EQ(core.fault.vector, 13u);  // of the last try, reading the IDT
}

TEST(Arithmetic, SignedDivisionOfTheLeastNumber) {
  TestMachine m;
  Core& core = m.core();
  core.gpr[kRax] = u64{1} << 63;
  core.gpr[kRdx] = ~u64{0};
  core.gpr[kRcx] = 1;
  m.code({0x48, 0xf7, 0xf9});  // idiv rcx
  ASSERT_TRUE(m.step());
  EXPECT_EQ(core.gpr[kRax], u64{1} << 63);
  EXPECT_EQ(core.gpr[kRdx], 0u);
}

TEST(Arithmetic, BitStringReachesBelowItsBase) {
  TestMachine m;
  m.core().gpr[kRdi] = TestMachine::kData + 8;
  m.core().gpr[kRax] = static_cast<u64>(-1);
  m.code({0x48, 0x0f, 0xab, 0x07});  // bts [rdi], rax
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.peek<u64>(TestMachine::kData), u64{1} << 63);
}

TEST(Arithmetic, FaultingStoreChangesNoFlags) {
  TestMachine m;
  Core& core = m.core();
  core.gpr[kRdi] = u64{1} << 40;  // not mapped
  core.set_rflags(kCF | 2);
  m.code({0x48, 0xff, 0x07});  // inc qword [rdi]
  EXPECT_FALSE(m.step());      // no IDT: triple fault
  EXPECT_EQ(core.rflags() & kArithmeticFlags, u64{kCF});
  EXPECT_EQ(core.cr2, u64{1} << 40);
}

TEST(Arithmetic, LockedAddOfMemory) {
  TestMachine m;
  m.poke<u32>(TestMachine::kData, 0xffffffff);
  m.core().gpr[kRdi] = TestMachine::kData;
  m.core().gpr[kRax] = 1;
  m.code({0xf0, 0x01, 0x07});  // lock add [rdi], eax
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.peek<u32>(TestMachine::kData), 0u);
  EXPECT_EQ(flags(m.core()), (Flags{true, true, false, false}));
}

TEST(Arithmetic, CompareAndExchangeAcrossPages) {
  TestMachine m;
  u64 at = TestMachine::kData + 0xffc;
  m.poke<u64>(at, 7);
  m.core().gpr[kRdi] = at;
  m.core().gpr[kRax] = 7;
  m.core().gpr[kRbx] = 0x1122334455667788;
  m.code({0xf0, 0x48, 0x0f, 0xb1, 0x1f});  // lock cmpxchg [rdi], rbx
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.peek<u64>(at), 0x1122334455667788u);
  EXPECT_TRUE(m.core().rflags() & kZF);
}

TEST(Arithmetic, CompareAndExchange16BytesWantsAlignment) {
  TestMachine m;
  m.core().gpr[kRdi] = TestMachine::kData + 8;
  m.code({0xf0, 0x48, 0x0f, 0xc7, 0x0f});  // lock cmpxchg16b [rdi]
  EXPECT_FALSE(m.step());
  EXPECT_EQ(m.core().rip, TestMachine::kCode);
}

TEST(Arithmetic, MulxWritesTheHighHalfLast) {
  TestMachine m;
  m.core().gpr[kRdx] = u64{1} << 63;
  m.core().gpr[kRcx] = 4;
  m.code({0xc4, 0xe2, 0xfb, 0xf6, 0xc1});  // mulx rax, rax, rcx
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.core().gpr[kRax], 2u);
}

TEST(Arithmetic, DecimalAdjustInLegacyCode) {
  TestMachine m;
  m.enter_protected_mode();
  m.core().gpr[kRax] = 0x79 + 0x35;
  m.core().set_rflags(2);
  m.code({0x27});  // daa
  ASSERT_TRUE(m.step());
  EXPECT_EQ(m.core().gpr[kRax], 0x14u);
  EXPECT_TRUE(m.core().rflags() & kCF);
}

}  // namespace
}  // namespace atl::soft
