// Each encoding, unpacked again by a decoder of the test's own.
#include <gtest/gtest.h>
#include <turbojpeg.h>
#include <zlib.h>

#include "display/vnc/hextile.h"
#include "display/vnc/tight.h"

namespace atl::display::vnc {
namespace {

class Unpacker {
 public:
  explicit Unpacker(std::span<const u8> bytes) : bytes_(bytes) {}
  u8 byte() { return bytes_[at_++]; }
  u32 pixel24() {
    const u32 r = byte(), g = byte(), b = byte();
    return r << 16 | g << 8 | b;
  }
  u32 pixel32() {
    const u32 b = byte(), g = byte(), r = byte();
    ++at_;
    return r << 16 | g << 8 | b;
  }
  std::vector<u8> block(size_t plain) {
    std::vector<u8> out(plain);
    if (plain < 12) {
      for (u8& b : out) b = byte();
      return out;
    }
    const u32 size = length();
    z_stream stream{};
    EXPECT_EQ(::inflateInit(&stream), Z_OK);
    stream.next_in = const_cast<u8*>(&bytes_[at_]);
    stream.avail_in = size;
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(plain);
    EXPECT_EQ(::inflate(&stream, Z_SYNC_FLUSH), Z_OK);
    EXPECT_EQ(stream.avail_out, 0u);
    ::inflateEnd(&stream);
    at_ += size;
    return out;
  }
  u32 length() {
    u32 out = 0;
    for (int shift = 0;; shift += 7) {
      const u8 b = byte();
      out |= u32{b} << shift & (shift == 14 ? ~0u : 0x7fu << shift);
      if (shift == 14 || !(b & 0x80)) return out;
    }
  }
  std::span<const u8> rest() const { return bytes_.subspan(at_); }
  bool ended() const { return at_ == bytes_.size(); }

