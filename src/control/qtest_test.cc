#include "control/qtest.h"

#include <gtest/gtest.h>

#include "control/fake_chars.h"
#include "control/fake_machine.h"

namespace atl::control {
namespace {

struct DeviceTest : ::testing::Test {
  DeviceTest() : loop(MUST(Loop::create())) {}  // a loop needs only io_uring

  FakeMachine machine;
  FakeChars chars;
  const std::unique_ptr<Loop> loop;
  DeviceTestServer server{machine, chars, *loop};
};

TEST_F(DeviceTest, PortsAreReadAndWritten) {
  EXPECT_EQ(server.answer("inb 0x60"), "OK 0x0088\n");
  EXPECT_EQ(server.answer("outl 0xcf8 0x80000000"), "OK\n");
  EXPECT_EQ(machine.log, (std::vector<std::string>{"read port 0x60 1", "write port 0xcf8 4 0x80000000"}));
}

TEST_F(DeviceTest, MemoryIsReadAndWritten) {
  EXPECT_EQ(server.answer("readq 0xfee00000"), "OK 0x1122334455667788\n");
  EXPECT_EQ(server.answer("read 0x10 2"), "OK 0x8877\n");
  EXPECT_EQ(server.answer("b64read 0x10 2"), "OK iHc=\n");
}

TEST_F(DeviceTest, RangesAreWrittenInTheWidestAlignedAccesses) {
  EXPECT_EQ(server.answer("write 0x13 6 0x0102030405"), "OK\n");
  EXPECT_EQ(server.answer("b64write 0x10 2 Af8="), "OK\n");
  EXPECT_EQ(server.answer("memset 0x20 1 0x5a"), "OK\n");
  EXPECT_EQ(machine.log, (std::vector<std::string>{"write memory 0x13 1 0x1", "write memory 0x14 4 0x5040302", "write memory 0x18 1 0x0",
                                                   "write memory 0x10 2 0xff01", "write memory 0x20 1 0x5a"}));
}

TEST_F(DeviceTest, TimeIsPutForward) {
  EXPECT_EQ(server.answer("clock_step 1000"), "OK 1000\n");
  EXPECT_EQ(server.answer("clock_set 5000"), "OK 5000\n");
  EXPECT_EQ(server.answer("clock_set 10"), "OK 5000\n");
  EXPECT_EQ(server.answer("clock_step"), "OK 5007\n");
}

TEST_F(DeviceTest, InterruptLinesAreToldBeforeTheNextAnswer) {
  chars.type("irq_intercept_in ioapic\n");
  EXPECT_EQ(chars.take_output(), "OK\n");
  machine.lines(14, true);
  machine.lines(14, false);
  chars.type("inb 0x60\n");
  EXPECT_EQ(chars.take_output(), "IRQ raise 14\nIRQ lower 14\nOK 0x0088\n");
}

TEST_F(DeviceTest, InterruptLinesAreToldWithoutACommandToo) {
  server.answer("irq_intercept_in ioapic");
  machine.lines(4, true);
  loop->run_once(1'000'000'000);
  EXPECT_EQ(chars.take_output(), "IRQ raise 4\n");
}

TEST_F(DeviceTest, WhatCannotBeUnderstoodFails) {
  for (const char* line : {"", "in 1", "inb", "inb 0x10000", "readb x", "read 0 0xffffffffff", "write 0 1", "irq_intercept_in pic",
                           "irq_intercept_out ioapic", "clock_step x", "b64write 0 1 !", "read 0xffffffffffffffff 2"})
    EXPECT_TRUE(server.answer(line).starts_with("FAIL")) << line;
}

}  // namespace
}  // namespace atl::control
