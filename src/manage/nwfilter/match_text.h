// Conditions of one nftables rule, put together from a filter's rule.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "manage/nwfilter/variables.h"

namespace atl::manage {

/// The set of addresses that the guest was seen to use, where nobody said which it has.
constexpr std::string_view kKnownSet = "@known";

class MatchText {
 public:
  explicit MatchText(const FilterRule& rule) : rule_(rule) {}

  void add(std::string_view text) { text_ += text; }
  /// `field` is the attribute's value; nothing if the rule does not have it.
  void compare(std::string_view field, std::string_view attribute);
  /// A hardware address, perhaps under a mask.
  void compare_mac(std::string_view field, std::string_view attribute, std::string_view mask);
  /// An IP address, perhaps a whole subnet, perhaps the learned one.
  Status compare_ip(std::string_view field, std::string_view attribute, std::string_view mask);
  /// A number, or those from one attribute's value to another's.
  void compare_range(std::string_view field, std::string_view low, std::string_view high);
  /// The same of addresses.
  void compare_address_range(std::string_view field, std::string_view low, std::string_view high);
  void compare_number(std::string_view field, u64 number) { equal(field, std::to_string(number)); }
  /// `value` in nft's words.
  void equal(std::string_view field, std::string_view value) {
    text_ += fmt::format("{} {} {} ", field, rule_.negated ? "!=" : "==", value);
  }
  const std::string& text() const { return text_; }

 private:
  const FilterRule& rule_;
  std::string text_;
};

/// 48 bits of "52:54:00:12:34:56".
u64 mac_number(std::string_view mac);

}  // namespace atl::manage
