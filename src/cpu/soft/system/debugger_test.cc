// Break- and watchpoints of the host's debugger on running code: Core::debugger.
#include <gtest/gtest.h>

#include "cpu/soft/exec/test_machine.h"
#include "cpu/soft/mmu/access.h"

namespace atl::soft {
namespace {

using Point = DebugRequest::Point;

class DebuggerTest : public testing::Test {
 protected:
  static constexpr u64 kCode = TestMachine::kCode, kData = TestMachine::kData;

  void SetUp() override {
    // 0: mov ecx, 100   5: inc rax   8: mov [kData], rax   16: dec ecx   18: jnz 5   20: jmp 20
    m_.code({0xb9, 100, 0, 0, 0, 0x48, 0xff, 0xc0, 0x48, 0x89, 0x04, 0x25, 0, 0, 3, 0, 0xff, 0xc9, 0x75, 0xf1, 0xeb, 0xfe});
    c().gpr[kRax] = 0;
  }
  Core& c() { return m_.core(); }
  void set_points(std::vector<Point> points) {
    c().debugger.points = std::move(points);
    c().blocks->clear();
    flush_tlb(c(), false);
  }
  RunExit go() {
    c().debugger_hit.reset();
    return run(c());
  }

  TestMachine m_;
};

TEST_F(DebuggerTest, StopsBeforeTheInstructionAtAnExecutionPoint) {
  set_points({{kCode + 16, 1, Point::Kind::Execute}});
  ASSERT_EQ(go(), RunExit::Debug);
  EXPECT_EQ(c().rip, kCode + 16);
  EXPECT_EQ(c().gpr[kRax], 1u);
  ASSERT_TRUE(c().debugger_hit);
  EXPECT_EQ(c().debugger_hit->address, kCode + 16);
}

TEST_F(DebuggerTest, StopsInALoopThatRanLinkedBefore) {
  set_points({{kCode + 20, 1, Point::Kind::Execute}});
  ASSERT_EQ(go(), RunExit::Debug);
  EXPECT_EQ(c().gpr[kRax], 100u);
  c().rip = kCode;
  set_points({{kCode + 5, 1, Point::Kind::Execute}});
  ASSERT_EQ(go(), RunExit::Debug);
  EXPECT_EQ(c().rip, kCode + 5);
  EXPECT_EQ(c().gpr[kRax], 100u);
}

TEST_F(DebuggerTest, SamePlaceInAnotherPageDoesNotStop) {
  set_points({{kCode + 0x1000 + 16, 1, Point::Kind::Execute}, {kCode + 20, 1, Point::Kind::Execute}});
  ASSERT_EQ(go(), RunExit::Debug);
  EXPECT_EQ(c().rip, kCode + 20);
}

TEST_F(DebuggerTest, StopsAfterAWatchedWrite) {
  set_points({{kData, 8, Point::Kind::Write}});
  ASSERT_EQ(go(), RunExit::Debug);
  EXPECT_EQ(c().rip, kCode + 16);
  EXPECT_EQ(m_.peek<u64>(kData), 1u);
  ASSERT_TRUE(c().debugger_hit);
  EXPECT_EQ(c().debugger_hit->kind, Point::Kind::Write);
  ASSERT_EQ(go(), RunExit::Debug);
  EXPECT_EQ(m_.peek<u64>(kData), 2u);
  EXPECT_EQ(c().dr6, 0xffff0ff0u) << "the guest sees nothing of it";
}

TEST_F(DebuggerTest, NeighboursOfAWatchedPlaceDoNotStop) {
  set_points({{kData + 8, 8, Point::Kind::Access}, {kCode + 20, 1, Point::Kind::Execute}});
  ASSERT_EQ(go(), RunExit::Debug);
  EXPECT_EQ(c().rip, kCode + 20);
  EXPECT_EQ(m_.peek<u64>(kData), 100u);
}

}  // namespace
}  // namespace atl::soft
