#include "manage/rpc/xdr.h"

#include <gmock/gmock.h>

#include "manage/rpc/objects.h"

namespace atl::manage {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

template <class... T>
std::vector<u8> encode(const T&... values) {
  XdrWriter out;
  out.write(values...);
  return out.take();
}

TEST(Xdr, StringsArePaddedToWords) {
  EXPECT_THAT(encode("abcde"), ElementsAre(0, 0, 0, 5, 'a', 'b', 'c', 'd', 'e', 0, 0, 0));
}

TEST(Xdr, CharactersOfAnArrayTakeAWordEach) {
  EXPECT_THAT(encode(CharArray{"x86_64", 32}), SizeIs(128));
  EXPECT_THAT(encode(CharArray{"a"}), ElementsAre(0, 0, 0, 1, 0, 0, 0, 'a'));
  EXPECT_THAT(encode(CharArray{"\xff"}), ElementsAre(0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff));
}

TEST(Xdr, WhatIsWrittenIsReadBack) {
  DomainRef domain{"vm", {1, 2, 3}, -1};
  TypedParams params = {{"a", i32{-5}}, {"b", u64{1} << 40}, {"c", 0.5}, {"d", true}, {"e", std::string("text")}};
  std::vector<u8> data = encode(domain, params, std::optional<std::string>(), Opaque{{1, 2, 3}}, i64{-1});
  XdrReader in(data);
  DomainRef domain2;
  TypedParams params2;
  std::optional<std::string> nothing = "x";
  Opaque bytes;
  i64 number = 0;
  ASSERT_TRUE(in.read(domain2, params2, nothing, bytes, number));
  EXPECT_EQ(domain2.name, "vm");
  EXPECT_EQ(domain2.uuid, domain.uuid);
  EXPECT_EQ(domain2.id, -1);
  ASSERT_THAT(params2, SizeIs(5));
  EXPECT_EQ(find_param(params2, "b")->value, params[1].value);
  EXPECT_EQ(find_param(params2, "e")->value, params[4].value);
  EXPECT_EQ(find_param(params2, "f"), nullptr);
  EXPECT_FALSE(nothing);
  EXPECT_THAT(bytes.bytes, ElementsAre(1, 2, 3));
  EXPECT_EQ(number, -1);
  EXPECT_EQ(in.remaining(), 0u);
}

TEST(Xdr, CountsBeyondTheMessageAreRefusedWithoutAllocation) {
  std::vector<u8> data = encode(u32{0x0003'ffff});
  std::vector<TypedParam> list;
  EXPECT_FALSE(XdrReader(data).read(list));
  std::string text;
  EXPECT_FALSE(XdrReader(data).read(text));
  Opaque bytes;
  EXPECT_FALSE(XdrReader(data).read(bytes));
  CharArray characters;
  EXPECT_FALSE(XdrReader(data).read(characters));
}

TEST(Xdr, TruncatedAndMalformedItemsAreRefused) {
  std::vector<u8> text = encode("abcd");
  std::string value;
  EXPECT_FALSE(XdrReader(std::span(text).first(7)).read(value));
  std::vector<u8> flag = encode(u32{2});
  bool on = false;
  EXPECT_FALSE(XdrReader(flag).read(on));
  std::vector<u8> type = encode("name", i32{8}, i32{1});
  TypedParam param;
  EXPECT_FALSE(XdrReader(type).read(param));
  std::vector<u8> nul = encode(std::string("a\0b", 3));
  EXPECT_FALSE(XdrReader(nul).read(value));
}

}  // namespace
}  // namespace atl::manage
