#include "cpu/soft/exec/block_cache.h"

#include <gtest/gtest.h>

#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/mmu/access.h"

namespace atl::soft {
namespace {

/// Stops run() from inside the guest: OUT 0x80.
struct Kicker final : memory::BusDevice {
  Core* core = nullptr;
  u64 bus_read(u64, unsigned) override { return 0; }
  void bus_write(u64, u64, unsigned) override { request_attention(*core, kAttendKick); }
};

struct BlockCacheTest : testing::Test {
  TestMachine m;
  Core& core = m.core();
  Kicker kicker;
  BlockCacheTest() {
    kicker.core = &core;
    EXPECT_TRUE(m.ports().add({.name = "kicker", .base = 0x80, .size = 1, .device = &kicker}));
  }
  void run_code(std::initializer_list<u8> bytes) {
    m.code(bytes);
    ASSERT_EQ(run(core), cpu::RunExit::Kicked);
  }
};

TEST_F(BlockCacheTest, DecodesOnceAndRunsAgain) {
  m.code({0x90, 0x90, 0xc3});
  CodeBlock* first = core.blocks->find();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->op_count, 3u);
  EXPECT_EQ(core.blocks->find(), first);
  EXPECT_EQ(core.stats.blocks_decoded, 1u);
}

TEST_F(BlockCacheTest, WriteToThePageMakesABlockStale) {
  m.code({0x90, 0xc3});
  CodeBlock* first = core.blocks->find();
  m.vm().code.wrote(TestMachine::kCode + 0x800, 1);
  EXPECT_FALSE(first->fresh());
  EXPECT_NE(core.blocks->find(), first);
}

TEST_F(BlockCacheTest, CodeThatRewritesTheNextInstructionRunsTheNewOne) {
  // mov byte [rip + 1], 2 ; mov al, 1 ; out 0x80, al
  run_code({0xc6, 0x05, 0x01, 0, 0, 0, 2, 0xb0, 0x01, 0xe6, 0x80});
  EXPECT_EQ(core.gpr[kRax] & 0xff, 2u);
}

TEST_F(BlockCacheTest, LoopThatRewritesItselfSeesEachVersion) {
  // l: mov eax, 0 ; inc dword [l + 1] ; add ebx, eax ; cmp eax, 9 ; jne l ; out 0x80, al
  run_code({0xb8, 0, 0, 0, 0, 0xff, 0x05, 0xf6, 0xff, 0xff, 0xff, 0x01, 0xc3, 0x83, 0xf8, 9, 0x75, 0xee, 0xe6, 0x80});
  EXPECT_EQ(core.gpr[kRbx], 45u);
}

TEST_F(BlockCacheTest, InstructionAcrossPagesFollowsTheSecondPage) {
  u64 at = TestMachine::kCode + 0xffe;
  m.load(at, std::to_array<u8>({0xb8, 1, 0, 0, 0, 0xe6, 0x80}));  // mov eax, 1 ; out 0x80, al
  core.rip = at;
  ASSERT_EQ(run(core), cpu::RunExit::Kicked);
  EXPECT_EQ(core.gpr[kRax], 1u);
  m.poke<u8>(at + 2, 5);  // the second byte of the immediate, in the second page
  core.rip = at;
  ASSERT_EQ(run(core), cpu::RunExit::Kicked);
  EXPECT_EQ(core.gpr[kRax], 0x501u);
}

TEST_F(BlockCacheTest, RemappedPageIsNotRunThroughAnOldLink) {
  constexpr u64 kLinear = 0x600000, kFirst = 0x200000, kSecond = 0x400000;  // 2 MiB pages
  m.load(kFirst, std::to_array<u8>({0xb3, 1, 0xc3}));   // mov bl, 1 ; ret
  m.load(kSecond, std::to_array<u8>({0xb3, 2, 0xc3}));  // mov bl, 2 ; ret
  auto map = [&](u64 to) {
    m.poke<u64>(TestMachine::kPageTables + 0x2000 + (kLinear >> 21) * 8, to | 0x87);
    flush_tlb_page(core, kLinear);
  };
  i32 distance = static_cast<i32>(kLinear - (TestMachine::kCode + 5));
  auto byte = [&](int i) { return static_cast<u8>(distance >> i * 8); };
  map(kFirst);
  for (int i = 0; i < 3; ++i) {
    run_code({0xe8, byte(0), byte(1), byte(2), byte(3), 0xe6, 0x80});
    EXPECT_EQ(core.gpr[kRbx], 1u);
  }
  map(kSecond);
  core.rip = TestMachine::kCode;
  ASSERT_EQ(run(core), cpu::RunExit::Kicked);
  EXPECT_EQ(core.gpr[kRbx], 2u);
}

TEST_F(BlockCacheTest, BlockStaysProvisionalUntilTheOtherCoreAnswers) {
  Core other;
  other.vm = &m.vm();
  m.vm().cores.push_back(&other);
  m.code({0x90, 0xc3});
  CodeBlock* block = core.blocks->find();
  EXPECT_FALSE(block->linkable());
  EXPECT_TRUE(other.attention & kAttendTlb);
  m.ram()[TestMachine::kCode] = 0xf8;  // a write through the other's old tag: nobody is told
  CodeBlock* changed = core.blocks->find();
  EXPECT_NE(changed, block);
  other.code_epoch_seen = m.vm().code_epoch.load();
  changed = core.blocks->find();
  EXPECT_TRUE(changed->linkable());
  m.vm().cores.pop_back();
}

TEST_F(BlockCacheTest, FullArenaStartsOver) {
  u64 generation = core.blocks->generation();
  for (u64 i = 0; i < BlockCache::kArenaBytes / 64 && core.blocks->generation() == generation; ++i) {
    core.rip = 0x100000 + i;  // zeroes: add [rax], al
    ASSERT_NE(core.blocks->find(), nullptr);
  }
  EXPECT_GT(core.blocks->generation(), generation);
  EXPECT_NE(core.blocks->find(), nullptr);
}

TEST_F(BlockCacheTest, FetchPastTheLegacyLimitIsGeneralProtection) {
  m.enter_protected_mode();
  m.code({0xb8, 1, 0, 0, 0});
  core.seg[kCs].limit = TestMachine::kCode + 2;
  EXPECT_EQ(core.blocks->find(), nullptr);
  EXPECT_EQ(core.fault.vector, kGP);
}

}  // namespace
}  // namespace atl::soft
