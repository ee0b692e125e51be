// Snippets run translated and interpreted from the same state, and what the translator may emit.
#include "cpu/soft/translate/translation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/native/image.h"
#include "cpu/soft/native/stub.h"
#include "cpu/soft/native/supported.h"
#include "cpu/soft/translate/host_code_check.h"
#include "cpu/soft/translate/runtime.h"

namespace atl::soft::translate {
namespace {

using Bytes = std::vector<u8>;
constexpr u64 kCode = TestMachine::kCode, kData = TestMachine::kData, kEnd = 0x18000;
constexpr Mode kKernel64 = static_cast<Mode>(CodeSize::k64), kKernel32 = static_cast<Mode>(CodeSize::k32);

Result<Draft> translate(const Bytes& code, Mode mode = kKernel64, u16 entry = 0) {
  Bytes page(kPageSize, 0x90);
  std::ranges::copy(code, page.begin() + entry);
  static const Translator translator(cpu::host_cpuid(), HostFeatures::detect());
  return translator.translate({.page = page, .gpa = 0x1000, .entry = entry, .mode = mode});
}

/// The same code on two machines, one of which translates. It ends with a jump to kEnd, which follows `code`.
class Pair {
 public:
  explicit Pair(bool long_mode = true) : translating_({.translation = Translation::Always}) {
    MUST(prepare_stubs());  // a test host gives executable memory
    for (TestMachine* m : {&plain_, &translating_}) {
      if (!long_mode) m->enter_protected_mode();
      for (unsigned i = 0; i < 16; ++i) m->core().gpr[i] = i == kRsp ? TestMachine::kStack : long_mode || i < 8 ? kData + 0x100 * i : 0;
      for (unsigned i = 0; i < 0x4000; ++i) m->ram()[kData + i] = static_cast<u8>(i * 7 + (i >> 8));
      m->core().set_rflags(2 | kCF | kAF);
      m->core().ext.xsave[image::kMxcsr] = 0x80;  // 1F80: exceptions masked
      m->core().ext.xsave[image::kMxcsr + 1] = 0x1f;
    }
    translating_.runtime().cache().set_forbidden(kEnd, true);
  }
  TestMachine& plain() { return plain_; }
  TestMachine& translating() { return translating_; }
  void set(unsigned reg, u64 value) { plain_.core().gpr[reg] = translating_.core().gpr[reg] = value; }

  void expect_same(Bytes code) {
    u32 distance = static_cast<u32>(kEnd - (kCode + code.size() + 5));
    code.push_back(0xe9);
    for (int i = 0; i < 4; ++i) code.push_back(static_cast<u8>(distance >> 8 * i));
    for (TestMachine* m : {&plain_, &translating_}) m->code(code);
    for (unsigned i = 0; plain_.core().rip != kEnd; ++i) {
      ASSERT_LT(i, 100000u);
      ASSERT_TRUE(plain_.step());
    }
    ASSERT_TRUE(run_translated(translating_.core(), 1000));
    compare();
  }

 private:
  void compare() {
    const Core &a = plain_.core(), &b = translating_.core();
    for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(a.gpr[i], b.gpr[i]) << "register " << i;
    EXPECT_EQ(a.rip, b.rip);
    EXPECT_EQ(a.rflags(), b.rflags());
    EXPECT_EQ(a.ext.xsave, b.ext.xsave);
    EXPECT_EQ(std::memcmp(plain_.ram() + kCode, translating_.ram() + kCode, 0x30000), 0);
  }

