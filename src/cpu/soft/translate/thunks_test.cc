// The way in and out of translated code, with code by hand.
#include "cpu/soft/translate/thunks.h"

#include <gtest/gtest.h>

#include "cpu/soft/native/image.h"
#include "cpu/soft/translate/test_draft.h"

namespace atl::soft::translate {
namespace {

using Outcome = CodeCache::Outcome;
constexpr u64 kCode = TestMachine::kCode, kData = TestMachine::kData;

void run_at(TestMachine& m, u64 rip) {
  m.core().rip = rip;
  ASSERT_TRUE(m.runtime().run());
}

TEST(Thunks, GuestRegistersGoInAndComeOut) {
  TestMachine m(kByHand);
  Core& core = m.core();
  TestDraft draft;
  draft.raw({0x48, 0xff, 0xc0, 0x49, 0xff, 0xc5, 0x49, 0xff, 0xc6, 0x49, 0xff, 0xc4});  // inc rax ; r13 ; r14 ; r12
  draft.leave(0x10);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  for (unsigned i = 0; i < 16; ++i) core.gpr[i] = 1000 * i;
  run_at(m, kCode);
  EXPECT_EQ(core.rip, kCode + 0x10);
  for (unsigned i = 0; i < 16; ++i) {
    bool raised = i == kRax || i == kRsp || i == kRbp || i == 12;
    EXPECT_EQ(core.gpr[i], 1000 * i + raised) << i;
  }
}

TEST(Thunks, CalloutRunsTheOpAndResumesWithItsFlags) {
  TestMachine m(kByHand);
  Core& core = m.core();
  m.code({0x83, 0xe8, 0x01});  // sub eax, 1
  TestDraft draft;
  draft.op(m, kCode, 0);
  draft.call(Thunk::CallOut, {.resume = TestDraft::kNext, .offset = 0, .op = 0});
  draft.raw({0x0f, 0x92, 0xc1});  // setc cl
  draft.leave(3);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  core.gpr[kRax] = 0;
  core.gpr[kRcx] = 0;
  run_at(m, kCode);
  EXPECT_EQ(core.gpr[kRax], 0xffffffffu);
  EXPECT_EQ(core.gpr[kRcx], 1u);
  EXPECT_EQ(core.rip, kCode + 3);
}

TEST(Thunks, HostFlagsBecomeTheGuestsBeforeACallout) {
  TestMachine m(kByHand);
  m.code({0x0f, 0x90, 0xc1});  // seto cl
  TestDraft draft;
  draft.op(m, kCode, 0);
  draft.raw({0xb0, 0x7f, 0x04, 1});  // mov al, 0x7f ; add al, 1
  draft.call(Thunk::CallOut, {.resume = TestDraft::kNext, .op = 0, .host_flags = true});
  draft.leave(3);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  run_at(m, kCode);
  EXPECT_EQ(m.core().gpr[kRcx] & 0xff, 1u);
  EXPECT_TRUE(m.core().rflags() & kOF);
  EXPECT_TRUE(m.core().rflags() & kSF);
}

TEST(Thunks, MissFillsTheTlbAndRetries) {
  TestMachine m(kByHand);
  Core& core = m.core();
  m.code({0x90});
  TestDraft draft;
  HostOffset retry = draft.here();
  draft.raw({0x48, 0xff, 0xc0});  // inc rax: counts the tries
  draft.raw({0x48, 0x89, 0xf5});  // mov rbp, rsi
  draft.call(Thunk::MissRead, {.retry = retry, .resume = TestDraft::kNext});
  draft.leave(1);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  core.gpr[kRax] = 0;
  core.gpr[kRsi] = kData;
  run_at(m, kCode);
  EXPECT_EQ(core.gpr[kRax], 2u);  // the second miss finds the tag: the instruction is interpreted
  EXPECT_EQ(m.runtime().stats().fills, 1u);
  EXPECT_EQ(m.runtime().stats().singles, 1u);
}

TEST(Thunks, VectorsAreLoadedOnDemandAndSavedOnTheWayOut) {
  TestMachine m(kByHand);
  Core& core = m.core();
  for (unsigned i = 0; i < 16; ++i) {
    store_le<u64>(image::xmm(core, i), i);
    store_le<u64>(image::ymm_high(core, i), 100 + i);
  }
  TestDraft draft;
  draft.call(Thunk::LoadVectors, {.vectors = true});
  draft.raw({0x66, 0x44, 0x0f, 0xd4, 0xfb});  // paddq xmm15, xmm3
  draft.leave(4);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  run_at(m, kCode);
  EXPECT_FALSE(core.vectors_live);
  for (unsigned i = 0; i < 16; ++i) {
    EXPECT_EQ(load_le<u64>(image::xmm(core, i)), i == 15 ? 18u : i);
    EXPECT_EQ(load_le<u64>(image::ymm_high(core, i)), 100u + i);
  }
}

TEST(Thunks, VectorsThatTheGuestForbidsFault) {
  TestMachine m(kByHand);
  Core& core = m.core();
  m.code({0x0f, 0x58, 0xc1});  // addps xmm0, xmm1
  TestDraft draft;
  draft.call(Thunk::LoadVectors, {.resume = TestDraft::kNext, .vectors = true});
  draft.leave(3);
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  core.cr0 |= kCr0TS;
  run_at(m, kCode);
  EXPECT_TRUE(core.shutdown);  // #NM, for which there is no handler
  EXPECT_EQ(core.rip, kCode);
}

TEST(Thunks, TrapsOfTranslatedCodeAreTheGuestsExceptions) {
  TestMachine m(kByHand);
  Core& core = m.core();
  m.code({0xf7, 0xf1});  // div ecx
  TestDraft draft;
  draft.op(m, kCode, 0);
  HostOffset retry = draft.here() + 2 + 20;  // behind the division and the 20 bytes of leave()
  draft.trapping({.retry = retry}).raw({0xf7, 0xf1}).leave(2);
  ASSERT_EQ(draft.here(), retry);
  draft.call(Thunk::CallOut, {.resume = 0, .op = 0});
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  core.gpr[kRax] = 7;
  core.gpr[kRcx] = 0;
  run_at(m, kCode);
  EXPECT_TRUE(core.shutdown);
  EXPECT_EQ(m.runtime().stats().exceptions, 1u);
  EXPECT_EQ(core.gpr[kRax], 7u);
}

TEST(Thunks, AttentionLeavesTranslatedCode) {
  TestMachine m(kByHand);
  TestDraft draft;
  draft.leave(0);  // for ever
  ASSERT_EQ(add(m, kCode, draft), Outcome::Ready);
  m.core().rip = kCode;
  request_attention(m.core(), kAttendKick);
  EXPECT_FALSE(m.runtime().run());
  EXPECT_EQ(run(m.core()), cpu::RunExit::Kicked);
}

}  // namespace
}  // namespace atl::soft::translate
