#include "devices/legacy/serial_16550.h"

#include <gtest/gtest.h>

#include "devices/legacy/manual_clock.h"
#include "devices/legacy/test_doubles.h"

namespace atl::devices {
namespace {

class Serial16550Test : public testing::Test {
 protected:
  u8 in(u64 port) { return static_cast<u8>(uart.bus_read(port, 1)); }
  void out(u64 port, u8 value) { uart.bus_write(port, value, 1); }
  void enable(u8 sources) {
    out(4, 0x08);
    out(1, sources);
  }

  ManualClock clock;
  RecordingLine irq;
  RecordingBackend backend;
  Serial16550 uart{irq, clock, &backend};
};

TEST_F(Serial16550Test, PowerOnStateIsIdleAndConnected) {
  EXPECT_EQ(in(5), 0x60);
  EXPECT_EQ(in(2), 0x01);
  EXPECT_EQ(in(6), 0xb0);
  EXPECT_FALSE(irq.level);
}

TEST_F(Serial16550Test, BytesWrittenReachTheBackend) {
  for (char c : std::string("hello")) out(0, static_cast<u8>(c));
  EXPECT_EQ(backend.output, "hello");
}

TEST_F(Serial16550Test, DivisorLatchHidesDataRegister) {
  out(3, 0x80);
  out(0, 1);
  out(1, 2);
  EXPECT_EQ(in(0), 1);
  EXPECT_EQ(in(1), 2);
  EXPECT_TRUE(backend.output.empty());
}

TEST_F(Serial16550Test, EnablingTransmitInterruptRaisesItAndReadingIirClearsIt) {
  enable(2);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in(2), 0x02);
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(in(2), 0x01);
}

TEST_F(Serial16550Test, EachTransmittedByteMakesAnEdge) {
  enable(2);
  int before = irq.rising_edges;
  out(0, 'a');
  out(0, 'b');
  EXPECT_EQ(irq.rising_edges, before + 2);
}

TEST_F(Serial16550Test, Out2GatesTheLine) {
  out(1, 2);
  EXPECT_FALSE(irq.level);
  out(4, 0x08);
  EXPECT_TRUE(irq.level);
}

TEST_F(Serial16550Test, ReceivedByteInterruptsUntilRead) {
  enable(1);
  backend.type("x");
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in(2), 0x04);
  EXPECT_EQ(in(5) & 1, 1);
  EXPECT_EQ(in(0), 'x');
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(backend.accepts, 1);
}

TEST_F(Serial16550Test, SecondByteWithoutFifoOverruns) {
  enable(4);
  backend.type("ab");
  EXPECT_EQ(in(2), 0x06);
  EXPECT_EQ(in(5) & 0x03, 0x03);
  EXPECT_EQ(in(5) & 0x02, 0);
  EXPECT_EQ(in(0), 'b');
}

TEST_F(Serial16550Test, FifoInterruptsAtTriggerLevel) {
  enable(1);
  out(2, 0x41);  // FIFO on, trigger at 4
  backend.type("abc");
  EXPECT_FALSE(irq.level);
  backend.type("d");
  EXPECT_EQ(in(2), 0xc4);
  in(0);
  EXPECT_FALSE(irq.level);
}

TEST_F(Serial16550Test, BytesBelowTriggerTimeOut) {
  enable(1);
  out(3, 0x03);
  out(2, 0x81);
  backend.type("a");
  clock.advance(1'000'000);
  EXPECT_FALSE(irq.level);
  clock.advance(4'000'000);  // 4 characters at 9600 baud take 4.2 ms
  EXPECT_EQ(in(2), 0xcc);
  EXPECT_EQ(in(0), 'a');
  EXPECT_EQ(in(2), 0xc1);
}

TEST_F(Serial16550Test, FullFifoKeepsOldBytesAndFlagsOverrun) {
  out(2, 0x01);
  backend.type("0123456789abcdefX");
  EXPECT_EQ(in(5) & 2, 2);
  EXPECT_EQ(in(0), '0');
}

TEST_F(Serial16550Test, CanReceiveCountsFreePlaces) {
  EXPECT_EQ(backend.frontend.can_receive(), 1u);
  out(2, 0x01);
  EXPECT_EQ(backend.frontend.can_receive(), 16u);
  backend.type("abc");
  EXPECT_EQ(backend.frontend.can_receive(), 13u);
}

TEST_F(Serial16550Test, LoopbackReturnsBytesAndModemLines) {
  out(4, 0x1a);
  out(0, 0x5a);
  EXPECT_EQ(in(0), 0x5a);
  EXPECT_EQ(in(6) & 0xf0, 0x90);  // RTS -> CTS, OUT2 -> DCD
  EXPECT_TRUE(backend.output.empty());
  EXPECT_EQ(backend.frontend.can_receive(), 0u);
}

TEST_F(Serial16550Test, BreakArrivesAsNullWithBreakFlag) {
  out(2, 0x01);
  backend.frontend.event(CharEvent::Break);
  EXPECT_EQ(in(5) & 0x91, 0x91);
  EXPECT_EQ(in(0), 0);
  EXPECT_EQ(in(5) & 0x91, 0);
}

TEST_F(Serial16550Test, FullBackendHoldsTransmitterBusyUntilWritable) {
  backend.room = 0;
  enable(2);
  in(2);
  out(0, 'a');
  EXPECT_EQ(in(5) & 0x60, 0);
  EXPECT_FALSE(irq.level);
  backend.room = 10;
  backend.frontend.writable();
  EXPECT_EQ(backend.output, "a");
  EXPECT_EQ(in(5) & 0x60, 0x60);
  EXPECT_TRUE(irq.level);
}

TEST_F(Serial16550Test, SavedStateComesBack) {
  enable(1);
  out(2, 0x01);
  out(7, 0x42);
  backend.type("xy");
  Archive save;
  uart.visit(save);
  std::vector<u8> data = save.take();
  uart.reset();
  Archive load{std::span<const u8>(data)};
  uart.visit(load);
  ASSERT_TRUE(load.status().has_value());
  EXPECT_EQ(in(7), 0x42);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in(0), 'x');
  EXPECT_EQ(in(0), 'y');
}

}  // namespace
}  // namespace atl::devices
