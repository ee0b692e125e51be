#include "devices/legacy/reset_ports.h"

#include <gtest/gtest.h>

#include "devices/legacy/debug_ports.h"
#include "devices/legacy/test_doubles.h"

namespace atl::devices {
namespace {

TEST(Port92, ResetsOnBitZeroAndKeepsA20) {
  RecordingSystem system;
  Port92 port(system);
  EXPECT_EQ(port.bus_read(0, 1), 2u);
  port.bus_write(0, 0, 1);
  EXPECT_EQ(system.resets, 0);
  port.bus_write(0, 3, 1);
  EXPECT_EQ(system.resets, 1);
  EXPECT_EQ(port.bus_read(0, 1), 2u);
}

TEST(ResetControl, RisingBitTwoResets) {
  RecordingSystem system;
  ResetControl control(system);
  control.bus_write(0, 0x02, 1);
  EXPECT_EQ(system.resets, 0);
  control.bus_write(0, 0x06, 1);
  control.bus_write(0, 0x06, 1);
  EXPECT_EQ(system.resets, 1);
}

TEST(DebugExit, StatusIsTwiceTheValuePlusOne) {
  RecordingSystem system;
  DebugExit exit(system);
  exit.bus_write(0, 0x10, 4);
  EXPECT_EQ(system.exit_status, 0x21);
}

TEST(DebugConsole, PassesBytesAndReadsBackItsPort) {
  RecordingBackend backend;
  DebugConsole console(backend);
  console.bus_write(0, 'A', 1);
  EXPECT_EQ(backend.output, "A");
  EXPECT_EQ(console.bus_read(0, 1), 0xe9u);
}

}  // namespace
}  // namespace atl::devices
