// Small guests that run translated, with the interpreter's result as the measure.
#include "cpu/soft/translate/runtime.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "cpu/soft/exec/test_machine.h"

namespace atl::soft::translate {
namespace {

constexpr u64 kCode = TestMachine::kCode;

/// Stops run() from inside the guest: OUT 0x80.
struct Kicker final : memory::BusDevice {
  explicit Kicker(Core& c) : core(c) {}
  u64 bus_read(u64, unsigned) override { return 0; }
  void bus_write(u64, u64, unsigned) override { request_attention(core, kAttendKick); }
  Core& core;
};

/// A machine with descriptor tables for exceptions, a handler for #UD that skips two bytes and counts in RBX.
class Guest {
 public:
  static constexpr u64 kIdt = 0x40000, kGdt = 0x41000, kHandler = 0x42000;

  explicit Guest(Translation translation, u64 cache_bytes = SoftOptions::kMinCacheBytes)
      : m({.translation = translation, .cache_bytes = cache_bytes}), kicker(m.core()) {
    MUST(m.ports().add({.name = "kicker", .base = 0x80, .size = 1, .device = &kicker}));  // nothing else is there
    m.poke<u64>(kGdt + 8, 0x00af9b000000ffff);
    m.poke<u64>(kGdt + 16, 0x00cf93000000ffff);
    m.poke<u64>(kIdt + 6 * 16, (kHandler & 0xffff) | u64{8} << 16 | u64{0x8e00} << 32 | (kHandler >> 16) << 48);
    const u8 handler[] = {0x48, 0xff, 0xc3, 0x48, 0x83, 0x04, 0x24, 2, 0x48, 0xcf};  // inc rbx ; add qword [rsp], 2 ; iretq
    m.load(kHandler, handler);
    m.core().gdtr = {.base = kGdt, .limit = 0x17};
    m.core().idtr = {.base = kIdt, .limit = 0xfff};
    for (u64& reg : m.core().gpr) reg = 0;
    m.core().gpr[kRsp] = TestMachine::kStack;
  }
  void run_code(const std::vector<u8>& code) {
    m.code(code);
    while (soft::run(m.core()) != cpu::RunExit::Kicked) ASSERT_FALSE(m.core().fault_pending);
  }
  u64 reg(unsigned n) { return m.core().gpr[n]; }

  TestMachine m;
  Kicker kicker;
};

constexpr Translation kAll[] = {Translation::Off, Translation::On, Translation::Always};

TEST(Runtime, LoopsRunTranslatedAndStop) {
  for (Translation translation : kAll) {
    Guest guest(translation);
    guest.run_code({0xb9, 0x40, 0x42, 0x0f, 0x00, 0xff, 0xc0, 0xff, 0xc9, 0x75, 0xfa, 0xe6, 0x80, 0xeb, 0xfe});
    EXPECT_EQ(guest.reg(kRax), 1'000'000u);
    if (translation != Translation::Off) {
      EXPECT_LT(guest.m.core().stats.instructions, 1000u) << "most of it was translated";
    }
  }
}

/// Each round changes the instruction that it is about to run.
TEST(Runtime, CodeThatRewritesItselfAllTheTimeStaysRight) {
  u64 expected = 0;
  for (unsigned i = 0; i < 3000; ++i) expected = static_cast<u32>(expected + static_cast<u64>(static_cast<i8>(i)));
  for (Translation translation : kAll) {
    Guest guest(translation);
    guest.run_code({0xb9, 0xb8, 0x0b, 0, 0,         // mov ecx, 3000
                    0x83, 0xc0, 0,                  // l: add eax, 0
                    0xfe, 0x05, 0xf9, 0xff, 0xff, 0xff,  // inc byte [l + 2]
                    0xff, 0xc9, 0x75, 0xf3,         // dec ecx ; jnz l
                    0xe6, 0x80, 0xeb, 0xfe});
    EXPECT_EQ(guest.reg(kRax), expected) << static_cast<int>(translation);
  }
}

TEST(Runtime, RewrittenPagesFallBackToTheInterpreter) {
  Guest guest(Translation::On);
  guest.run_code({0xb9, 0xa0, 0x86, 1, 0, 0x83, 0xc0, 0, 0xfe, 0x05, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x75, 0xf3, 0xe6, 0x80, 0xeb, 0xfe});
  EXPECT_LT(guest.m.runtime().cache().stats().translations.load(), 100u);
}

TEST(Runtime, MoreCodeThanTheCacheHoldsRuns) {
  constexpr unsigned kPages = 3000, kIncrements = 40;
  constexpr u64 kFirst = 0x100000;
  for (Translation translation : {Translation::Off, Translation::Always}) {
    Guest guest(translation);
    for (u64 i = 0; i < kPages; ++i) {
      std::vector<u8> page;
      for (unsigned n = 0; n < kIncrements; ++n) page.insert(page.end(), {0x48, 0xff, 0xc0});  // inc rax
      page.insert(page.end(), {0xe9, 0, 0, 0, 0});                                           // jmp to the next page
      u64 next = i + 1 == kPages ? kCode + 5 : kFirst + (i + 1) * kPageSize;
      store_le<u32>(&page[page.size() - 4], static_cast<u32>(next - (kFirst + i * kPageSize + page.size())));
      guest.m.load(kFirst + i * kPageSize, page);
    }
    std::vector<u8> code = {0xb9, 10, 0, 0, 0,          // mov ecx, 10
                            0xff, 0xc9, 0x78, 5,        // again: dec ecx ; js out
                            0xe9, 0, 0, 0, 0,           // jmp first
                            0xe6, 0x80, 0xeb, 0xfe};
    store_le<u32>(&code[10], static_cast<u32>(kFirst - (kCode + 14)));
    guest.run_code(code);
    EXPECT_EQ(guest.reg(kRax), u64{kIncrements} * 10 * kPages);
    if (translation == Translation::Always) {
      EXPECT_GT(guest.m.runtime().cache().stats().flushes.load(), 0u);
    }
  }
}

TEST(Runtime, ExceptionsAndTheirReturnsStayInTranslatedCode) {
  for (Translation translation : kAll) {
    Guest guest(translation);
    guest.run_code({0xb9, 0x10, 0x27, 0, 0,  // mov ecx, 10000
                    0x0f, 0x0b,              // l: ud2
                    0xff, 0xc0,              // inc eax
                    0xff, 0xc9, 0x75, 0xf8,  // dec ecx ; jnz l
                    0xe6, 0x80, 0xeb, 0xfe});
    EXPECT_EQ(guest.reg(kRbx), 10'000u);
    EXPECT_EQ(guest.reg(kRax), 10'000u);
    EXPECT_EQ(guest.reg(kRsp), TestMachine::kStack);
    if (translation != Translation::Off) {
      EXPECT_LT(guest.m.runtime().stats().entries, 100u);
    }
  }
}

TEST(Runtime, RunTranslatedStopsAtForbiddenPages) {
  Guest guest(Translation::Always);
  CodeCache& cache = guest.m.runtime().cache();
  const u8 jump[] = {0xff, 0xc0, 0xe9, 0xf9, 0x0f, 0, 0};  // inc eax ; jmp to the next page
  guest.m.load(kCode, jump);
  cache.set_forbidden(kCode + kPageSize, true);
  guest.m.core().rip = kCode;
  ASSERT_TRUE(run_translated(guest.m.core(), 10));
  EXPECT_EQ(guest.m.core().rip, kCode + kPageSize);
  EXPECT_EQ(guest.reg(kRax), 1u);
}

}  // namespace
}  // namespace atl::soft::translate
