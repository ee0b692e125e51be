#include "cpu/soft/differential/program.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "cpu/soft/differential/program_generator.h"

namespace atl::soft::differential {
namespace {

/// jmp short or near to item 2; nop; int3
Program jump(u8 size, unsigned nops) {
  Program p;
  std::vector<u8> bytes = size == 1 ? std::vector<u8>{0xeb, 0} : std::vector<u8>{0xe9, 0, 0, 0, 0};
  auto end = static_cast<u8>(bytes.size());
  p.items.push_back({.bytes = bytes, .fixups = {{.at = 1, .size = size, .relative = true, .end = end, .target = 2}}});
  p.items.push_back({.bytes = std::vector<u8>(nops, 0x90), .fixups = {}});
  p.items.push_back({.bytes = {0xcc}, .fixups = {}});
  p.before.rip = kCodePage + 100;
  return p;
}

TEST(Program, BranchesLeadToTheirItems) {
  EXPECT_EQ(assemble(jump(1, 9)).bytes[1], 9);
  EXPECT_EQ(load_le<u32>(&assemble(jump(4, 300)).bytes[1]), 300u);
}

TEST(Program, BranchToARemovedItemLeadsToWhatFollows) {
  Program p = jump(1, 9);
  p.items.push_back({.bytes = {0xcc}, .fixups = {}});
  p.items[2] = {};
  EXPECT_EQ(assemble(p).bytes[1], 9);
}

TEST(Program, ShortBranchThatWouldBeTooLongLeadsToTheNextInstruction) { EXPECT_EQ(assemble(jump(1, 200)).bytes[1], 0); }

TEST(Program, PatchOfARemovedInstructionGoesToTheWindow) {
  Program p;
  p.before.rip = kCodePage;
  p.items.push_back({.bytes = {0xc7, 5, 0, 0, 0, 0, 1, 2, 3, 4}, .fixups = {{.at = 2, .relative = true, .end = 10, .target = 1, .addend = 1}}});
  p.items.push_back({.bytes = {0xb8, 0, 0, 0, 0}, .fixups = {}});
  EXPECT_EQ(load_le<u32>(&assemble(p).bytes[2]), 1u);
  p.items[1] = {};
  EXPECT_EQ(load_le<u32>(&assemble(p).bytes[2]), static_cast<u32>(kWindow - (kCodePage + 10)));
}

TEST(ProgramGenerator, SeedAndIndexRepeatAProgram) {
  std::array<u8, kWindowBytes> memory;
  ProgramGenerator generator(7);
  Case first = assemble(generator.make(300, memory));
  generator.make(5, memory);
  Case again = assemble(generator.make(300, memory));
  EXPECT_EQ(first.bytes, again.bytes);
  EXPECT_EQ(first.before.gpr, again.before.gpr);
}

TEST(ProgramGenerator, ProgramsFitThePagesOfCode) {
  std::array<u8, kWindowBytes> memory;
  ProgramGenerator generator(8);
  for (u64 i = 0; i < 200; ++i) {
    Program p = generator.make(i, memory);
    EXPECT_GE(p.before.rip, kCodePage);
    EXPECT_LE(p.before.rip + p.size_bytes(), kCodePage + kCodeBytes);
  }
}

}  // namespace
}  // namespace atl::soft::differential
