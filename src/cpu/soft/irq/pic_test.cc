#include "cpu/soft/irq/pic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace atl::soft {
namespace {

class PicTest : public ::testing::Test {
 protected:
  PicTest() {
    for (bool slave : {false, true}) {
      out(slave, 0, 0x11);
      out(slave, 1, slave ? 0x28 : 0x20);
      out(slave, 1, slave ? 2 : 4);
      out(slave, 1, 1);
      out(slave, 1, 0);
    }
  }
  void out(bool slave, u64 port, u8 value) { pic.command_ports(slave).bus_write(port, value, 1); }
  u8 in(bool slave, u64 port) { return static_cast<u8>(pic.command_ports(slave).bus_read(port, 1)); }
  u8 in_service(bool slave) {
    out(slave, 0, 0x0b);
    return in(slave, 0);
  }

  int rises = 0;
  PicPair pic{[this](bool rising) { rises += rising; }};
};

TEST_F(PicTest, MaskedLineRaisesNothingUntilUnmasked) {
  out(false, 1, 0xff);
  pic.set_line(4, true);
  EXPECT_FALSE(pic.output());
  out(false, 1, 0xef);
  EXPECT_TRUE(pic.output());
  EXPECT_EQ(rises, 1);
}

TEST_F(PicTest, LowerNumberWins) {
  pic.set_line(5, true);
  pic.set_line(3, true);
  EXPECT_EQ(pic.acknowledge(), 0x23);
  EXPECT_FALSE(pic.output()) << "line 5 waits for the end of line 3";
  out(false, 0, 0x20);
  EXPECT_EQ(pic.acknowledge(), 0x25);
}

TEST_F(PicTest, EdgeIsTakenOnce) {
  pic.set_line(1, true);
  EXPECT_EQ(pic.acknowledge(), 0x21);
  out(false, 0, 0x20);
  EXPECT_FALSE(pic.output());
  pic.set_line(1, false);
  pic.set_line(1, true);
  EXPECT_TRUE(pic.output());
}

TEST_F(PicTest, LevelComesBackWhileTheLineIsActive) {
  pic.elcr_ports().bus_write(1, 0x08, 1);
  pic.set_line(11, true);
  EXPECT_EQ(pic.acknowledge(), 0x2b);
  out(true, 0, 0x20);
  out(false, 0, 0x20);
  EXPECT_TRUE(pic.output());
  pic.set_line(11, false);
  EXPECT_FALSE(pic.output());
}

TEST_F(PicTest, SlaveGoesThroughLineTwo) {
  pic.set_line(8, true);
  EXPECT_EQ(pic.acknowledge(), 0x28);
  EXPECT_EQ(in_service(false), 0x04);
  EXPECT_EQ(in_service(true), 0x01);
}

TEST_F(PicTest, SecondSlaveLineRaisesANewEdgeAtTheMaster) {
  pic.set_line(8, true);
  pic.set_line(9, true);
  EXPECT_EQ(pic.acknowledge(), 0x28);
  out(true, 0, 0x20);
  out(false, 0, 0x20);
  EXPECT_EQ(pic.acknowledge(), 0x29);
}

TEST_F(PicTest, AcknowledgeWithoutRequestIsSpuriousSeven) {
  EXPECT_EQ(pic.acknowledge(), 0x27);
  EXPECT_EQ(in_service(false), 0);
}

TEST_F(PicTest, SpecificEndFreesTheNamedLine) {
  pic.set_line(3, true);
  pic.acknowledge();
  out(false, 0, 0x63);
  EXPECT_EQ(in_service(false), 0);
}

TEST_F(PicTest, RotationMakesTheServedLineTheLowest) {
  pic.set_line(0, true);
  pic.acknowledge();
  out(false, 0, 0xa0);  // rotate on non-specific EOI
  pic.set_line(0, false);
  pic.set_line(0, true);
  pic.set_line(1, true);
  EXPECT_EQ(pic.acknowledge(), 0x21);
}

TEST_F(PicTest, AutomaticEoiLeavesNothingInService) {
  for (u8 word : {0x20, 0x04, 0x03}) {
    if (word == 0x20) out(false, 0, 0x11);
    out(false, 1, word);
  }
  pic.set_line(0, true);
  pic.acknowledge();
  EXPECT_EQ(in_service(false), 0);
}

TEST_F(PicTest, PollAcknowledgesTheLine) {
  pic.set_line(6, true);
  out(false, 0, 0x0c);
  EXPECT_EQ(in(false, 0), 0x86);
  EXPECT_EQ(in_service(false), 0x40);
}

TEST_F(PicTest, ElcrKeepsTheWiredEdgeLines) {
  pic.elcr_ports().bus_write(0, 0xff, 1);
  pic.elcr_ports().bus_write(1, 0xff, 1);
  EXPECT_EQ(pic.elcr_ports().bus_read(0, 1), 0xf8u);
  EXPECT_EQ(pic.elcr_ports().bus_read(1, 1), 0xdeu);
}

TEST_F(PicTest, StateComesBack) {
  pic.set_line(3, true);
  pic.acknowledge();
  pic.set_line(9, true);
  Archive out_archive;
  pic.visit(out_archive);
  std::vector<u8> bytes = out_archive.take();

  PicPair copy([](bool) {});
  Archive in_archive{std::span<const u8>(bytes)};
  copy.visit(in_archive);
  ASSERT_TRUE(in_archive.status());
  EXPECT_EQ(copy.describe(), pic.describe());
  EXPECT_EQ(copy.output(), pic.output());
}

}  // namespace
}  // namespace atl::soft
