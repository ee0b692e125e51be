#include "cpu/soft/decode/decoder.h"

#include <gtest/gtest.h>

#include "cpu/soft/exec/test_machine.h"

namespace atl::soft {
namespace {

struct Result {
  Decoded outcome;
  Op op;
};

Result decode(std::initializer_list<u8> bytes, CodeSize code = CodeSize::k64) {
  static const Decoder decoder(cpu::host_cpuid());
  std::vector<u8> padded(bytes);
  padded.resize(32, 0x90);
  Result result{};
  result.outcome = decoder.decode(padded, {.code = code, .flat_data = true}, {}, result.op);
  return result;
}

const Op* stop(Core&, const Op*) { return nullptr; }

/// The vector that running `op` alone raises, or -1.
int raised(Core& core, const Op& op) {
  Op ops[2] = {op, {.run = stop}};
  core.fault_pending = false;
  ops[0].run(core, ops);
  return core.fault_pending ? core.fault.vector : -1;
}

/// Whether the processor refuses the bytes with this vector.
bool raises(std::initializer_list<u8> bytes, u8 vector, CodeSize code = CodeSize::k64) {
  TestMachine m;
  return raised(m.core(), decode(bytes, code).op) == vector;
}

TEST(Decoder, ScaledIndexAndDisplacement) {
  Op op = decode({0x4a, 0x8b, 0x44, 0xcb, 0xf8}).op;  // mov rax, [rbx + r9 * 8 - 8]
  EXPECT_EQ(op.base, kRbx);
  EXPECT_EQ(op.index, kR9);
  EXPECT_EQ(op.scale, 3u);
  EXPECT_EQ(op.disp, -8);
  EXPECT_EQ(op.seg, kDs);
}

TEST(Decoder, StackBasedOperandsFaultAsStackSegment) {
  EXPECT_EQ(decode({0x48, 0x8b, 0x45, 0x00}).op.seg, kSs);        // [rbp]
  EXPECT_EQ(decode({0x48, 0x8b, 0x04, 0x24}).op.seg, kSs);        // [rsp]
  EXPECT_EQ(decode({0x49, 0x8b, 0x45, 0x00}).op.seg, kDs);        // [r13]
  EXPECT_EQ(decode({0x65, 0x48, 0x8b, 0x45, 0x00}).op.seg, kGs);
}

TEST(Decoder, RipRelativeCountsFromTheBlock) {
  Op op = decode({0x8b, 0x05, 0x10, 0, 0, 0}).op;
  EXPECT_EQ(op.base, kRipBase);
  EXPECT_EQ(op.disp, 0x16);
}

TEST(Decoder, SixteenBitAddressing) {
  Op op = decode({0x8b, 0x42, 0x80}, CodeSize::k16).op;  // mov ax, [bp + si - 128]
  EXPECT_EQ(op.base, kRbp);
  EXPECT_EQ(op.index, kRsi);
  EXPECT_EQ(op.disp, -128);
  EXPECT_EQ(op.addrsize, 2u);
  EXPECT_EQ(op.opsize, 2u);
  EXPECT_EQ(op.seg, kSs);
}

TEST(Decoder, ByteRegistersAreTheirPlace) {
  EXPECT_EQ(decode({0x88, 0xe0}).op.src, 1u);        // mov al, ah
  EXPECT_EQ(decode({0x40, 0x88, 0xe0}).op.src, 32u); // mov al, spl
}

TEST(Decoder, BranchesEndBlocks) {
  EXPECT_EQ(decode({0xeb, 0x00}).outcome, Decoded::Ends);
  EXPECT_EQ(decode({0x74, 0x00}).outcome, Decoded::EndsOpen);
  EXPECT_EQ(decode({0xf4}).outcome, Decoded::Ends);
  EXPECT_EQ(decode({0x0f, 0x22, 0xd8}).outcome, Decoded::Ends);      // mov cr3, rax
  EXPECT_EQ(decode({0x0f, 0x20, 0xd8}).outcome, Decoded::Continues); // mov rax, cr3
  EXPECT_EQ(decode({0x8e, 0xd8}).outcome, Decoded::Ends);            // mov ds, eax
}

TEST(Decoder, CutInstructionIsTruncated) {
  Decoder decoder(cpu::host_cpuid());
  Op op;
  u8 bytes[] = {0x48, 0xb8, 1, 2};
  EXPECT_EQ(decoder.decode(bytes, {}, {}, op), Decoded::Truncated);
}

TEST(Decoder, TooManyPrefixesAreGeneralProtection) {
  EXPECT_TRUE(raises({0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90}, kGP));
}

TEST(Decoder, LockWhereItMayNotBeIsUndefined) {
  EXPECT_TRUE(raises({0xf0, 0x01, 0xd8}, kUD));        // lock add eax, ebx
  EXPECT_TRUE(raises({0xf0, 0x8b, 0x03}, kUD));        // lock mov
  EXPECT_TRUE(raises({0xf0, 0x39, 0x03}, kUD));        // lock cmp
  EXPECT_FALSE(raises({0xf0, 0x01, 0x03, 0xc3}, kUD)); // lock add [rbx], eax
}

TEST(Decoder, LegacyInstructionsAreUndefinedInLongMode) {
  for (u8 opcode : {0x06, 0x27, 0x37, 0x60, 0x62, 0x82, 0xc4, 0xce, 0xd4, 0xd6, 0xea}) {
    if (opcode == 0x62 || opcode == 0xc4) continue;  // EVEX and VEX there
    EXPECT_TRUE(raises({opcode, 0, 0, 0, 0, 0, 0, 0}, kUD)) << unsigned{opcode};
  }
}

TEST(Decoder, HiddenExtensionsAreUndefined) {
  cpu::CpuidTable table = cpu::host_cpuid();
  cpu::CpuidEntry leaf = table.query(1, 0);
  leaf.ecx &= ~(u32{1} << 23 | u32{1} << 28);  // POPCNT, AVX
  table.set(leaf);
  Decoder decoder(table);
  TestMachine m;
  for (auto bytes : {std::vector<u8>{0xf3, 0x0f, 0xb8, 0xc3}, std::vector<u8>{0xc5, 0xf8, 0x58, 0xc1}}) {
    Op op;
    bytes.resize(20, 0x90);
    decoder.decode(bytes, {}, {}, op);
    EXPECT_EQ(raised(m.core(), op), kUD);
  }
}

TEST(Decoder, ReservedNopsDoNothing) {
  for (u8 opcode : {0x0d, 0x18, 0x19, 0x1c, 0x1d, 0x1e, 0x1f}) {
    Result r = decode({0x0f, opcode, 0x00});
    EXPECT_EQ(r.outcome, Decoded::Continues);
    EXPECT_EQ(r.op.length, 3u);
  }
}

}  // namespace
}  // namespace atl::soft
