#include <fmt/format.h>
#include <gmock/gmock.h>

#include "manage/xml/parse.h"
#include "manage/xml/values.h"
#include "manage/xml/write.h"

namespace atl::manage::xml {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

Element parsed(std::string_view text) {
  auto element = parse(text, "(test)");
  EXPECT_TRUE(element) << element.error().message();
  return element ? *std::move(element) : Element("none");
}

TEST(XmlTest, WhatWasWrittenInLibvirtsStyleComesBackByteForByte) {
  const std::string text =
      "<network connections='1'>\n"
      "  <name>default</name>\n"
      "  <forward mode='nat'>\n"
      "    <nat>\n"
      "      <port start='1024' end='65535'/>\n"
      "    </nat>\n"
      "  </forward>\n"
      "</network>\n";
  EXPECT_EQ(write(parsed(text)), text);
}

TEST(XmlTest, MixedContentAndPrefixesAreKept) {
  const std::string text = "<metadata><a:b xmlns:a='urn:x'>one<a:c/> two</a:b></metadata>";
  EXPECT_EQ(write(parsed(text)), "<metadata>\n  <a:b xmlns:a=\"urn:x\">one<a:c/> two</a:b>\n</metadata>\n");
}

TEST(XmlTest, SpecialCharactersSurviveARoundTrip) {
  Element made("e");
  made.set("a", "<&>'\"\n\t").add_text("x<&>'\"y");
  Element back = parsed(write(made));
  EXPECT_EQ(back.attribute("a"), "<&>'\"\n\t");
  EXPECT_EQ(back.text(), "x<&>'\"y");
}

TEST(XmlTest, QuotesInMetadataSurviveARoundTrip) {
  Element made("metadata");
  made.add("e").set("a", "<&>'\"\n\t").add_text("x<&>'\"y");
  const Element back = *parsed(write(made)).child("e");
  EXPECT_EQ(back.attribute("a"), "<&>'\"\n\t");
  EXPECT_EQ(back.text(), "x<&>'\"y");
}

TEST(XmlTest, AnEmptyPairOfTagsIsReadAsEmpty) {
  Element made("pool");
  print_as_pair(made.add("source"), 1);
  EXPECT_EQ(write(made), "<pool>\n  <source>\n  </source>\n</pool>\n");
}

TEST(XmlTest, TextOfCdataAndOfCharacterReferencesIsText) {
  EXPECT_EQ(parsed("<a><![CDATA[<x>]]>&#65;&amp;</a>").text(), "<x>A&");
  EXPECT_EQ(parsed("<a b='&amp;lt;'/>").attribute("b"), "&lt;");
}

TEST(XmlTest, BrokenTextIsXmlDetailWithLineAndCaret) {
  auto element = parse("abc\n", "(domain_definition)");
  ASSERT_FALSE(element);
  EXPECT_EQ(element.error().code(), Code::XmlDetail);
  EXPECT_EQ(element.error().message(), "(domain_definition):1: Start tag expected, '<' not found\nabc\n^");
  auto second = parse("<a>\n<b></a>\n", "(x)");
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), StartsWith("(x):2: Opening and ending tag mismatch: b"));
}

TEST(XmlTest, AnotherRootElementIsAnXmlError) {
  auto element = parse("<pool/>", "(network_definition)", "network");
  ASSERT_FALSE(element);
  EXPECT_EQ(element.error().code(), Code::XmlError);
}

TEST(XmlTest, DocumentTypesAreRefusedBeforeTheyAreRead) {
  auto bomb = parse("<!DOCTYPE a [<!ENTITY b 'xx'><!ENTITY c '&b;&b;'>]><a>&c;</a>", "(x)");
  ASSERT_FALSE(bomb);
  EXPECT_THAT(bomb.error().message(), HasSubstr("document type"));
  EXPECT_FALSE(parse("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "(x)"));
  EXPECT_FALSE(parse("<a>&undefined;</a>", "(x)"));
}

TEST(XmlTest, DepthNumberAndSizeAreBounded) {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<a>";
  EXPECT_FALSE(parse(deep, "(x)"));
  std::string many = "<a>";
  for (int i = 0; i < 150'000; ++i) many += "<b/>";
  EXPECT_FALSE(parse(many + "</a>", "(x)"));
  std::string crowded = "<a";
  for (int i = 0; i < 300'000; ++i) crowded += fmt::format(" a{}='>'", i);
  EXPECT_FALSE(parse(crowded + "/>", "(x)"));
  EXPECT_FALSE(parse("<a b='" + std::string(1 << 20, 'x') + "'/>", "(x)"));
  EXPECT_FALSE(parse("<a>" + std::string(5 << 20, 'x') + "</a>", "(x)"));
}

TEST(XmlTest, AMalformedUuidIsAnErrorAndAMissingOneIsMade) {
  EXPECT_FALSE(uuid_child(parsed("<e><uuid>c7a5fdbd</uuid></e>")));
  EXPECT_FALSE(uuid_child(parsed("<e><uuid>00000000-0000-0000-0000-000000000000</uuid></e>")));
  EXPECT_NE(*uuid_child(parsed("<e/>")), Uuid{});
}

TEST(XmlTest, MacAddressesNeedSixParts) {
  EXPECT_EQ(mac_text(*parse_mac("52:54:0:91:D4:95")), "52:54:00:91:d4:95");
  EXPECT_FALSE(parse_mac("52:54:00:91:d4"));
  EXPECT_FALSE(parse_mac("52:54:00:91:d4:123"));
  EXPECT_FALSE(parse_mac("52:54:00:91:d4:-1"));
}

TEST(XmlTest, SizesAreScaledByTheirUnits) {
  EXPECT_EQ(*scale(3, "KiB"), 3072u);
  EXPECT_EQ(*scale(3, "k"), 3072u);
  EXPECT_EQ(*scale(3, "KB"), 3000u);
  EXPECT_EQ(*scale(3, "", "MiB"), 3 * kMiB);
  EXPECT_EQ(*scale(3, "bytes"), 3u);
  EXPECT_FALSE(scale(3, "parsecs"));
  EXPECT_FALSE(scale(UINT64_MAX, "KiB"));
}

TEST(XmlTest, NamesThatAreNoFileNamesAreRefused) {
  EXPECT_TRUE(check_name("a b-ü"));
  for (const char* name : {"", ".", "..", "a/b", "a\nb", " "}) EXPECT_FALSE(check_name(name)) << name;
  EXPECT_FALSE(check_name(std::string(300, 'a')));
}

TEST(XmlTest, NumbersAndWordsInAttributesAreChecked) {
  Element element = parsed("<e n='12' bad='-1' y='yes' o='maybe'/>");
  EXPECT_EQ(*number(element, "n", 0), 12u);
  EXPECT_FALSE(number(element, "n", 0, 11));
  EXPECT_FALSE(number(element, "bad", 0));
  EXPECT_EQ(*number(element, "absent", 7), 7u);
  EXPECT_TRUE(*yes_no(element, "y", false));
  EXPECT_FALSE(on_off(element, "o", false));
}

TEST(XmlTest, UnknownChildrenAreFound) {
  Element element = parsed("<e><a/><b/><c/></e>");
  auto unknown = element.children_except({"a", "c"});
  ASSERT_EQ(unknown.size(), 1u);
  EXPECT_EQ(unknown[0]->name(), "b");
}

}  // namespace
}  // namespace atl::manage::xml
