#include "control/qtest.h"

#include <gtest/gtest.h>

#include "control/fake_chars.h"
#include "control/fake_machine.h"

namespace atl::control {
namespace {

struct DeviceTest : ::testing::Test {
  FakeMachine machine;
  FakeChars chars;
  DeviceTestServer server{machine, chars};
};

TEST_F(DeviceTest, PortsAreReadAndWritten) {
  EXPECT_EQ(server.answer("inb 0x60"), "OK 0x0088\n");
  EXPECT_EQ(server.answer("outl 0xcf8 0x80000000"), "OK\n");
  EXPECT_EQ(machine.log, (std::vector<std::string>{"read port 0x60 1", "write port 0xcf8 4 0x80000000"}));
}

TEST_F(DeviceTest, MemoryIsReadAndWritten) {
  EXPECT_EQ(server.answer("readq 0xfee00000"), "OK 0x1122334455667788\n");
  EXPECT_EQ(server.answer("read 0x10 2"), "OK 0x8888\n");
  machine.log.clear();
  EXPECT_EQ(server.answer("write 0x10 2 0x01ff"), "OK\n");
  EXPECT_EQ(server.answer("memset 0x20 1 0x5a"), "OK\n");
  EXPECT_EQ(machine.log, (std::vector<std::string>{"write memory 0x10 1 0x1", "write memory 0x11 1 0xff", "write memory 0x20 1 0x5a"}));
}

TEST_F(DeviceTest, TimeIsPutForward) {
  EXPECT_EQ(server.answer("clock_step 1000"), "OK 1000\n");
  EXPECT_EQ(server.answer("clock_set 5000"), "OK 5000\n");
  EXPECT_EQ(server.answer("clock_set 10"), "OK 5000\n");
}

TEST_F(DeviceTest, WhatCannotBeUnderstoodFails) {
  for (const char* line : {"", "in 1", "inb", "inb 0x10000", "readb x", "read 0 0xffffffffff", "write 0 1", "irq_intercept_in ioapic",
                           "clock_step"})
    EXPECT_TRUE(server.answer(line).starts_with("FAIL")) << line;
}

}  // namespace
}  // namespace atl::control
