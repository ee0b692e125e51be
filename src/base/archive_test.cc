#include "base/archive.h"

#include <gtest/gtest.h>

namespace atl {
namespace {

enum class Mode : u8 { Idle, Busy };

struct Sample {
  u64 wide = 0;
  i32 negative = 0;
  bool flag = false;
  Mode mode = Mode::Idle;
  std::vector<u8> blob;
  u8 array[3] = {};
  u32 inner = 0;

  void visit(Archive& a) {
    a.field(1, "wide", wide);
    a.field(2, "negative", negative);
    a.field(3, "flag", flag);
    a.field(4, "mode", mode);
    a.blob(500, "blob", blob, 100);
    a.bytes(6, "array", array);
    a.part(7, "part", [&](Archive& part) { part.field(1, "inner", inner); });
  }
};

std::vector<u8> save(Sample& sample) {
  Archive out;
  sample.visit(out);
  return out.take();
}

Status load(std::span<const u8> data, Sample& sample) {
  Archive in(data);
  sample.visit(in);
  return in.status();
}

TEST(Archive, EveryKindOfFieldComesBack) {
  Sample before{~u64{0}, -5, true, Mode::Busy, {1, 2, 3}, {7, 8, 9}, 77};
  Sample after;
  ASSERT_TRUE(load(save(before), after));
  EXPECT_EQ(after.wide, before.wide);
  EXPECT_EQ(after.negative, -5);
  EXPECT_TRUE(after.flag);
  EXPECT_EQ(after.mode, Mode::Busy);
  EXPECT_EQ(after.blob, before.blob);
  EXPECT_EQ(after.array[2], 9);
  EXPECT_EQ(after.inner, 77u);
}

TEST(Archive, ZeroTakesTwoBytes) {
  Archive out;
  u64 zero = 0;
  out.field(1, "zero", zero);
  EXPECT_EQ(out.take(), (std::vector<u8>{1, 0}));
}

TEST(Archive, MissingFieldKeepsItsValueAndUnknownOneIsSkipped) {
  Sample sample;
  sample.wide = 42;
  EXPECT_TRUE(load(std::vector<u8>{99, 1, 5}, sample));
  EXPECT_EQ(sample.wide, 42u);
}

TEST(Archive, ValueThatDoesNotFitItsTypeFailsByName) {
  Sample sample;
  auto status = load(std::vector<u8>{3, 1, 2}, sample);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().text(), "saved state: flag is out of range");
}

TEST(Archive, MalformedStreamsFail) {
  Sample sample;
  EXPECT_FALSE(load(std::vector<u8>{1}, sample));           // no length
  EXPECT_FALSE(load(std::vector<u8>{1, 5, 0}, sample));     // longer than the stream
  EXPECT_FALSE(load(std::vector<u8>{1, 0, 1, 0}, sample));  // twice
  EXPECT_FALSE(load(std::vector<u8>(12, 0xff), sample));    // endless number
  EXPECT_FALSE(load(std::vector<u8>{1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0}, sample));
  EXPECT_FALSE(load(std::vector<u8>{6, 1, 0}, sample));  // array of the wrong size
}

TEST(Archive, ErrorInsideAPartReachesTheWhole) {
  Sample sample;
  EXPECT_FALSE(load(std::vector<u8>{7, 2, 1, 9}, sample));
}

TEST(Archive, BlobAboveItsLimitFails) {
  std::vector<u8> big{0xf4, 3, 101};  // field 500
  big.resize(3 + 101);
  Sample sample;
  EXPECT_FALSE(load(big, sample));
}

TEST(Archive, VisitorCanRefuseAValue) {
  Archive in{std::span<const u8>()};
  in.fail("index 9 is out of range");
  EXPECT_EQ(in.status().error().text(), "saved state: index 9 is out of range");
}

}  // namespace
}  // namespace atl
