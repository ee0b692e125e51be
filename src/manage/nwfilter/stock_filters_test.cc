#include "manage/nwfilter/stock_filters.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace atl::manage {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(StockFilterTest, CleanTrafficHoldsTheRulesOfItsParts) {
  auto rules = filter_rules("vnet3", "52:54:00:00:00:01", "clean-traffic", {});
  ASSERT_TRUE(rules);
  for (const char* part : {"iifname != \"vnet3\" accept", "ether saddr != 52:54:00:00:00:01 drop",
                           "add @known { arp saddr ip }", "size 1"})
    EXPECT_THAT(*rules, HasSubstr(part));
}

TEST(StockFilterTest, GivenAddressesLeaveNoRoomForLearnedOnes) {
  auto rules = filter_rules("vnet3", "52:54:00:00:00:01", "no-ip-spoofing", {*parse_ip("10.0.0.1")});
  ASSERT_TRUE(rules);
  EXPECT_THAT(*rules, HasSubstr("size 1; elements = { 10.0.0.1 }"));
  EXPECT_THAT(*rules, Not(HasSubstr("ether saddr")));
}

TEST(StockFilterTest, UnknownFiltersAreNotFound) {
  auto rules = filter_rules("vnet3", "52:54:00:00:00:01", "wishful", {});
  ASSERT_FALSE(rules);
  EXPECT_EQ(rules.error().code(), Code::NoNwfilter);
}

TEST(StockFilterTest, EveryPartExistsAndEveryUuidIsItsOwn) {
  std::vector<std::string_view> uuids;
  for (const StockFilter& filter : stock_filters()) {
    EXPECT_TRUE(parse_uuid(filter.uuid));
    uuids.push_back(filter.uuid);
    for (std::string_view part : filter.parts) EXPECT_TRUE(part.empty() || find_stock_filter(part)) << part;
  }
  std::ranges::sort(uuids);
  EXPECT_EQ(std::ranges::adjacent_find(uuids), uuids.end());
}

}  // namespace
}  // namespace atl::manage