  TestMachine plain_, translating_;
};

// -- what comes out ------------------------------------------------------------------------------------------------------------

TEST(TranslatorTest, NothingHostileComesOut) {
  const Bytes snippets[] = {
      {0x0f, 0x05},                                // syscall
      {0xcd, 0x80},                                // int 80
      {0xf3, 0x48, 0x0f, 0xae, 0xc0},              // rdfsbase rax
      {0x8e, 0xd8},                                // mov ds, eax
      {0x64, 0x48, 0x8b, 0x00},                    // mov rax, fs:[rax]
      {0xff, 0x28},                                // jmp far [rax]
      {0x48, 0x89, 0x04, 0x25, 0, 0, 0x60, 0xff},  // mov [ffffffffff600000], rax
      {0x0f, 0x01, 0xd0},                          // xgetbv
      {0xd9, 0xe8},                                // fld1
      {0xf3, 0xa4},                                // rep movsb
      {0x0f, 0x31},                                // rdtsc
      {0xfa, 0xfb, 0x9c, 0x0f, 0x01, 0xf8},        // cli; sti; pushf; swapgs
      {0x0f, 0x01, 0xcb, 0x0f, 0x01, 0xca},        // stac; clac
      {0x48, 0x0f, 0x07},                          // sysretq
      {0x8c, 0xd8, 0x48, 0x0f, 0xab, 0x08},        // mov eax, ds; bts [rax], rcx
      {0xf3, 0x48, 0x0f, 0xae, 0xd0},              // wrfsbase rax
      {0xc4, 0xe2, 0x69, 0x92, 0x04, 0x08},        // vgatherdps xmm0, [rax + xmm1], xmm2
  };
  for (const Bytes& code : snippets) {
    for (Mode mode : {kKernel64, kKernel32}) {
      auto draft = translate(code, mode);
      ASSERT_TRUE(draft);
      EXPECT_EQ(find_forbidden(draft->code), "");
    }
  }
}

TEST(TranslatorTest, RandomBytesComeOutWithinTheRules) {
  u64 seed = 1;
  for (unsigned round = 0; round < 300; ++round) {
    Bytes code(200);
    for (u8& byte : code) byte = static_cast<u8>((seed = seed * 6364136223846793005 + 1442695040888963407) >> 56);
    auto draft = translate(code, round & 1 ? kKernel64 : kKernel32, static_cast<u16>(round * 13));
    ASSERT_TRUE(draft);
    EXPECT_EQ(find_forbidden(draft->code), "") << round;
  }
}

TEST(TranslatorTest, AnInstructionThatLeavesThePageIsRefused) {
  EXPECT_FALSE(translate({0x48}, kKernel64, kPageSize - 1));
}

TEST(TranslatorTest, SitesAreSortedAndWithinTheCode) {
  auto draft = translate({0x48, 0x8b, 0x07, 0x48, 0x89, 0x06, 0xf7, 0xf1, 0xc3});
  ASSERT_TRUE(draft);
  EXPECT_TRUE(std::ranges::is_sorted(draft->sites, {}, &Site::at));
  for (const Site& site : draft->sites) EXPECT_LE(site.at, draft->code.size());
  EXPECT_TRUE(std::ranges::is_sorted(draft->entries, {}, &Entry::offset));
}

// -- what it does ----------------------------------------------------------------------------------------------------------------

TEST(TranslatorTest, LoadsAndStoresReachMemory) {
  Pair pair;
  pair.expect_same({0x48, 0x8b, 0x06,                    // mov rax, [rsi]
                    0x89, 0x44, 0x8f, 0x10,              // mov [rdi + rcx*4 + 10], eax; rcx is large
                    0x66, 0x01, 0x57, 0x02,              // add [rdi + 2], dx
                    0x8a, 0x66, 0x07,                    // mov ah, [rsi + 7]
                    0x86, 0x27,                          // xchg [rdi], ah
                    0x4c, 0x8b, 0x6e, 0x20,              // mov r13, [rsi + 20]
                    0x4d, 0x01, 0x2e,                    // add [r14], r13
                    0x47, 0x8b, 0x3c, 0x26});            // mov r15d, [r14 + r12]
}

TEST(TranslatorTest, AccessesAcrossPagesAreComplete) {
  Pair pair;
  pair.set(kRsi, kData + 0xffd);
  pair.set(kRdi, kData + 0x1ffc);
  pair.expect_same({0x48, 0x8b, 0x06, 0x48, 0x89, 0x07, 0x48, 0x01, 0x06});
}

TEST(TranslatorTest, FlagsOutliveAddressChecks) {
  Pair pair;
  pair.expect_same({0x48, 0x39, 0xd8,        // cmp rax, rbx
                    0x48, 0x8b, 0x0e,        // mov rcx, [rsi]
                    0x0f, 0x92, 0x07,        // setb [rdi]
                    0x48, 0x11, 0xca,        // adc rdx, rcx
                    0x48, 0x8b, 0x1e,        // mov rbx, [rsi]
                    0x48, 0x83, 0xd0, 0x00,  // adc rax, 0
                    0x48, 0xff, 0xc9,        // dec rcx
                    0x48, 0x0f, 0x42, 0x1f,  // cmovb rbx, [rdi]
                    0x9f});                  // lahf
}

TEST(TranslatorTest, FlagsOfEachKindOfProducerAreFoundAgain) {
  for (const Bytes& producer : {Bytes{0x48, 0x01, 0xd8}, Bytes{0x29, 0xd8}, Bytes{0x4d, 0x29, 0xf5}, Bytes{0x45, 0x01, 0xfd},
                                Bytes{0xf7, 0xd8}, Bytes{0x21, 0xd8}, Bytes{0x4d, 0x31, 0xed}, Bytes{0x4d, 0x39, 0xf5},
                                Bytes{0x4d, 0x85, 0xed}, Bytes{0x41, 0xf6, 0xc5, 0x81}, Bytes{0x48, 0x83, 0xc4, 0x10},
                                Bytes{0x66, 0x83, 0xe8, 0x7f}, Bytes{0x04, 0x90}, Bytes{0xd3, 0xe0}, Bytes{0xff, 0xc8},
                                Bytes{0x0f, 0xaf, 0xc3}, Bytes{0x00, 0xe0}, Bytes{0x49, 0xf7, 0xdf}, Bytes{0x48, 0x83, 0xec, 0x80}}) {
    Pair pair;
    Bytes code = producer;
    for (u8 byte : {0x48, 0x8b, 0x0e, 0x0f, 0x92, 0x07, 0x0f, 0x9a, 0x47, 0x01, 0x7e, 0x03, 0x48, 0x8b, 0x16}) code.push_back(byte);
    pair.expect_same(code);
  }
}

TEST(TranslatorTest, StackInstructionsMoveTheStack) {
  Pair pair;
  pair.expect_same({0x54, 0x41, 0x57, 0xff, 0x36, 0x6a, 0x80, 0x68, 1, 2, 3, 0x84,  // push rsp, r15, [rsi], imm
                    0x58, 0x41, 0x5e, 0x41, 0x5d, 0x5b,                             // pop rax, r14, r13, rbx
                    0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0xc9});         // push rbp; mov rbp, rsp; sub; leave
}

TEST(TranslatorTest, CallsReturn) {
  Pair pair;
  pair.expect_same({0xe8, 0x05, 0, 0, 0,     // call f
                    0x48, 0xff, 0xc3,        // inc rbx
                    0xeb, 0x09,              // jmp over
                    0x48, 0x83, 0xc0, 0x05,  // f: add rax, 5
                    0x48, 0x31, 0xc9, 0x90,
                    0xc3});
}

TEST(TranslatorTest, LoopsEnd) {
  Pair pair;
  pair.set(kRcx, 50);
  pair.expect_same({0x48, 0x03, 0x06,        // l: add rax, [rsi]
                    0x48, 0x83, 0xc6, 0x08,  // add rsi, 8
                    0x48, 0x89, 0x07,        // mov [rdi], rax
                    0xff, 0xc9,              // dec ecx
                    0x75, 0xf2,              // jnz l
                    0xb9, 7, 0, 0, 0,        // mov ecx, 7
                    0xff, 0xc2,              // m: inc edx
                    0xe2, 0xfc,              // loop m
                    0xe3, 0x02, 0xff, 0xc2});  // jrcxz over an inc
}

TEST(TranslatorTest, BlocksGoOnBehindForwardBranches) {
  for (u64 at : {u64{0x100}, u64{0xff0}}) {   // the second: what is checked at once crosses a page
    Pair pair;
    pair.set(kRcx, 5);
    pair.set(kRsi, kData + at);
    pair.expect_same({0x48, 0x8b, 0x06,              // l: mov rax, [rsi]
                      0x48, 0x01, 0xc2,              // add rdx, rax
                      0x78, 0x0b,                    // js m
                      0x48, 0x03, 0x56, 0x08,        // add rdx, [rsi + 8]
                      0x70, 0x05,                    // jo m
                      0x48, 0x11, 0x56, 0x10,        // adc [rsi + 10], rdx
                      0x9c,                          // pushfq
                      0x48, 0xd3, 0x46, 0x18,        // m: rol qword [rsi + 18], cl
                      0xff, 0xc9, 0x75, 0xe5});      // dec ecx; jnz l
  }
}

TEST(TranslatorTest, VectorsAreTheGuestsOwn) {
  Pair pair;
  pair.set(kRcx, 3);
  pair.expect_same({0x0f, 0x10, 0x06,                    // l: movups xmm0, [rsi]
                    0x66, 0x44, 0x0f, 0xef, 0xc8,        // pxor xmm9, xmm0
                    0x66, 0x0f, 0x70, 0xc8, 0x1b,        // pshufd xmm1, xmm0, 1b
                    0xf3, 0x41, 0x0f, 0x7f, 0x09,        // movdqu [r9], xmm1
                    0x66, 0x4c, 0x0f, 0x7e, 0xcb,        // movq rbx, xmm9
                    0x66, 0x49, 0x0f, 0x6e, 0xd7,        // movq xmm2, r15
                    0xf2, 0x49, 0x0f, 0x2a, 0xdd,        // cvtsi2sd xmm3, r13
                    0x66, 0x0f, 0x2e, 0xda,              // ucomisd xmm3, xmm2
                    0x0f, 0x97, 0xc2,                    // seta dl
                    0xff, 0xc9, 0x75, 0xd4});            // dec ecx; jnz l
}

TEST(TranslatorTest, Code32WrapsAddressesAndCountsItsStackInWords) {
  Pair pair(false);
  pair.set(kRsi, 0xfffffff0);
  pair.expect_same({0x8b, 0x86, 0x10, 0x00, 0x03, 0x00,  // mov eax, [esi + 30010]
                    0x40, 0x4a, 0x97,                    // inc eax; dec edx; xchg eax, edi
                    0x97, 0x50, 0x68, 1, 0, 0, 0, 0x5b,  // xchg; push eax; push 1; pop ebx
                    0x0f, 0xb6, 0xec, 0x0f, 0xbe, 0xe6,  // movzx ebp, ah; movsx esp, dh
                    0xa1, 0x20, 0x00, 0x03, 0x00});      // mov eax, [30020]
}

TEST(TranslatorTest, RoundingOfAnOperandInTheCoreIsNotTakenForBroadcast) {
  if (!host_has_avx512()) GTEST_SKIP();
  Pair pair;
  for (TestMachine* m : {&pair.plain(), &pair.translating()}) m->core().xcr0 = 0xe7;
  pair.expect_same({0x62, 0x01, 0xfe, 0x18, 0x7b, 0xe5});      // vcvtusi2ss xmm28, xmm0, r13 {rn-sae}
}

TEST(TranslatorTest, Code32IgnoresTheWidthBitOfIntegersInMemory) {
  if (!host_has_avx512()) GTEST_SKIP();
  Pair pair(false);
  for (TestMachine* m : {&pair.plain(), &pair.translating()}) {
    m->core().cr4 |= kCr4OSXSAVE;
    m->core().xcr0 = 0xe7;
  }
  pair.expect_same({0x62, 0xf3, 0xd5, 0x08, 0x22, 0x3b, 0x4d,  // vpinsrd xmm7, xmm5, [ebx], 4D with W
                    0x62, 0xf1, 0xfd, 0x08, 0x6e, 0x0e});      // vmovd xmm1, [esi] with W
}

TEST(TranslatorTest, ShortInstructionsOfTheKernelDoWhatTheInterpreterDoes) {
  Pair pair;
  for (TestMachine* m : {&pair.plain(), &pair.translating()}) {
    m->core().seg[kGs].base = kData + 0x40;
    m->core().msr.kernel_gs_base = kData + 0x80;
  }
  pair.expect_same({0xfb, 0x9c, 0xfa, 0x9c,                                      // sti; pushfq; cli; pushfq
                    0x48, 0x39, 0xd8, 0x9c,                                      // cmp rax, rbx; pushfq
                    0x65, 0x48, 0x8b, 0x0c, 0x25, 0, 0, 0, 0,                    // mov rcx, gs:[0]
                    0x0f, 0x01, 0xf8,                                            // swapgs
                    0x65, 0x48, 0x8b, 0x14, 0x25, 0, 0, 0, 0,                    // mov rdx, gs:[0]
                    0x5e, 0x5f, 0x41, 0x58, 0xfb});                              // pop rsi; pop rdi; pop r8; sti
  const Core &a = pair.plain().core(), &b = pair.translating().core();
  EXPECT_EQ(a.seg[kGs].base, b.seg[kGs].base);
  EXPECT_EQ(a.msr.kernel_gs_base, b.msr.kernel_gs_base);
  EXPECT_EQ(a.rflags(), b.rflags());
}

TEST(TranslatorTest, AccessFlagSelectsTheOtherTlbSet) {
  Pair pair;
  for (TestMachine* m : {&pair.plain(), &pair.translating()}) m->core().cr4 |= kCr4SMAP;
  pair.expect_same({0x0f, 0x01, 0xcb, 0x48, 0x03, 0x06, 0x9c,  // stac; add rax, [rsi]; pushfq
                    0x0f, 0x01, 0xcb, 0x48, 0x03, 0x06, 0x5b,  // stac; add rax, [rsi]; pop rbx
                    0x0f, 0x01, 0xca, 0x0f, 0x01, 0xca});      // clac; clac
  EXPECT_EQ(pair.plain().core().translate_mode, pair.translating().core().translate_mode);
}

TEST(TranslatorTest, SystemCallsGoToTheKernelAndBack) {
  Pair pair;
  for (TestMachine* m : {&pair.plain(), &pair.translating()}) {
    m->enter_user_mode();
    m->core().set_rflags(2 | kCF | kZF | kIF | kOF);
    m->core().msr.star = u64{0x23} << 48 | u64{0x10} << 32;
    m->core().msr.lstar = kCode + 8;
    m->core().msr.sfmask = kTF | kIF | kDF | kAC | kOF;
    m->core().interrupt_refused = 0;
  }
  pair.expect_same({0x0f, 0x05, 0x48, 0x11, 0xc8, 0x9c,        // syscall; adc rax, rcx; pushfq
                    0xeb, 0x09,                                // jmp over what follows
                    0x9c, 0x8c, 0xcb, 0x8c, 0xd2,              // pushfq; mov ebx, cs; mov edx, ss
                    0x5e, 0x48, 0x0f, 0x07});                  // pop rsi; sysretq
  const Core &a = pair.plain().core(), &b = pair.translating().core();
  EXPECT_EQ(a.seg, b.seg);
  EXPECT_EQ(a.cpl, b.cpl);
  EXPECT_EQ(b.cpl, 3);
  EXPECT_EQ(a.tlb.data_set, b.tlb.data_set);
  EXPECT_EQ(a.translate_mode, b.translate_mode);
}

TEST(TranslatorTest, SegmentRegistersAndBasesAreReadAndWritten) {
  Pair pair;
  for (TestMachine* m : {&pair.plain(), &pair.translating()}) m->core().cr4 |= kCr4FSGSBASE;
  pair.expect_same({0x48, 0x29, 0xd8,                          // sub rax, rbx
                    0x66, 0x8c, 0xc9, 0x41, 0x8c, 0xd5,        // mov cx, cs; mov r13d, ss
                    0x66, 0x41, 0x8c, 0xde, 0x9c,              // mov r14w, ds; pushfq
                    0xf3, 0x48, 0x0f, 0xae, 0xd6,              // wrfsbase rsi
                    0xf3, 0x49, 0x0f, 0xae, 0xdf,              // wrgsbase r15
                    0x64, 0x48, 0x8b, 0x14, 0x25, 0, 0, 0, 0,  // mov rdx, fs:[0]
                    0x65, 0x48, 0x03, 0x14, 0x25, 0, 0, 0, 0,  // add rdx, gs:[0]
                    0xf3, 0x48, 0x0f, 0xae, 0xc7,              // rdfsbase rdi
                    0xf3, 0x41, 0x0f, 0xae, 0xcd,              // rdgsbase r13d
                    0xf3, 0x41, 0x0f, 0xae, 0xd6});            // wrfsbase r14d
  EXPECT_EQ(pair.plain().core().seg, pair.translating().core().seg);
}

TEST(TranslatorTest, BitStringsReachBitsFarFromTheirAddress) {
  Pair pair;
  pair.set(kRsi, kData + 0x1800);
  pair.set(kRcx, static_cast<u64>(-3000));
  pair.set(13, 40000);
  pair.set(kRdx, 0x1'0000'0123);
  pair.expect_same({0x48, 0x39, 0xd8,                          // cmp rax, rbx
                    0x48, 0x0f, 0xa3, 0x0e, 0x9c,              // bt [rsi], rcx; pushfq
                    0xf0, 0x48, 0x0f, 0xab, 0x0e, 0x9c,        // lock bts [rsi], rcx; pushfq
                    0x4c, 0x0f, 0xb3, 0x6e, 0x08, 0x9c,        // btr [rsi + 8], r13; pushfq
                    0x0f, 0xbb, 0x16, 0x9c,                    // btc [rsi], edx; pushfq
                    0x44, 0x0f, 0xa3, 0x2e, 0x73, 0x02,        // bt [rsi], r13d; jnc
                    0xff, 0xc7,                                // inc edi
                    0x0f, 0xab, 0x0e});                        // bts [rsi], ecx
}

TEST(TranslatorTest, CompareExchangeOfSixteenBytes) {
  Pair pair;
  pair.set(kRsi, kData + 0x100);
  pair.expect_same({0xf0, 0x48, 0x0f, 0xc7, 0x0e,              // lock cmpxchg16b [rsi]
                    0x48, 0x0f, 0xc7, 0x0e});                  // cmpxchg16b [rsi]
}

TEST(TranslatorTest, CodeThatChangesItselfRunsAsWritten) {
  Pair pair;
  pair.set(kRbx, kCode + 16);
  pair.expect_same({0xc6, 0x03, 0x42,                    // mov byte [rbx], 42
                    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
                    0xb8, 0x11, 0, 0, 0});               // mov eax, 11, which becomes 42
}

}  // namespace
}  // namespace atl::soft::translate
