// What stays and what goes in both levels of the TLB and the walk cache (SDM vol. 3, 5.10.4).
#include <random>

#include "cpu/soft/system/control_registers.h"
#include "cpu/soft/system/test_tables.h"

namespace atl::soft {
namespace {

constexpr u64 kP = 1, kG = 0x100, kNoFlush = u64{1} << 63;
constexpr u64 kOtherTables = 0x50000;  // a PML4 that maps the same

class Invalidation : public testing::Test {
 protected:
  Invalidation() {
    m.use_page_table();
    m.poke<u64>(kOtherTables, m.peek<u64>(SystemMachine::kPageTables));
    c().cr4 |= kCr4PGE;
    EXPECT_TRUE(write_cr4(c(), c().cr4 | kCr4PCIDE));
  }
  Core& c() { return m.core(); }
  u64 page(u64 number) { return SystemMachine::kPages + number * 4096; }
  /// Reads a page and then takes it out of the tables: from now on it is readable only as long as a translation is kept.
  void keep(u64 number, u64 flags = 0) {
    m.pte(number, page(number) | kP | flags);
    ASSERT_TRUE(read(page(number)));
    m.pte(number, 0);
  }
  bool read(u64 linear) {
    u32 value = 0;
    c().fault_pending = false;
    return read_mem(c(), linear, value);
  }
  bool go_to(u16 pcid, bool keep_translations, u64 tables = SystemMachine::kPageTables) {
    return write_cr3(c(), tables | pcid | (keep_translations ? kNoFlush : 0));
  }
  bool invpcid(u64 type, u64 pcid, u64 linear = 0) {
    constexpr u64 kDescriptor = 0x60000;
    m.poke<u64>(kDescriptor, pcid);
    m.poke<u64>(kDescriptor + 8, linear);
    c().gpr[kRax] = type;
    return m.call(sys_invpcid, {.disp = kDescriptor, .dst = kRax});
  }
  SystemMachine m;
};

TEST_F(Invalidation, TranslationsOutliveSwitchesWithTheNoFlushBit) {
  ASSERT_TRUE(go_to(1, true));
  keep(1);
  ASSERT_TRUE(go_to(2, true));
  EXPECT_FALSE(read(page(1))) << "another space's";
  ASSERT_TRUE(go_to(1, true));
  EXPECT_TRUE(read(page(1)));
  EXPECT_EQ(c().cr3 >> 63, 0u);
}

TEST_F(Invalidation, Cr3WriteFlushesTheNewSpaceOnly) {
  ASSERT_TRUE(go_to(1, true));
  keep(1);
  ASSERT_TRUE(go_to(2, false));
  ASSERT_TRUE(go_to(1, true));
  EXPECT_TRUE(read(page(1)));
  ASSERT_TRUE(go_to(1, false));
  EXPECT_FALSE(read(page(1)));
}

TEST_F(Invalidation, GlobalPagesAreSeenFromEverySpace) {
  ASSERT_TRUE(go_to(1, true));
  keep(1, kG);
  ASSERT_TRUE(go_to(2, false));
  EXPECT_TRUE(read(page(1)));
}

TEST_F(Invalidation, InvlpgDropsTheCurrentSpacesAndGlobalTranslations) {
  ASSERT_TRUE(go_to(1, true));
  keep(1);
  keep(2, kG);
  keep(3);
  ASSERT_TRUE(go_to(2, true));
  keep(3);
  for (u64 i : {1, 2, 3}) flush_tlb_page(c(), page(i));
  EXPECT_FALSE(read(page(2)));
  EXPECT_FALSE(read(page(3)));
  ASSERT_TRUE(go_to(1, true));
  EXPECT_TRUE(read(page(1)));
  EXPECT_TRUE(read(page(3)));
}

TEST_F(Invalidation, InvpcidOfAnAddressReachesOtherSpaces) {
  ASSERT_TRUE(go_to(1, true));
  keep(1);
  keep(2);
  ASSERT_TRUE(go_to(2, true));
  ASSERT_TRUE(invpcid(0, 1, page(1)));
  ASSERT_TRUE(go_to(1, true));
  EXPECT_FALSE(read(page(1)));
  EXPECT_TRUE(read(page(2)));
}

TEST_F(Invalidation, InvpcidOfASpaceKeepsGlobalPages) {
  ASSERT_TRUE(go_to(1, true));
  keep(1);
  keep(2, kG);
  ASSERT_TRUE(invpcid(1, 1));
  EXPECT_FALSE(read(page(1)));
  EXPECT_TRUE(read(page(2)));
}

TEST_F(Invalidation, InvpcidOfAllSpacesKeepsGlobalPagesOnlyInType3) {
  ASSERT_TRUE(go_to(1, true));
  keep(1);
  keep(2, kG);
  ASSERT_TRUE(go_to(2, true));
  ASSERT_TRUE(invpcid(3, 0));
  EXPECT_TRUE(read(page(2)));
  ASSERT_TRUE(go_to(1, true));
  EXPECT_FALSE(read(page(1)));
  ASSERT_TRUE(invpcid(2, 0));
  EXPECT_FALSE(read(page(2)));
}

TEST_F(Invalidation, InvpcidRefusesBadDescriptors) {
  EXPECT_FALSE(invpcid(4, 0));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_FALSE(invpcid(1, 0x1000));
  EXPECT_FAULT(c(), kGP, 0);
  EXPECT_FALSE(invpcid(0, 1, u64{1} << 50));
  EXPECT_FAULT(c(), kGP, 0);
  ASSERT_TRUE(go_to(0, false));
  ASSERT_TRUE(write_cr4(c(), c().cr4 & ~u64{kCr4PCIDE}));
  EXPECT_FALSE(invpcid(1, 1));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(Invalidation, SwitchingPcidsOffFlushesAll) {
  keep(1, kG);
  ASSERT_TRUE(write_cr4(c(), c().cr4 & ~u64{kCr4PCIDE}));
  EXPECT_FALSE(read(page(1)));
}

TEST_F(Invalidation, PcidsNeedZeroInCr3) {
  ASSERT_TRUE(write_cr4(c(), c().cr4 & ~u64{kCr4PCIDE}));
  ASSERT_TRUE(write_cr3(c(), SystemMachine::kPageTables | 0x18));
  EXPECT_FALSE(write_cr4(c(), c().cr4 | kCr4PCIDE));
  EXPECT_FAULT(c(), kGP, 0);
}

TEST_F(Invalidation, InvlpgForgetsTheTablesOnTheWay) {
  ASSERT_TRUE(read(page(1)));
  m.poke<u64>(SystemMachine::kPageTables + 0x2000 + (SystemMachine::kPages >> 21) * 8, 0);
  EXPECT_TRUE(read(page(2))) << "the cached table of PTEs may still serve";
  flush_tlb_page(c(), page(7));
  EXPECT_FALSE(read(page(3)));
}

TEST_F(Invalidation, FaultIsToldFromTheTablesNotFromTheCache) {
  ASSERT_TRUE(read(page(1)));
  constexpr u64 kNewTable = 0x51000;
  m.pte(2, 0);
  m.poke<u64>(kNewTable + 2 * 8, page(2) | kP);
  m.poke<u64>(SystemMachine::kPageTables + 0x2000 + (SystemMachine::kPages >> 21) * 8, kNewTable | 7);
  EXPECT_TRUE(read(page(2)));
}

TEST_F(Invalidation, MorePermissiveEntriesNeedNoFlush) {
  m.pte(1, page(1) | kP);
  EXPECT_TRUE(read(page(1)));
  EXPECT_FALSE(write_mem<u32>(c(), page(1), 1));
  m.pte(1, page(1) | kP | 2);
  c().fault_pending = false;
  EXPECT_TRUE(write_mem<u32>(c(), page(1), 1));
}

TEST_F(Invalidation, SecondLevelGivesNoWriteTagBeforeThePageIsDirty) {
  m.pte(1, page(1) | kP | 2);
  ASSERT_TRUE(read(page(1)));
  ASSERT_TRUE(go_to(0, true));  // the first level forgets
  ASSERT_TRUE(read(page(1)));
  EXPECT_EQ(fast_host(c(), page(1), 4, Access::Write), nullptr);
  ASSERT_TRUE(write_mem<u32>(c(), page(1), 1));
  EXPECT_TRUE(m.pte(1) & 0x40);
}

/// Pages that are remapped all the time; what a read may find is what was mapped since the translation was last invalidated.
class RandomInvalidation : public Invalidation {
 protected:
  static constexpr u32 kSpaces = 3, kRemapped = 8, kGlobalPages = 3, kFrames = 32, kFirstFrame = 16;

  RandomInvalidation() {
    for (u32 f = 0; f < kFrames; ++f) m.poke<u32>(page(kFirstFrame + f), f);
    for (u32 p = 0; p < kRemapped; ++p) remap(p, p);
    flush_tlb(c(), false);
    for (u32 s = 0; s < kSpaces; ++s) forget_space(s);
    for (u32 p = 0; p < kRemapped; ++p) forget_page(0, p);
  }
  void remap(u32 number, u32 frame) {
    m.pte(number, page(kFirstFrame + frame) | kP | (number < kGlobalPages ? kG : 0));
    now[number] = frame;
    for (auto& space : allowed) space[number] |= 1u << frame;
  }
  void forget_page(u32 space, u32 number) {
    for (u32 s = 0; s < kSpaces; ++s)
      if (s == space || number < kGlobalPages) allowed[s][number] = 1u << now[number];
  }
  void forget_space(u32 space) {
    for (u32 p = kGlobalPages; p < kRemapped; ++p) forget_page(space, p);
  }
  void invalidate(u32 type, u32 space, u32 number) {
    ASSERT_TRUE(invpcid(type, space, page(number)));
    if (type == 0 && number >= kGlobalPages) forget_page(space, number);
    if (type == 1) forget_space(space);
    for (u32 s = 0; type >= 2 && s < kSpaces; ++s) forget_space(s);
    for (u32 p = 0; type == 2 && p < kGlobalPages; ++p) forget_page(0, p);
  }
  void switch_to(u32 space, bool keep) {
    ASSERT_TRUE(go_to(static_cast<u16>(space), keep));
    current = space;
    if (!keep) forget_space(space);
  }
  void check(u32 number) {
    u32 found = ~0u;
    ASSERT_TRUE(read_mem(c(), page(number), found));
    ASSERT_TRUE(allowed[current][number] >> found & 1) << "page " << number << " frame " << found << ", now " << now[number];
  }
  std::array<std::array<u32, kRemapped>, kSpaces> allowed{};
  std::array<u32, kRemapped> now{};
  u32 current = 0;
};

TEST_F(RandomInvalidation, NoTranslationOutlivesItsInvalidation) {
  std::mt19937 random(20261121);
  for (unsigned i = 0; i < 100'000 && !HasFatalFailure(); ++i) {
    const u32 number = random() % kRemapped, space = random() % kSpaces;
    switch (random() % 16) {
      case 0: case 1: remap(number, random() % kFrames); break;
      case 2: flush_tlb_page(c(), page(number)); forget_page(current, number); break;
      case 3: invalidate(random() % 4, space, number); break;
      case 4: case 5: switch_to(space, true); break;
      case 6: switch_to(space, false); break;
      default: check(number);
    }
  }
}

TEST_F(Invalidation, EmptyTagsAreHitByNoAddress) {
  Tlb& tlb = c().tlb;
  flush_tlb(c(), false);
  for (u64 linear : {u64{0}, u64{0xfff}, u64{0x1000}, u64{0x7fffff}, u64{0x800000}, ~u64{0}, u64{1} << 63, u64{0x1001} << 51}) {
    const TlbEntry& entry = tlb.at(kUserSet, linear);
    EXPECT_GE(linear ^ entry.read, kPageSize) << linear;
    EXPECT_GE(linear ^ entry.write, kPageSize) << linear;
    EXPECT_GE(linear ^ tlb.fetch_at(true, linear).tag, kPageSize) << linear;
  }
}

}  // namespace
}  // namespace atl::soft
