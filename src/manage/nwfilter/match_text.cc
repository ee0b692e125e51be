#include "manage/nwfilter/match_text.h"

#include "manage/network/ip.h"
#include "manage/xml/values.h"

namespace atl::manage {

void MatchText::compare(std::string_view field, std::string_view attribute) {
  if (const std::string* value = rule_.value(attribute)) compare_number(field, filter_number(*value).value_or(0));
}

void MatchText::compare_mac(std::string_view field, std::string_view attribute, std::string_view mask) {
  const std::string* value = rule_.value(attribute);
  if (!value) return;
  const std::string* bits = mask.empty() ? nullptr : rule_.value(mask);
  if (!bits) return equal(field, *value);
  auto address = xml::parse_mac(*value).value_or(std::array<u8, 6>{}), kept = xml::parse_mac(*bits).value_or(address);
  for (size_t i = 0; i < address.size(); ++i) address[i] &= kept[i];
  equal(fmt::format("{} & {}", field, *bits), xml::mac_text(address));
}

Status MatchText::compare_ip(std::string_view field, std::string_view attribute, std::string_view mask) {
  const std::string* value = rule_.value(attribute);
  if (!value) return {};
  const std::string* prefix = rule_.value(mask);
  if (*value == kLearnedAddress) {
    if (prefix)
      return Error(Code::ConfigUnsupported, fmt::format("a mask of an address that is learned ({})", attribute),
                   Part::Nwfilter);
    text_ += fmt::format("{} {}{} ", field, rule_.negated ? "!= " : "", kKnownSet);
    return {};
  }
  equal(field, prefix ? fmt::format("{}/{}", *value, *prefix) : *value);
  return {};
}

void MatchText::compare_range(std::string_view field, std::string_view low, std::string_view high) {
  const std::string* start = rule_.value(low);
  const std::string* end = rule_.value(high);
  if (!start) return;
  const u64 first = filter_number(*start).value_or(0), last = end ? filter_number(*end).value_or(first) : first;
  equal(field, first < last ? fmt::format("{}-{}", first, last) : std::to_string(first));
}

void MatchText::compare_address_range(std::string_view field, std::string_view low, std::string_view high) {
  const std::string* start = rule_.value(low);
  const std::string* end = rule_.value(high);
  if (!start) return;
  auto first = parse_ip(*start), last = end ? parse_ip(*end) : std::nullopt;
  equal(field, first && last && *first < *last ? fmt::format("{}-{}", *start, *end) : *start);
}

u64 mac_number(std::string_view mac) {
  u64 bits = 0;
  for (u8 byte : xml::parse_mac(mac).value_or(std::array<u8, 6>{})) bits = bits << 8 | byte;
  return bits;
}

}  // namespace atl::manage
