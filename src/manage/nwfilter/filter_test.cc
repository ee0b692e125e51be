#include "manage/nwfilter/filter.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "manage/nwfilter/stock_filters.h"

namespace atl::manage {
namespace {

using ::testing::HasSubstr;

std::string printed(const std::string& content, const std::string& head = "") {
  auto filter = parse_filter("<filter name='f' " + head + "><uuid>6d2a4c10-93c1-4c0e-8d7c-54f1c3a60001</uuid>" +
                             content + "</filter>");
  return filter ? filter_xml(*filter) : filter.error().message();
}
std::string printed_rule(const std::string& match) {
  return printed("<rule action='accept' direction='out'>" + match + "</rule>");
}

TEST(FilterTest, ValuesArePrintedAsLibvirtPrintsThem) {
  EXPECT_THAT(printed_rule("<mac protocolid='0x86dd' srcmacaddr='1:2:3:4:5:6'/>"),
              HasSubstr("<mac srcmacaddr='01:02:03:04:05:06' protocolid='ipv6'/>"));
  EXPECT_THAT(printed_rule("<tcp srcipmask='255.255.0.0' srcipaddr='10.1.2.3' dstportstart='0x50'/>"),
              HasSubstr("<tcp srcipaddr='10.1.2.3' srcipmask='16' dstportstart='0x50'/>"));
  EXPECT_THAT(printed_rule("<arp opcode='1' gratuitous='1'/>"), HasSubstr("<arp opcode='Request' gratuitous='true'/>"));
  EXPECT_THAT(printed_rule("<tcp flags='URG,PSH,RST/NONE'/>"), HasSubstr("flags='RST,PSH,URG/NONE'"));
  EXPECT_THAT(printed_rule("<tcp state='ESTABLISHED,NEW'/>"), HasSubstr("state='NEW,ESTABLISHED'"));
}

TEST(FilterTest, WhatAProtocolDoesNotHaveIsDropped) {
  EXPECT_THAT(printed_rule("<mac dstportstart='5'/>"), HasSubstr("<mac/>"));
  EXPECT_THAT(printed_rule("<unknown x='5'/>"), HasSubstr("<rule action='accept' direction='out' priority='500'/>"));
}

TEST(FilterTest, BadValuesAreNamed) {
  EXPECT_EQ(printed_rule("<tcp dstportstart='99999'/>"), "internal error: dstportstart has illegal value 99999");
  EXPECT_EQ(printed_rule("<mac srcmacmask='f:f:f:f:f:f'/>"),
            "internal error: srcmacmask has illegal value f:f:f:f:f:f");
  EXPECT_EQ(printed_rule("<tcp srcipaddr='fd00::1'/>"), "internal error: srcipaddr has illegal value fd00::1");
  EXPECT_THAT(printed("<rule action='wish' direction='in'/>"), HasSubstr("unknown rule action attribute value"));
}

TEST(FilterTest, ChainsHaveThePriorityOfTheirKind) {
  EXPECT_THAT(printed("", "chain='arp-mine'"), HasSubstr("chain='arp-mine' priority='-500'"));
  EXPECT_THAT(printed("", "chain='arp-mine' priority='7'"), HasSubstr("priority='7'"));
  EXPECT_THAT(printed("", "chain='wish'"), HasSubstr("Invalid chain name 'wish'"));
  EXPECT_THAT(printed("", "chain='arp{};drop'"), HasSubstr("Invalid chain name"));
}

TEST(FilterTest, ParametersThatCouldBeMoreThanValuesAreRefused) {
  EXPECT_THAT(printed("<filterref filter='x'><parameter name='IP' value='1.2.3.4 } drop'/></filterref>"),
              HasSubstr("parameter 'IP'"));
  EXPECT_THAT(printed("<filterref filter='x'><parameter name='IP' value='1.2.3.4'/></filterref>"),
              HasSubstr("value='1.2.3.4'"));
}

TEST(StockFilterTest, EveryPartExistsAndEveryUuidIsItsOwn) {
  std::map<std::string, Uuid> names;
  std::set<Uuid> uuids;
  for (const Filter& filter : stock_filters()) {
    names.emplace(filter.name, filter.uuid);
    uuids.insert(filter.uuid);
  }
  EXPECT_EQ(names.size(), 24u);
  EXPECT_EQ(uuids.size(), names.size());
  for (const Filter& filter : stock_filters()) {
    for (const auto& entry : filter.entries) {
      const auto* reference = std::get_if<FilterReference>(&entry);
      EXPECT_TRUE(!reference || names.contains(reference->filter));
    }
  }
}

}  // namespace
}  // namespace atl::manage
