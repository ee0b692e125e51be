#include "manage/nwfilter/ruleset.h"

#include <gmock/gmock.h>

#include "manage/nwfilter/stock_filters.h"

namespace atl::manage {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RulesetTest : public ::testing::Test {
 protected:
  RulesetTest() {
    for (Filter& filter : stock_filters()) filters_.emplace(filter.name, std::move(filter));
  }
  void define(const std::string& name, const std::string& content, const std::string& head = "") {
    auto filter = parse_filter("<filter name='" + name + "' " + head + ">" + content + "</filter>");
    ASSERT_TRUE(filter) << filter.error().message();
    filters_.insert_or_assign(name, *std::move(filter));
  }
  FilterLookup lookup() {
    return [this](const std::string& name) {
      auto found = filters_.find(name);
      return found == filters_.end() ? nullptr : &found->second;
    };
  }
  std::string rules(const std::string& filter, FilterParameters parameters = {}) {
    auto text = binding_rules({"guest", {}, "vnet3", "52:54:00:00:00:01", filter, std::move(parameters)}, lookup());
    return text ? *text : text.error().message();
  }

 private:
  std::map<std::string, Filter> filters_;
};

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST_F(RulesetTest, CleanTrafficLearnsOneAddress) {
  const std::string text = rules("clean-traffic");
  for (const char* part :
       {"table bridge atoll-vnet3", "iifname != \"vnet3\" accept", "ether saddr == 52:54:00:00:00:01 return",
        "add @known { arp saddr ip }", "size 1;", "ip saddr @known return"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST_F(RulesetTest, GivenAddressesAreNotLearned) {
  const std::string text = rules("no-ip-spoofing", {{"IP", "10.0.0.1"}, {"IP", "10.0.0.2"}});
  EXPECT_THAT(text, HasSubstr("ip saddr == 10.0.0.1 return"));
  EXPECT_THAT(text, HasSubstr("ip saddr == 10.0.0.2 return"));
  EXPECT_THAT(text, Not(HasSubstr("@known")));
}

TEST_F(RulesetTest, ChainsStandByPriorityAmongTheRulesOfTheRoot) {
  const std::string text = rules("clean-traffic");
  const size_t mac = text.find("jump from_mac"), ip = text.find("jump from_ipv4-ip"),
               all = text.find("ether type == 0x800 accept");
  ASSERT_NE(all, std::string::npos);
  EXPECT_LT(mac, ip);
  EXPECT_LT(ip, all);
  EXPECT_LT(all, text.find("jump from_arp-mac"));
}

TEST_F(RulesetTest, IteratorsStepTogetherOrAreCombined) {
  define("one", "<rule action='drop' direction='in'><tcp srcipaddr='$A' dstportstart='$B'/></rule>");
  define("two", "<rule action='drop' direction='in'><tcp srcipaddr='$A[@1]' dstportstart='$B[@2]'/></rule>");
  define("three", "<rule action='drop' direction='in'><tcp srcipaddr='$A[1]'/></rule>");
  const FilterParameters values = {{"A", "10.0.0.1"}, {"A", "10.0.0.2"}, {"B", "80"}, {"B", "81"}};
  EXPECT_EQ(count(rules("one", values), "ip saddr == 10.0.0"), 2u);
  EXPECT_EQ(count(rules("two", values), "ip saddr == 10.0.0"), 4u);
  EXPECT_THAT(rules("three", values), HasSubstr("ip saddr == 10.0.0.2"));
  EXPECT_THAT(rules("one", {{"A", "10.0.0.1"}, {"B", "80"}, {"B", "81"}}), HasSubstr("Cardinality"));
  EXPECT_THAT(rules("one", {{"A", "wish"}, {"B", "80"}}), HasSubstr("illegal value wish"));
}

TEST_F(RulesetTest, AConnectionIsRememberedFromTheGuestsSide) {
  define("web", "<rule action='accept' direction='in'><tcp dstportstart='22'/></rule>");
  const std::string text = rules("web");
  EXPECT_THAT(text, HasSubstr("th dport == 22 update @flows4 { ip daddr . ip saddr . meta l4proto . th dport . th "
                              "sport timeout 5d } accept"));
  EXPECT_THAT(text,
              HasSubstr("th sport == 22 ip saddr . ip daddr . meta l4proto . th sport . th dport @flows4 accept"));
}

TEST_F(RulesetTest, WhatTheCardSaysGoesBeforeWhatAReferenceSays) {
  define("inner", "<rule action='drop' direction='in'><tcp dstportstart='$PORT'/></rule>");
  define("outer", "<filterref filter='inner'><parameter name='PORT' value='80'/></filterref>");
  EXPECT_THAT(rules("outer"), HasSubstr("th dport == 80"));
  EXPECT_THAT(rules("outer", {{"PORT", "90"}}), HasSubstr("th dport == 90"));
}

TEST_F(RulesetTest, MissingFiltersAndValuesAreNamed) {
  EXPECT_THAT(rules("wishful"), HasSubstr("referenced filter 'wishful' is missing"));
  EXPECT_THAT(rules("allow-dhcp-server"), HasSubstr("DHCPSERVER"));
  EXPECT_THAT(rules("clean-traffic", {{"CTRL_IP_LEARNING", "none"}}), HasSubstr("IP"));
}

TEST_F(RulesetTest, FiltersThatMultiplyEndInAnError) {
  define("f0", "<rule action='drop' direction='in'/>");
  for (int i = 1; i < 30; ++i) {
    std::string twice = "<filterref filter='f" + std::to_string(i - 1) + "'/>";
    define("f" + std::to_string(i), twice + twice);
  }
  EXPECT_THAT(rules("f29"), HasSubstr("refers to too many"));
}

TEST_F(RulesetTest, UseIsSeenAtAnyDepth) {
  EXPECT_TRUE(filter_uses("clean-traffic", "no-arp-ip-spoofing", lookup()));
  EXPECT_FALSE(filter_uses("no-arp-ip-spoofing", "clean-traffic", lookup()));
}

}  // namespace
}  // namespace atl::manage
