#include "cpu/soft/translate/code_cache.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "cpu/soft/mmu/access.h"
#include "cpu/soft/translate/test_draft.h"

namespace atl::soft::translate {
namespace {

using Outcome = CodeCache::Outcome;
constexpr u64 kCode = TestMachine::kCode;

/// inc rax, then on to `target` of the page.
TestDraft step_to(u16 offset, u16 target) {
  TestDraft draft(offset);
  draft.raw({0x48, 0xff, 0xc0});
  draft.link(target);
  return draft;
}

TEST(CodeCache, FindsWhatWasAddedInItsModeOnly) {
  TestMachine m(kByHand);
  CodeCache& cache = m.runtime().cache();
  TestDraft draft = step_to(0x40, 0x80);
  ASSERT_EQ(add(m, kCode, draft, 0x40), Outcome::Ready);
  EXPECT_NE(cache.find(kCode + 0x40, kKernel64), nullptr);
  EXPECT_EQ(cache.find(kCode + 0x41, kKernel64), nullptr);
  EXPECT_EQ(cache.find(kCode + 0x40, kKernel64 | kUserSet << kModeSetShift), nullptr);
  EXPECT_EQ(cache.find(kCode + 0x1040, kKernel64), nullptr);
}

TEST(CodeCache, LinksRegionsOfAPageBothWays) {
  TestMachine m(kByHand);
  CodeCache& cache = m.runtime().cache();
  TestDraft first = step_to(0, 0x10), second = step_to(0x10, 0x20), third = step_to(0x20, 0x30);
  ASSERT_EQ(add(m, kCode, second, 0x10), Outcome::Ready);
  ASSERT_EQ(add(m, kCode, first, 0), Outcome::Ready);      // leads to code that is there
  EXPECT_EQ(cache.stats().links, 1u);
  ASSERT_EQ(add(m, kCode, third, 0x20), Outcome::Ready);   // is led to by code that was there
  EXPECT_EQ(cache.stats().links, 2u);
  m.core().gpr[kRax] = 0;
  m.core().rip = kCode;
  ASSERT_TRUE(m.runtime().run());
  EXPECT_EQ(m.core().gpr[kRax], 3u);
  EXPECT_EQ(m.core().rip, kCode + 0x30);
  EXPECT_EQ(m.runtime().stats().lookups, 1u);
}

TEST(CodeCache, WritesToThePageEndItsTranslations) {
  TestMachine m(kByHand);
  CodeCache& cache = m.runtime().cache();
  TestDraft draft = step_to(0, 0x10);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  m.core().rip = kCode;
  ASSERT_TRUE(m.runtime().run());
  u64 before = cache.changes();
  m.poke<u8>(kCode + 0x800, 1);
  EXPECT_EQ(cache.find(kCode, kKernel64), nullptr);
  EXPECT_NE(cache.changes(), before);
  EXPECT_TRUE(m.core().attention & kAttendCode);
  m.core().attention = 0;
  m.core().rip = kCode;
  EXPECT_FALSE(m.runtime().run());
}

TEST(CodeCache, TranslationsOfAnOldVersionAreNotPublished) {
  TestMachine m(kByHand);
  CodeCache& cache = m.runtime().cache();
  m.vm().code.mark(kCode);
  u32 version = m.vm().code.version(kCode);
  m.poke<u8>(kCode, 1);
  m.vm().code.mark(kCode);
  TestDraft draft = step_to(0, 0x10);
  cache.add(kCode, kKernel64, version, draft.take());
  EXPECT_EQ(cache.find(kCode, kKernel64), nullptr);
}

TEST(CodeCache, ForbiddenPagesHaveNoTranslations) {
  TestMachine m(kByHand);
  CodeCache& cache = m.runtime().cache();
  TestDraft draft = step_to(0, 0x10);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  cache.set_forbidden(kCode, true);
  EXPECT_EQ(cache.find(kCode, kKernel64), nullptr);
  EXPECT_EQ(cache.translate(kCode, kKernel64, m.vm().code.version(kCode), m.ram() + kCode), Outcome::Refused);
}

TEST(CodeCache, AFullCacheIsEmptiedOnceNobodyIsInside) {
  TestMachine m(kByHand);
  CodeCache& cache = m.runtime().cache();
  Outcome outcome = Outcome::Ready;
  u64 page = kCode;
  for (unsigned i = 0; i < 100'000 && outcome == Outcome::Ready; ++i) {
    u16 offset = static_cast<u16>(i * 4 % kPageSize);
    if (offset == 0) page += kPageSize;
    TestDraft draft = step_to(offset, offset);
    outcome = add(m, page, draft, offset);
  }
  ASSERT_EQ(outcome, Outcome::Busy);
  EXPECT_FALSE(cache.enter(m.core()));
  TestDraft again = step_to(0, 0x10);
  ASSERT_EQ(add(m, kCode, again), Outcome::Ready);
  EXPECT_EQ(cache.stats().flushes, 1u);
  EXPECT_EQ(cache.find(page, kKernel64), nullptr);
  ASSERT_TRUE(cache.enter(m.core()));
  CodeCache::leave(m.core());
}

TEST(CodeCache, WaitsForThoseInside) {
  TestMachine m(kByHand);
  CodeCache& cache = m.runtime().cache();
  ASSERT_TRUE(cache.enter(m.core()));
  Outcome outcome = Outcome::Ready;
  for (unsigned i = 0; i < 100'000 && outcome == Outcome::Ready; ++i) {
    TestDraft draft = step_to(static_cast<u16>(i % kPageSize), 0);
    outcome = add(m, kCode, draft, static_cast<u16>(i % kPageSize));
  }
  TestDraft again = step_to(0, 0x10);
  EXPECT_EQ(add(m, kCode, again), Outcome::Busy);
  EXPECT_EQ(cache.stats().flushes, 0u);
  CodeCache::leave(m.core());
  TestDraft last = step_to(0, 0x10);
  EXPECT_EQ(add(m, kCode, last), Outcome::Ready);
}

TEST(CodeCache, NoMappingIsWritableAndExecutable) {
  TestMachine m(kByHand);
  TestDraft draft = step_to(0, 0x10);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  std::ifstream maps("/proc/self/maps");
  unsigned executable = 0;
  for (std::string line; std::getline(maps, line);) {
    std::string rights = line.substr(line.find(' ') + 1, 4);
    EXPECT_FALSE(rights[1] == 'w' && rights[2] == 'x') << line;
    if (line.find("atoll-translations") != std::string::npos) executable += rights[2] == 'x';
  }
  EXPECT_EQ(executable, 1u);
}

}  // namespace
}  // namespace atl::soft::translate
