#include "devices/display/vga.h"

#include <gtest/gtest.h>

namespace atl::devices {
namespace {

class VgaTest : public testing::Test {
 protected:
  VgaTest() : vga_(MUST(Vga::create({.memory_bytes = 1 * kMiB}))) {}  // memory for it can be had

  void out(u16 port, u8 value) { vga_->ports().bus_write(port - Vga::kFirstPort, value, 1); }
  u8 in(u16 port) { return static_cast<u8>(vga_->ports().bus_read(port - Vga::kFirstPort, 1)); }
  void indexed(u16 port, u8 index, u8 value) {
    out(port, index);
    out(port + 1, value);
  }
  void attribute(u8 index, u8 value) {
    in(0x3da);
    out(0x3c0, index);
    out(0x3c0, value);
  }
  void vbe(u16 index, u16 value) {
    vga_->vbe_ports().bus_write(0, index, 2);
    vga_->vbe_ports().bus_write(1, value, 2);
  }
  u16 vbe(u16 index) {
    vga_->vbe_ports().bus_write(0, index, 2);
    return static_cast<u16>(vga_->vbe_ports().bus_read(1, 2));
  }
  void poke(u32 offset, u8 value) { vga_->window().bus_write(offset, value, 1); }
  u8 peek(u32 offset) { return static_cast<u8>(vga_->window().bus_read(offset, 1)); }
  void palette(u8 index, u8 r, u8 g, u8 b) {
    out(0x3c8, index);
    for (u8 part : {r, g, b}) out(0x3c9, part);
  }
  /// Mode 3 with four columns and two rows of 8x16, and an identity palette of grey.
  void text_mode() {
    out(0x3c2, 0x67);
    indexed(0x3c4, 1, 1);
    indexed(0x3c4, 2, 3);
    indexed(0x3c4, 4, 2);
    indexed(0x3ce, 5, 0x10);
    indexed(0x3ce, 6, 0x0e);
    indexed(0x3d4, 0x11, 0);
    indexed(0x3d4, 1, 3);
    indexed(0x3d4, 9, 15);
    indexed(0x3d4, 0x12, 31);
    indexed(0x3d4, 0x13, 2);
    indexed(0x3d4, 0xa, 0x20);
    for (u8 i = 0; i < 16; ++i) {
      attribute(i, i);
      palette(i, i * 4, i * 4, i * 4);
    }
    in(0x3da);
    out(0x3c0, 0x20);
  }
  display::Surface picture() {
    display::Surface surface;
    vga_->draw(surface);
    return surface;
  }

  std::unique_ptr<Vga> vga_;
};

TEST_F(VgaTest, TextModeShowsItsCharacters) {
  text_mode();
  const char* words[] = {"Hi !", "grub"};
  for (u32 row = 0; row < 2; ++row)
    for (u32 column = 0; column < 4; ++column) {
      poke(0x18000 + (row * 4 + column) * 2, static_cast<u8>(words[row][column]));
      poke(0x18000 + (row * 4 + column) * 2 + 1, 0x07);
    }
  EXPECT_EQ(vga_->text(), "Hi !\ngrub\n");
  const display::Surface surface = picture();
  EXPECT_EQ(surface.width(), 32u);
  EXPECT_EQ(surface.height(), 32u);
}

TEST_F(VgaTest, TextIsDrawnWithTheFontInPlaneTwo) {
  text_mode();
  indexed(0x3c4, 2, 4);
  indexed(0x3c4, 4, 6);
  indexed(0x3ce, 5, 0);
  indexed(0x3ce, 6, 4);
  indexed(0x3ce, 8, 0xff);
  poke('A' * 32, 0x81);
  text_mode();
  poke(0x18000, 'A');
  poke(0x18001, 0x07);
  const display::Surface surface = picture();
  const u32 ink = surface.row(0)[0];
  EXPECT_NE(ink, 0u);
  EXPECT_EQ(surface.row(0)[1], 0u);
  EXPECT_EQ(surface.row(0)[7], ink);
  EXPECT_EQ(surface.row(1)[0], 0u);
}

TEST_F(VgaTest, LinearModeShowsWhatTheFrameBufferHolds) {
  vbe(VgaRegisters::kVbeXres, 64);
  vbe(VgaRegisters::kVbeYres, 4);
  vbe(VgaRegisters::kVbeBpp, 32);
  vbe(VgaRegisters::kVbeEnable, VgaRegisters::kVbeEnabled | VgaRegisters::kVbeLinear);
  const std::span<u8> memory = vga_->function().bar(0).ram->bytes();
  store_le<u32>(&memory[(64 * 2 + 3) * 4], 0x00123456);
  const display::Surface surface = picture();
  ASSERT_EQ(surface.width(), 64u);
  ASSERT_EQ(surface.height(), 4u);
  EXPECT_EQ(surface.row(2)[3], 0x123456u);
  EXPECT_EQ(surface.row(2)[4], 0u);
}

TEST_F(VgaTest, ModeThatDoesNotFitTheMemoryIsCutShort) {
  vbe(VgaRegisters::kVbeXres, 2560);
  vbe(VgaRegisters::kVbeYres, 1600);
  vbe(VgaRegisters::kVbeBpp, 32);
  vbe(VgaRegisters::kVbeEnable, VgaRegisters::kVbeEnabled);
  EXPECT_LE(u64{vbe(VgaRegisters::kVbeVirtWidth)} * 4 * vbe(VgaRegisters::kVbeYres), 1 * kMiB);
  vbe(VgaRegisters::kVbeYoffset, 0xffff);
  vbe(VgaRegisters::kVbeXoffset, 0xffff);
  picture();
}

TEST_F(VgaTest, WriteModeZeroMasksBitsAndPlanes) {
  indexed(0x3ce, 6, 5);
  indexed(0x3c4, 4, 6);
  indexed(0x3c4, 2, 15);
  indexed(0x3ce, 8, 0xff);
  poke(0, 0xff);
  indexed(0x3c4, 2, 2);
  indexed(0x3ce, 8, 0x0f);
  peek(0);
  poke(0, 0x00);
  indexed(0x3ce, 4, 1);
  EXPECT_EQ(peek(0), 0xf0);
  indexed(0x3ce, 4, 0);
  EXPECT_EQ(peek(0), 0xff);
}

TEST_F(VgaTest, CrtcRegistersUnderProtectionStay) {
  out(0x3c2, 1);
  indexed(0x3d4, 0x11, 0x80);
  indexed(0x3d4, 1, 0x4f);
  out(0x3d4, 1);
  EXPECT_EQ(in(0x3d5), 0);
}

TEST_F(VgaTest, StateComesBack) {
  text_mode();
  Archive out;
  vga_->visit(out);
  const std::vector<u8> bytes = out.take();
  auto second = MUST(Vga::create({.memory_bytes = 1 * kMiB}));
  Archive in{std::span<const u8>(bytes)};
  second->visit(in);
  ASSERT_TRUE(in.status());
  Archive again;
  second->visit(again);
  EXPECT_EQ(again.take(), bytes);
}

}  // namespace
}  // namespace atl::devices
