#include "manage/xml/values.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "base/strings.h"
#include "manage/xml/errors.h"

namespace atl::manage::xml {
namespace {

template <size_t N>
std::array<u8, N> random_bytes() {
  std::array<u8, N> bytes;
  CHECK(::getrandom(bytes.data(), N, 0) == static_cast<ssize_t>(N));  // short requests never fail once the pool is up
  return bytes;
}

Error bad_attribute(const Element& element, std::string_view attribute, std::string_view value,
                    std::string_view expected) {
  return xml_error(fmt::format("Invalid value for attribute '{}' in element '{}': '{}'. {}", attribute, element.name(),
                               value, expected));
}

Result<bool> two_words(const Element& element, std::string_view attribute, bool fallback, std::string_view yes,
                       std::string_view no) {
  const std::string* value = element.find_attribute(attribute);
  if (!value) return fallback;
  if (*value == yes) return true;
  if (*value == no) return false;
  return bad_attribute(element, attribute, *value, fmt::format("Expected '{}' or '{}'.", yes, no));
}

}  // namespace

Result<Uuid> uuid_child(const Element& element) {
  auto text = element.child_text("uuid");
  if (!text || trim(*text).empty()) return random_uuid();
  auto uuid = parse_uuid(trim(*text));
  if (!uuid) return xml_error(fmt::format("malformed uuid element '{}'", *text));
  if (*uuid == Uuid{}) return xml_error("an all-zero uuid is not valid");
  return *uuid;
}

std::optional<std::array<u8, 6>> parse_mac(std::string_view text) {
  std::array<u8, 6> mac{};
  auto parts = split(text, ':');
  if (parts.size() != mac.size()) return std::nullopt;
  for (size_t i = 0; i < mac.size(); ++i) {
    if (parts[i].empty() || parts[i].size() > 2) return std::nullopt;
    auto value = parse_hex(parts[i]);
    if (!value) return std::nullopt;
    mac[i] = static_cast<u8>(*value);
  }
  return mac;
}

std::string mac_text(const std::array<u8, 6>& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

std::array<u8, 6> random_mac() {
  auto tail = random_bytes<3>();
  return {0x52, 0x54, 0x00, tail[0], tail[1], tail[2]};
}

Result<std::string> required_attribute(const Element& element, std::string_view name) {
  const std::string* value = element.find_attribute(name);
  if (!value) return xml_error(fmt::format("Missing required attribute '{}' in element '{}'", name, element.name()));
  return *value;
}

Result<std::string> required_text(const Element& element, std::string_view child) {
  auto text = element.child_text(child);
  if (!text || text->empty()) return xml_error(fmt::format("missing element <{}> in <{}>", child, element.name()));
  return *text;
}

Status check_name(std::string_view name) {
  constexpr size_t kLongest = 240;  // with ".xml" and a temporary's suffix, within NAME_MAX
  if (name.empty()) return xml_error("the name is empty");
  if (name.find('/') != std::string_view::npos) return xml_error(fmt::format("name {} cannot contain '/'", name));
  if (name == "." || name == "..") return xml_error(fmt::format("name '{}' is not allowed", name));
  if (name.size() > kLongest) return xml_error(fmt::format("name is longer than {} bytes", kLongest));
  for (char c : name)
    if (static_cast<unsigned char>(c) < 0x20) return xml_error("name cannot contain control characters");
  if (trim(name).empty()) return xml_error("name must contain at least one non-whitespace character");
  return {};
}

Result<std::string> name_child(const Element& element) {
  auto name = element.child_text("name");
  if (!name || name->empty()) return Error(Code::NoName, "<" + element.name() + ">", Part::Xml);
  TRY(check_name(*name));
  return *name;
}

Result<std::optional<u64>> optional_number(const Element& element, std::string_view attribute, u64 limit) {
  const std::string* text = element.find_attribute(attribute);
  if (!text) return std::optional<u64>();
  auto value = parse_u64(trim(*text));
  if (!value) return bad_attribute(element, attribute, *text, "Expected non-negative integer value.");
  if (*value > limit) return bad_attribute(element, attribute, *text, fmt::format("Expected at most {}.", limit));
  return std::optional<u64>(*value);
}

Result<u64> number(const Element& element, std::string_view attribute, u64 fallback, u64 limit) {
  auto value = TRY(optional_number(element, attribute, limit));
  return value.value_or(fallback);
}

Result<bool> yes_no(const Element& element, std::string_view attribute, bool fallback) {
  return two_words(element, attribute, fallback, "yes", "no");
}

Result<bool> on_off(const Element& element, std::string_view attribute, bool fallback) {
  return two_words(element, attribute, fallback, "on", "off");
}

Result<size_t> choice(const Element& element, std::string_view attribute, std::initializer_list<std::string_view> names,
                      size_t fallback) {
  const std::string* value = element.find_attribute(attribute);
  if (!value) return fallback;
  size_t index = 0;
  for (std::string_view name : names) {
    if (name == *value) return index;
    ++index;
  }
  return bad_attribute(element, attribute, *value, "");
}

Result<u64> scale(u64 number, std::string_view unit, std::string_view fallback) {
  if (unit.empty()) unit = fallback;
  if (iequals(unit, "b") || iequals(unit, "byte") || iequals(unit, "bytes")) return number;
  constexpr std::string_view kPrefixes = "kmgtpe";
  size_t power = unit.empty() ? std::string_view::npos : kPrefixes.find(static_cast<char>(unit[0] | 0x20));
  std::string_view rest = unit.empty() ? unit : unit.substr(1);
  bool binary = rest.empty() || iequals(rest, "ib");
  if (power == std::string_view::npos || (!binary && !iequals(rest, "b")))
    return xml_error(fmt::format("unknown suffix '{}'", unit));
  for (size_t i = 0; i <= power; ++i)
    if (__builtin_mul_overflow(number, binary ? u64{1024} : u64{1000}, &number))
      return xml_error(fmt::format("value too large with unit '{}'", unit));
  return number;
}

Result<u64> size_text(const Element& element, std::string_view fallback_unit) {
  std::string text = element.text();
  auto value = parse_u64(trim(text));
  if (!value) return xml_error(fmt::format("Invalid value '{}' for element '{}'", text, element.name()));
  return scale(*value, element.attribute("unit"), fallback_unit);
}

Result<std::optional<u64>> size_child(const Element& element, std::string_view child, std::string_view fallback_unit) {
  const Element* found = element.child(child);
  if (!found) return std::optional<u64>();
  return std::optional<u64>(TRY(size_text(*found, fallback_unit)));
}

}  // namespace atl::manage::xml