 private:
  std::span<const u8> bytes_;
  size_t at_ = 0;
};

Surface picture(u32 width, u32 height, u32 (*colour)(u32 x, u32 y)) {
  Surface s(width, height);
  for (u32 y = 0; y < height; ++y)
    for (u32 x = 0; x < width; ++x) s.row(y)[x] = colour(x, y);
  return s;
}

std::vector<u32> untight(std::span<const u8> bytes, u32 width, u32 height) {
  Unpacker in(bytes);
  std::vector<u32> out;
  const u8 control = in.byte();
  if (control >> 4 == 8) {
    out.assign(size_t{width} * height, in.pixel24());
  } else if (control & 0x40) {
    EXPECT_EQ(in.byte(), 1);
    std::vector<u32> palette(in.byte() + 1u);
    for (u32& p : palette) p = in.pixel24();
    const size_t line = palette.size() == 2 ? (width + 7) / 8 : width;
    const std::vector<u8> data = in.block(line * height);
    for (u32 y = 0; y < height; ++y)
      for (u32 x = 0; x < width; ++x)
        out.push_back(palette[palette.size() == 2 ? data[y * line + x / 8] >> (7 - x % 8) & 1 : data[y * line + x]]);
  } else {
    const std::vector<u8> data = in.block(size_t{width} * height * 3);
    for (size_t i = 0; i < data.size(); i += 3) out.push_back(u32{data[i]} << 16 | u32{data[i + 1]} << 8 | data[i + 2]);
  }
  EXPECT_TRUE(in.ended());
  return out;
}

void expect_tight(const Surface& s) {
  TightEncoder encoder;
  std::vector<u8> out;
  encoder.encode(s, {0, 0, s.width(), s.height()}, {}, {}, out);
  EXPECT_EQ(untight(out, s.width(), s.height()), std::vector<u32>(s.pixels().begin(), s.pixels().end()));
}

TEST(Tight, EveryKindOfPictureComesBack) {
  expect_tight(picture(33, 7, [](u32, u32) { return 0x123456u; }));
  expect_tight(picture(33, 7, [](u32 x, u32 y) { return x % 3 == y % 2 ? 0xffffffu : 0u; }));
  expect_tight(picture(3, 1, [](u32 x, u32) { return x * 0x10101; }));
  expect_tight(picture(50, 40, [](u32 x, u32 y) { return (x * y) % 200 * 0x010203; }));
  expect_tight(picture(90, 80, [](u32 x, u32 y) { return x << 16 | y << 8 | (x ^ y); }));
}

TEST(Tight, StreamsGoOnFromRectangleToRectangle) {
  const Surface s = picture(64, 64, [](u32 x, u32 y) { return x << 16 | y << 8 | (x ^ y); });
  TightEncoder encoder;
  std::vector<u8> first, second;
  encoder.encode(s, {0, 0, 64, 64}, {}, {}, first);
  encoder.encode(s, {0, 0, 64, 64}, {}, {}, second);
  EXPECT_LT(second.size() * 4, first.size());  // it has all been said before
}

TEST(Tight, JpegComesOnlyWhenAsked) {
  const Surface s = picture(64, 64, [](u32 x, u32 y) { return x * 4 << 16 | y * 4 << 8 | 128; });
  TightEncoder encoder;
  std::vector<u8> out;
  encoder.encode(s, {0, 0, 64, 64}, {}, {.quality = u8{8}}, out);
  ASSERT_EQ(out[0], 0x90);
  Unpacker in(out);
  in.byte();
  const u32 length = in.length();
  ASSERT_EQ(length, in.rest().size());
  std::vector<u32> pixels(64 * 64);
  void* jpeg = tjInitDecompress();
  ASSERT_EQ(tjDecompress2(jpeg, in.rest().data(), in.rest().size(), reinterpret_cast<u8*>(pixels.data()), 64, 0, 64, TJPF_BGRX, 0), 0);
  tjDestroy(jpeg);
  for (u32 i = 0; i < pixels.size(); ++i)
    for (int shift : {0, 8, 16}) ASSERT_NEAR(pixels[i] >> shift & 255, s.pixels()[i] >> shift & 255, 12);
}

std::vector<u32> unhextile(std::span<const u8> bytes, u32 width, u32 height) {
  Unpacker in(bytes);
  std::vector<u32> out(size_t{width} * height);
  u32 paper = 0, ink = 0;
  for (u32 ty = 0; ty < height; ty += 16) {
    for (u32 tx = 0; tx < width; tx += 16) {
      const u32 w = std::min(16u, width - tx), h = std::min(16u, height - ty);
      auto fill = [&](u32 x, u32 y, u32 fw, u32 fh, u32 colour) {
        for (u32 j = y; j < y + fh; ++j)
          for (u32 i = x; i < x + fw; ++i) out[size_t{ty + j} * width + tx + i] = colour;
      };
      const u8 flags = in.byte();
      if (flags & 1) {
        for (u32 j = 0; j < h; ++j)
          for (u32 i = 0; i < w; ++i) fill(i, j, 1, 1, in.pixel32());
        continue;
      }
      if (flags & 2) paper = in.pixel32();
      if (flags & 4) ink = in.pixel32();
      fill(0, 0, w, h, paper);
      for (u32 n = flags & 8 ? in.byte() : 0; n > 0; --n) {
        const u32 colour = flags & 16 ? in.pixel32() : ink;
        const u8 xy = in.byte(), wh = in.byte();
        fill(xy >> 4, xy & 15, (wh >> 4) + 1u, (wh & 15) + 1u, colour);
      }
    }
  }
  EXPECT_TRUE(in.ended());
  return out;
}

TEST(Hextile, EveryKindOfPictureComesBack) {
  for (auto colour : {+[](u32, u32) { return 0x123456u; }, +[](u32 x, u32 y) { return (x / 3 + y / 5) % 2 ? 0xffffffu : 0u; },
                      +[](u32 x, u32 y) { return (x / 4 + y / 7) % 5 * 0x112233; }, +[](u32 x, u32 y) { return x << 16 | y << 8; }}) {
    const Surface s = picture(37, 35, colour);
    HextileEncoder encoder;
    std::vector<u8> out;
    encoder.encode(s, {0, 0, 37, 35}, {}, out);
    EXPECT_EQ(unhextile(out, 37, 35), std::vector<u32>(s.pixels().begin(), s.pixels().end()));
  }
}

}  // namespace
}  // namespace atl::display::vnc
